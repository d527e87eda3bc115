//! How attention is cut into work items: by shapes only.
//!
//! A *source* is a span (or, for the gradients of keys, the past). Its units are a head and a block of queries or keys.
//! Large sources are split into items of whole units, small neighbours share one.

use std::ops::Range;

use super::{AttentionShape, Layout};

/// Queries of a unit: lanes of the forward.
pub(super) const QUERY_BLOCK: usize = 32;
/// Keys of a unit of d_k and d_v.
pub(super) const KEY_BLOCK: usize = 64;
/// Multiply-adds of one product that make an item: some 20 microseconds of the forward, 50 of the backward. Not more,
/// so that a batch of eight short texts still feeds four threads.
const ITEM: usize = 1 << 18;

/// Walks over the sources: `f(first item, items, source, units)` says that the units of the source are spread over
/// these items. Returns the number of items.
fn walk(
    sources: usize,
    measure: impl Fn(usize) -> (usize, usize),
    mut f: impl FnMut(usize, usize, usize, usize),
) -> usize {
    let (mut item, mut filled) = (0, 0);
    for source in 0..sources {
        let (units, cost) = measure(source);
        if units == 0 {
            continue;
        }
        if filled > 0 && filled + cost > ITEM {
            item += 1;
            filled = 0;
        }
        if cost > ITEM {
            let items = (cost / ITEM).min(units);
            f(item, items, source, units);
            item += items;
        } else {
            f(item, 1, source, units);
            filled += cost.max(1);
        }
    }
    item + usize::from(filled > 0)
}

/// Items of sources that `measure` describes as (units, multiply-adds).
pub(super) fn items(sources: usize, measure: impl Fn(usize) -> (usize, usize)) -> usize {
    walk(sources, measure, |_, _, _, _| ())
}

/// Calls `f(source, unit)` for every unit of an item.
pub(super) fn visit(
    item: usize,
    sources: usize,
    measure: impl Fn(usize) -> (usize, usize),
    mut f: impl FnMut(usize, usize),
) {
    walk(sources, measure, |first, items, source, units| {
        if (first..first + items).contains(&item) {
            let part = item - first;
            (part * units / items..(part + 1) * units / items).for_each(|unit| f(source, unit));
        }
    });
}

/// Units and multiply-adds of the queries of a span.
pub(super) fn of_queries(layout: &Layout, shape: &AttentionShape, span: usize) -> (usize, usize) {
    let queries = layout.queries(layout.spans[span].rows.clone()).len();
    // A vector of queries costs the same when it is not full.
    let cost = queries.next_multiple_of(16) * layout.keys(span) * shape.head_dim;
    (queries.div_ceil(QUERY_BLOCK) * shape.heads, cost * shape.heads)
}

/// The head and the queries of a unit.
pub(super) fn queries_of(layout: &Layout, span: usize, unit: usize) -> (usize, Range<usize>) {
    let queries = layout.queries(layout.spans[span].rows.clone());
    let blocks = queries.len().div_ceil(QUERY_BLOCK);
    let (head, block) = (unit / blocks, unit % blocks);
    let start = queries.start + block * QUERY_BLOCK;
    (head, start..queries.end.min(start + QUERY_BLOCK))
}

/// Units and multiply-adds of the keys of a span, or of `past` rows of the past (the owner after the last span).
pub(super) fn of_keys(layout: &Layout, shape: &AttentionShape, owner: usize, past: usize) -> (usize, usize) {
    let (keys, pairs) = match layout.spans.get(owner) {
        Some(span) => (span.rows.len(), span.rows.len() * layout.queries(span.rows.start..span.end).len()),
        None if past == 0 => (0, 0),
        None => (past, layout.spans.iter().map(|s| s.past.len() * layout.queries(s.rows.clone()).len()).sum()),
    };
    (keys.div_ceil(KEY_BLOCK) * shape.kv_heads, pairs * shape.head_dim * shape.heads)
}

/// The key head and the keys (rows of the batch or of the past) of a unit.
pub(super) fn keys_of(layout: &Layout, owner: usize, past: usize, unit: usize) -> (usize, Range<usize>) {
    let keys = layout.spans.get(owner).map_or(0..past, |span| span.rows.clone());
    let blocks = keys.len().div_ceil(KEY_BLOCK);
    let (head, block) = (unit / blocks, unit % blocks);
    let start = keys.start + block * KEY_BLOCK;
    (head, start..keys.end.min(start + KEY_BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_exactly_one_item() {
        let costs = [0, 5, ITEM / 2, ITEM / 2, ITEM, ITEM + 1, 7 * ITEM, 3, 300 * ITEM, 1];
        let measure = |source: usize| (source * 3 % 11, costs[source]);
        let items = items(costs.len(), measure);
        let mut seen = vec![];
        for item in 0..items {
            let before = seen.len();
            visit(item, costs.len(), measure, |source, unit| seen.push((source, unit)));
            assert!(seen.len() > before, "item {item} is empty");
        }
        let all: Vec<_> = (0..costs.len()).flat_map(|s| (0..measure(s).0).map(move |unit| (s, unit))).collect();
        assert_eq!(seen, all);
    }
}
