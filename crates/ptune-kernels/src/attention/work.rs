//! How attention is cut into work items: by shapes only.
//!
//! A *source* is a span (forward) or a group of spans (backward). Its units are a key head and, in the forward, some
//! blocks of queries. Large sources are split into items of whole units, small neighbours share one.

use std::ops::Range;

use super::group::{Group, groups};
use super::{AttentionShape, Layout};

/// Queries of a block: lanes of scores.
pub(super) const QUERY_BLOCK: usize = 32;
/// Queries of a unit of the forward, so that a long text feeds many threads and keys are copied once for several
/// blocks.
const UNIT_QUERIES: usize = 4 * QUERY_BLOCK;
/// Multiply-adds of one product that make an item: some 20 microseconds of the forward, 50 of the backward. Not more,
/// so that a batch of eight short texts still feeds four threads.
const ITEM: usize = 1 << 18;

/// Something with a number of units, and the multiply-adds of one product over all of them.
pub(super) struct Source<T> {
    what: T,
    units: usize,
    cost: usize,
}

/// Walks over the sources: `f(first item, items, source)` says that the units of the source are spread over these items.
/// Returns the number of items.
fn walk<T>(sources: impl Iterator<Item = Source<T>>, mut f: impl FnMut(usize, usize, Source<T>)) -> usize {
    let (mut item, mut filled) = (0, 0);
    for source in sources.filter(|source| source.units > 0) {
        let cost = source.cost;
        if filled > 0 && filled + cost > ITEM {
            item += 1;
            filled = 0;
        }
        if cost > ITEM {
            let items = (cost / ITEM).min(source.units);
            f(item, items, source);
            item += items;
        } else {
            f(item, 1, source);
            filled += cost.max(1);
        }
    }
    item + usize::from(filled > 0)
}

/// Items of these sources.
pub(super) fn items<T>(sources: impl Iterator<Item = Source<T>>) -> usize {
    walk(sources, |_, _, _| ())
}

/// Calls `f(source, unit)` for every unit of an item.
pub(super) fn visit<T>(item: usize, sources: impl Iterator<Item = Source<T>>, mut f: impl FnMut(&T, usize)) {
    walk(sources, |first, items, Source { what, units, .. }| {
        if (first..first + items).contains(&item) {
            let part = item - first;
            (part * units / items..(part + 1) * units / items).for_each(|unit| f(&what, unit));
        }
    });
}

/// The spans and their queries, for the forward.
pub(super) fn of_spans(layout: &Layout, shape: &AttentionShape) -> impl Iterator<Item = Source<usize>> {
    (0..layout.spans.len()).map(|span| {
        let queries = layout.queries(layout.spans[span].rows.clone()).len();
        Source { what: span, units: queries.div_ceil(UNIT_QUERIES) * shape.kv_heads, cost: cost(layout, shape, span) }
    })
}

/// The groups, for the backward.
pub(super) fn of_groups(
    layout: &Layout,
    shape: &AttentionShape,
    past_gradient: bool,
) -> impl Iterator<Item = Source<Group>> {
    groups(layout, past_gradient).map(|group| {
        let cost = group.spans.clone().map(|span| cost(layout, shape, span)).sum();
        Source { what: group, units: shape.kv_heads, cost }
    })
}

fn cost(layout: &Layout, shape: &AttentionShape, span: usize) -> usize {
    let queries = layout.queries(layout.spans[span].rows.clone()).len();
    // A vector of queries costs the same when it is not full.
    queries.next_multiple_of(16) * layout.keys(span) * shape.head_dim * shape.heads
}

/// The key head and the queries of a unit of the forward.
pub(super) fn queries_of(layout: &Layout, span: usize, unit: usize) -> (usize, Range<usize>) {
    let queries = layout.queries(layout.spans[span].rows.clone());
    let parts = queries.len().div_ceil(UNIT_QUERIES);
    let start = queries.start + unit % parts * UNIT_QUERIES;
    (unit / parts, start..queries.end.min(start + UNIT_QUERIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_exactly_one_item() {
        let costs = [0, 5, ITEM / 2, ITEM / 2, ITEM, ITEM + 1, 7 * ITEM, 3, 300 * ITEM, 1];
        let sources = || costs.iter().enumerate().map(|(i, cost)| Source { what: i, units: i * 3 % 11, cost: *cost });
        let items = items(sources());
        let mut seen = vec![];
        for item in 0..items {
            let before = seen.len();
            visit(item, sources(), |source, unit| seen.push((*source, unit)));
            assert!(seen.len() > before, "item {item} is empty");
        }
        let all: Vec<_> = sources().flat_map(|s| (0..s.units).map(move |unit| (s.what, unit))).collect();
        assert_eq!(seen, all);
    }
}
