//! Which rows make the batches of an epoch: all of them once, in a new order each time, as many to a batch as its tokens
//! allow. A batch has at least one row, and the last of an epoch may be small.

use std::ops::Range;

use crate::rng::{Purpose, Rng};

/// The batches of a run, one after the other.
pub(super) struct Order {
    /// The tokens of each row.
    lengths: Vec<usize>,
    batch_tokens: usize,
    seed: u64,
    epoch: u32,
    rows: Vec<usize>,
    at: usize,
}

impl Order {
    /// An order over rows of these lengths.
    pub(super) fn new(lengths: Vec<usize>, batch_tokens: usize, seed: u64) -> Order {
        let rows: Vec<usize> = (0..lengths.len()).collect();
        Order { at: rows.len(), lengths, batch_tokens, seed, epoch: 0, rows }
    }

    /// The next batch: numbers of rows.
    pub(super) fn next_batch(&mut self) -> &[usize] {
        if self.at >= self.rows.len() {
            // From file order each time: an epoch's order depends on its number alone.
            self.rows.sort_unstable();
            Rng::new(self.seed, Purpose::Shuffle(self.epoch)).shuffle(&mut self.rows);
            self.epoch += 1;
            self.at = 0;
        }
        let batch = self.at..self.at + fitting(&self.rows[self.at..], &self.lengths, self.batch_tokens);
        self.at = batch.end;
        &self.rows[batch]
    }

    /// Goes to where a new order is after `batches` batches; the tokens in them.
    pub(super) fn go_to(&mut self, batches: usize) -> usize {
        (0..batches)
            .map(|_| {
                let before = self.next_batch().len();
                let batch = self.at - before..self.at;
                self.rows[batch].iter().map(|&row| self.lengths[row]).sum::<usize>()
            })
            .sum()
    }
}

/// Consecutive rows in batches.
pub(super) fn consecutive(lengths: &[usize], batch_tokens: usize) -> Vec<Range<usize>> {
    let rows: Vec<usize> = (0..lengths.len()).collect();
    let (mut batches, mut at) = (Vec::new(), 0);
    while at < rows.len() {
        let end = at + fitting(&rows[at..], lengths, batch_tokens);
        batches.push(at..end);
        at = end;
    }
    batches
}

/// How many of the first rows fit into a batch: at least one.
fn fitting(rows: &[usize], lengths: &[usize], batch_tokens: usize) -> usize {
    let mut tokens = 0;
    let fits = |row: &&usize| {
        tokens += lengths[**row];
        tokens <= batch_tokens
    };
    rows.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 7] = [3, 5, 9, 2, 2, 4, 1];

    #[test]
    fn an_epoch_has_every_row_once_in_batches_that_fit() {
        let mut order = Order::new(LENGTHS.to_vec(), 8, 1);
        let mut epoch = || {
            let mut rows = Vec::new();
            while rows.len() < LENGTHS.len() {
                let batch = order.next_batch();
                let tokens: usize = batch.iter().map(|row| LENGTHS[*row]).sum();
                assert!(tokens <= 8 || batch == [2], "{batch:?}");
                rows.extend_from_slice(batch);
            }
            rows
        };
        let (mut first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..LENGTHS.len()).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_goes_on_after_any_number_of_batches() {
        for batches in 0..12 {
            let (mut order, mut resumed) = (Order::new(LENGTHS.to_vec(), 6, 5), Order::new(LENGTHS.to_vec(), 6, 5));
            let mut tokens = 0;
            for _ in 0..batches {
                tokens += order.next_batch().iter().map(|row| LENGTHS[*row]).sum::<usize>();
            }
            assert_eq!(resumed.go_to(batches), tokens);
            assert_eq!(order.next_batch(), resumed.next_batch(), "after {batches} batches");
        }
    }

    #[test]
    fn consecutive_rows_leave_none_out() {
        assert_eq!(consecutive(&LENGTHS, 8), [0..2, 2..3, 3..6, 6..7]);
        assert!(consecutive(&[], 8).is_empty());
    }
}
