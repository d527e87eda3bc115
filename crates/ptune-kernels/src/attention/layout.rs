//! Who sees whom: the spans as trees, the keys of a span in order, and which queries a range of rows has.

use std::ops::Range;

use super::Layout;

/// Keys that stand next to each other, as a span sees them.
pub(super) struct Segment {
    pub(super) kind: Kind,
    /// Rows of the batch, or of the past.
    pub(super) keys: Range<usize>,
    /// The ordinal of the first.
    pub(super) ordinal: usize,
}

/// Where the keys of a segment come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Past,
    Ancestor,
    Own,
}

impl Layout<'_> {
    /// The queries (indices into `query_rows`) of a range of rows.
    pub(super) fn queries(&self, rows: Range<usize>) -> Range<usize> {
        if self.query_rows.len() == self.positions.len() {
            return rows; // Every row has one.
        }
        let before = |row| self.query_rows.partition_point(|r| (*r as usize) < row);
        before(rows.start)..before(rows.end)
    }

    /// Rows of the ancestors of a span.
    pub(super) fn keys_before(&self, span: usize) -> usize {
        let parents = std::iter::successors(self.spans[span].parent, |span| self.spans[*span].parent);
        parents.map(|span| self.spans[span].rows.len()).sum()
    }

    /// Keys that a span sees at most: past, ancestors, own.
    pub(super) fn keys(&self, span: usize) -> usize {
        self.keys_up_to(span, self.spans[span].rows.end)
    }

    /// The same, with those of its own rows up to `end`.
    pub(super) fn keys_up_to(&self, span: usize, end: usize) -> usize {
        self.spans[span].past.len() + self.keys_before(span) + end - self.spans[span].rows.start
    }

    /// The keys of a span in order, those of its own rows up to `end`.
    pub(super) fn segments(&self, span: usize, end: usize) -> impl Iterator<Item = Segment> {
        let depth = std::iter::successors(self.spans[span].parent, |span| self.spans[*span].parent).count();
        let past = self.spans[span].past.clone();
        let mut ordinal = past.len();
        let rows = (0..=depth).rev().map(move |up| {
            let of = (0..up).fold(span, |span, _| self.spans[span].parent.unwrap_or(span));
            let rows = self.spans[of].rows.clone();
            let (kind, keys) = if up > 0 { (Kind::Ancestor, rows) } else { (Kind::Own, rows.start..end) };
            ordinal += keys.len();
            Segment { kind, ordinal: ordinal - keys.len(), keys }
        });
        std::iter::once(Segment { kind: Kind::Past, keys: past, ordinal: 0 }).chain(rows)
    }

    /// Panics unless the spans cover all rows, form trees in depth-first order (only causal ones have parents), and
    /// see only past rows that exist; and unless the query rows ascend.
    pub(super) fn check(&self, causal: bool, past: usize) {
        let mut row = 0;
        for (i, span) in self.spans.iter().enumerate() {
            assert_eq!(span.rows.start, row, "span {i} starts where the one before it ends");
            assert!(span.rows.end >= row && span.end >= span.rows.end && span.past.end <= past, "span {i}");
            row = span.rows.end;
            // The parent is the innermost earlier span that has not ended.
            let mut open = i.checked_sub(1);
            while let Some(candidate) = open.filter(|c| self.spans[*c].end <= span.rows.start) {
                open = self.spans[candidate].parent;
            }
            assert_eq!(span.parent, open, "the parent of span {i}");
            assert!(open.is_none_or(|p| causal && span.end <= self.spans[p].end), "span {i} and its parent");
        }
        assert_eq!(row, self.positions.len(), "the spans cover all rows");
        assert!(self.spans.iter().all(|span| span.end <= row));
        assert!(self.query_rows.is_sorted_by(|a, b| a < b), "query rows ascend");
        assert!(self.query_rows.last().is_none_or(|last| (*last as usize) < row));
    }
}
