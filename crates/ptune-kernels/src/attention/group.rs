//! What one unit of the backward covers: a tree of spans or, where a tree has many queries, some branches of its root.
//!
//! A unit sums up the gradients of the keys that its queries see. Keys that several units see, of the root of a divided
//! tree or of the past, are *shared*: each unit writes its sum to memory that all threads see, and when all are done the
//! sums are added in the order of the groups. Where a tree is divided follows from the tree alone; all that the root's
//! gradients depend on are rows that see it.
#![allow(unsafe_code)] // Each unit and each key head writes its own part of the outputs.

use std::ops::Range;

use super::backward::Gradients;
use super::block::take;
use super::layout::{Kind, Segment};
use super::{Layout, Problem};
use crate::context::Disjoint;

/// Queries of a group before another branch starts the next one: enough that writing and adding up the sums of shared
/// keys costs little beside the products.
const GROUP_QUERIES: usize = 64;

/// Spans that one unit walks over.
pub(super) struct Group {
    pub(super) spans: Range<usize>,
    /// Past rows that it sees, when their gradient is asked for.
    past: Range<usize>,
    /// The rows of the root of a divided tree.
    root: Range<usize>,
    /// Its other rows.
    own: Range<usize>,
    /// Shared keys of the groups before it.
    shared_before: usize,
}

/// The groups of a batch, in order.
pub(super) fn groups<'a>(layout: &Layout<'a>, past_gradient: bool) -> impl Iterator<Item = Group> + Clone + use<'a> {
    let (layout, spans) = (*layout, layout.spans);
    let (mut first, mut root, mut shared_before) = (0, 0, 0);
    std::iter::from_fn(move || {
        let span = spans.get(first)?;
        if span.parent.is_none() {
            root = first;
        }
        let tree_goes_on = |end: usize| spans.get(end).is_some_and(|s| s.parent.is_some());
        let queries = |end: usize| layout.queries(span.rows.start..spans[end].rows.start).len();
        let mut end = first + 1;
        while tree_goes_on(end) && (spans[end].parent != Some(root) || queries(end) < GROUP_QUERIES) {
            end += 1;
        }
        let (members, rows) = (&spans[first..end], span.rows.start..spans[end - 1].rows.end);
        let divided = first != root || tree_goes_on(end);
        let group = Group {
            spans: first..end,
            past: if past_gradient { past_of(members) } else { 0..0 },
            root: if divided { spans[root].rows.clone() } else { 0..0 },
            own: if divided { rows.start.max(spans[root].rows.end)..rows.end } else { rows },
            shared_before,
        };
        shared_before += group.shared();
        first = end;
        Some(group)
    })
}

/// From the first to the last past row that one of the spans sees.
fn past_of(spans: &[super::Span]) -> Range<usize> {
    let seen = spans.iter().map(|s| s.past.clone()).filter(|past| !past.is_empty());
    seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

impl Group {
    fn shared(&self) -> usize {
        self.past.len() + self.root.len()
    }

    /// Keys whose gradients it sums up: shared ones, then its own.
    pub(super) fn keys(&self) -> usize {
        self.shared() + self.own.len()
    }

    /// Where the sums of a segment begin, in keys; `None` when nobody asks for them.
    pub(super) fn place(&self, segment: &Segment) -> Option<usize> {
        let start = segment.keys.start;
        match segment.kind {
            Kind::Past if self.past.is_empty() => None,
            Kind::Past => Some(start - self.past.start),
            _ if self.root.contains(&start) => Some(self.past.len() + start - self.root.start),
            _ => Some(self.shared() + start - self.own.start),
        }
    }

    /// Writes the sums of own keys to the gradients and those of shared keys to their part.
    pub(super) fn store(&self, problem: &Problem, to: &Gradients, sum_k: &[f32], sum_v: &[f32], key_head: usize) {
        let (shared, columns) = (self.shared(), problem.numbers.columns());
        let (shared_k, own_k) = sum_k.split_at(shared * columns);
        let (shared_v, own_v) = sum_v.split_at(shared * columns);
        store(problem, (&to.d_k, &to.d_v), self.own.clone(), own_k, own_v, key_head);
        let part = self.part(problem, key_head);
        // SAFETY: this unit alone writes this part, nobody reads it before all units are done.
        let part = unsafe { to.parts.slice(part) };
        let (part_k, part_v) = part.split_at_mut(shared * columns);
        part_k.copy_from_slice(shared_k);
        part_v.copy_from_slice(shared_v);
    }

    /// Where the sums of its shared keys stand, d_k before d_v.
    fn part(&self, problem: &Problem, key_head: usize) -> Range<usize> {
        let len = 2 * self.shared() * problem.numbers.columns();
        let start = 2 * self.shared_before * problem.numbers.columns() * problem.shape.kv_heads + key_head * len;
        start..start + len
    }
}

/// Numbers of the parts of all groups.
pub(super) fn parts_len(layout: &Layout, columns: usize, kv_heads: usize, past_gradient: bool) -> usize {
    2 * groups(layout, past_gradient).map(|group| group.shared()).sum::<usize>() * columns * kv_heads
}

/// The most keys that a group, a shared root or the past sums up.
pub(super) fn most_keys(layout: &Layout, past_gradient: bool) -> usize {
    let past = if past_gradient { layout.spans.iter().map(|s| s.past.end).max().unwrap_or(0) } else { 0 };
    groups(layout, past_gradient).map(|group| group.keys().max(past)).max().unwrap_or(past)
}

/// Adds up the parts of one key head: first of the roots of divided trees, then of the `past` rows.
pub(super) fn add_parts(
    problem: &Problem,
    to: &Gradients,
    d_past: Option<&(Disjoint, Disjoint)>,
    past: usize,
    key_head: usize,
    scratch: &mut [f32],
) {
    let all = || groups(&problem.layout, past > 0);
    let mut done = 0;
    for root in all().map(|group| group.root).filter(|root| !root.is_empty()) {
        if root.start < done {
            continue; // Another group of the same tree.
        }
        done = root.end;
        let of_root = all().filter(|group| group.root == root).map(|group| (group.past.len(), root.clone(), group));
        sum_up(problem, to, (&to.d_k, &to.d_v), root.clone(), of_root, key_head, scratch);
    }
    if let Some((d_k, d_v)) = d_past {
        let of_past = all().map(|group| (0, group.past.clone(), group));
        sum_up(problem, to, (d_k, d_v), 0..past, of_past, key_head, scratch);
    }
}

/// Writes the gradients of `rows`: the sums over groups, of which each has some of the rows from a place of its part on.
fn sum_up(
    problem: &Problem,
    to: &Gradients,
    (d_k, d_v): (&Disjoint, &Disjoint),
    rows: Range<usize>,
    groups: impl Iterator<Item = (usize, Range<usize>, Group)>,
    key_head: usize,
    mut scratch: &mut [f32],
) {
    let columns = problem.numbers.columns();
    let [sum_k, sum_v] = std::array::from_fn(|_| take(&mut scratch, rows.len() * columns));
    sum_k.fill(0.0);
    sum_v.fill(0.0);
    for (place, some, group) in groups {
        // SAFETY: all units are done; nobody writes the parts any more.
        let part = unsafe { to.parts.slice(group.part(problem, key_head)) };
        let (part_k, part_v) = part.split_at(part.len() / 2);
        for (sums, part) in [(&mut *sum_k, part_k), (&mut *sum_v, part_v)] {
            let sums = &mut sums[(some.start - rows.start.min(some.start)) * columns..];
            let part = &part[place * columns..][..some.len() * columns];
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
    }
    store(problem, (d_k, d_v), rows, sum_k, sum_v, key_head);
}

/// `d_k = scale sum_k` and `d_v = sum_v` of these rows and one key head.
fn store(
    problem: &Problem,
    (d_k, d_v): (&Disjoint, &Disjoint),
    rows: Range<usize>,
    sum_k: &[f32],
    sum_v: &[f32],
    key_head: usize,
) {
    let (numbers, row, n) = (problem.numbers, problem.key_row(), rows.len());
    let first = rows.start * row + problem.place(key_head);
    numbers.store_rows(d_k, first, row, sum_k, n, &|_| problem.shape.scale);
    numbers.store_rows(d_v, first, row, sum_v, n, &|_| 1.0);
}
