//! Several batches as one, and what belongs to each taken apart again.
//!
//! The rows of a batch do not depend on one another, so batches of several prompts go through a model as one: row under
//! row, each with its own prompt rows. One batch alone is moved through, not copied.

use std::ops::Range;

use super::{Dropout, Layout};
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// A rectangle of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
}

impl Part {
    /// Parts of whole rows, one under the other: `counts` are their rows.
    pub(crate) fn stacked(counts: impl IntoIterator<Item = usize>, columns: usize) -> Vec<Part> {
        let mut end = 0;
        let part = |count: usize| {
            end += count;
            Part { rows: end - count..end, columns: 0..columns }
        };
        counts.into_iter().map(part).collect()
    }

    fn is_all_of(&self, rows: usize, columns: usize) -> bool {
        *self == Part { rows: 0..rows, columns: 0..columns }
    }
}

impl Layout {
    /// Batches behind one another, each with the numbers of its prompt's rows and of its prefix's: both stand below one
    /// another too. Panics where one drops numbers and another does not, or not the same share.
    pub fn join(batches: impl IntoIterator<Item = (Layout, [usize; 2])>) -> Layout {
        let mut batches = batches.into_iter();
        let Some((mut all, [mut prompt_rows, mut prefix_rows])) = batches.next() else { return Layout::default() };
        for (batch, [its_prompt_rows, its_prefix_rows]) in batches {
            all.append(batch, prompt_rows, prefix_rows);
            prompt_rows += its_prompt_rows;
            prefix_rows += its_prefix_rows;
        }
        all
    }

    fn append(&mut self, batch: Layout, first_prompt_row: usize, first_prefix_row: usize) {
        let (first_row, first_span) = (self.rows(), self.spans.len());
        let (rows, prompt_rows) = (first_row as u32, first_prompt_row as u32);
        self.ids.extend(batch.ids);
        self.positions.extend(batch.positions);
        self.pseudo.extend(batch.pseudo.into_iter().map(|(row, prompt_row)| (row + rows, prompt_row + prompt_rows)));
        self.targets.extend(batch.targets.into_iter().map(|row| row + rows));
        for mut span in batch.spans {
            span.rows = span.rows.start + first_row..span.rows.end + first_row;
            span.end += first_row;
            if !span.past.is_empty() {
                span.past = span.past.start + first_prefix_row..span.past.end + first_prefix_row;
            }
            span.parent = span.parent.map(|parent| parent + first_span);
            self.spans.push(span);
        }
        match (&mut self.dropout, batch.dropout) {
            (None, None) => {}
            (Some(Dropout { probability, span_keys }), Some(batch)) if *probability == batch.probability => {
                span_keys.extend(batch.span_keys);
            }
            _ => panic!("batches that go through the model together drop the same share"),
        }
    }
}

impl Device {
    /// These parts of `x`.
    pub(crate) fn split(&self, x: Tensor, parts: &[Part]) -> Vec<Tensor> {
        if let [part] = parts
            && part.is_all_of(x.rows(), x.columns())
        {
            return vec![x];
        }
        let _doing = self.doing(Operation::Rows);
        let copy = |part: &Part| {
            let mut y = self.uninitialised(part.rows.len(), part.columns.len());
            for (row, y) in part.rows.clone().zip(y.data_mut().chunks_exact_mut(part.columns.len().max(1))) {
                y.copy_from_slice(&x.data()[row * x.columns()..][part.columns.clone()]);
            }
            y
        };
        parts.iter().map(copy).collect()
    }

    /// A matrix with each of `x` as its part, and zeros where none is: the backward of [`Device::split`].
    pub(crate) fn join(&self, mut x: Vec<Tensor>, parts: &[Part], rows: usize, columns: usize) -> Tensor {
        if let ([_], [part]) = (x.as_slice(), parts)
            && part.is_all_of(rows, columns)
        {
            return x.remove(0);
        }
        let _doing = self.doing(Operation::Rows);
        let mut y = self.zeros(rows, columns);
        for (x, part) in x.iter().zip(parts) {
            for (row, x) in part.rows.clone().zip(x.data().chunks_exact(part.columns.len().max(1))) {
                y.data_mut()[row * columns..][part.columns.clone()].copy_from_slice(x);
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use ptune_kernels::{Span, SpanKey};

    use super::*;

    #[test]
    fn joined_batches_point_into_their_own_rows() {
        let span = |rows: Range<usize>, parent, end| Span { rows, parent, end, past: 0..0 };
        let batch = |key| Layout {
            ids: vec![7, 0, 9],
            positions: vec![0, 1, 2],
            pseudo: vec![(1, 1)],
            spans: vec![span(0..2, None, 3), span(2..3, Some(0), 3)],
            targets: vec![2],
            dropout: Some(Dropout { probability: 0.1, span_keys: vec![SpanKey { seed: key, key }; 2] }),
        };
        let empty = Layout::default().with_dropout(0.1, 0, &[]);
        let all = Layout::join([(batch(1), [2, 0]), (empty, [4, 7]), (batch(2).behind(3), [2, 3])]);
        assert_eq!(all.ids, [7, 0, 9, 7, 0, 9]);
        assert_eq!(all.positions, [0, 1, 2, 3, 4, 5]);
        assert_eq!(all.pseudo, [(1, 1), (4, 7)]);
        assert_eq!(all.targets, [2, 5]);
        let behind = |span: Span| Span { past: 7..10, ..span };
        assert_eq!(all.spans[..2], batch(1).spans);
        assert_eq!(all.spans[2..], [behind(span(3..5, None, 6)), behind(span(5..6, Some(2), 6))]);
        let keys: Vec<u64> = all.dropout.unwrap().span_keys.iter().map(|key| key.seed).collect();
        assert_eq!(keys, [1, 1, 2, 2]);
    }

    #[test]
    #[should_panic(expected = "the same share")]
    fn batches_that_drop_another_share_are_not_joined() {
        Layout::join([(Layout::default(), [0; 2]), (Layout::default().with_dropout(0.1, 0, &[]), [0; 2])]);
    }

    #[test]
    fn parts_are_taken_out_and_put_back() {
        let device = Device::processor(Some(1));
        let numbers: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let x = || device.upload(3, 5, &numbers);
        let parts = [Part { rows: 0..1, columns: 3..5 }, Part { rows: 1..3, columns: 0..2 }];
        let taken = device.split(x(), &parts);
        assert_eq!(taken[0].read(), [3.0, 4.0]);
        assert_eq!(taken[1].read(), [5.0, 6.0, 10.0, 11.0]);
        let back = device.join(taken, &parts, 3, 5);
        assert_eq!(back.read(), [0., 0., 0., 3., 4., 5., 6., 0., 0., 0., 10., 11., 0., 0., 0.]);
        // The whole, and rows without columns: a manual prompt has none.
        let whole = Part::stacked([3], 5);
        assert_eq!(device.join(device.split(x(), &whole), &whole, 3, 5).read(), numbers);
        let stacked = Part::stacked([1, 0, 2], 5);
        assert_eq!(device.split(x(), &stacked)[2].read(), &numbers[5..]);
    }
}
