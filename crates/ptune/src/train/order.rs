//! The order of the training rows.

use crate::rng::{Purpose, Rng};

/// The order of the training rows, epoch after epoch: batches of row numbers. The last batch of an epoch may be short.
pub struct Order {
    rows: Vec<usize>,
    batch_size: usize,
    /// `None`: file order.
    seed: Option<u64>,
    epoch: u32,
    at: usize,
}

impl Order {
    /// An order over `rows` rows, shuffled anew each epoch when there is a seed.
    pub fn new(rows: usize, batch_size: usize, seed: Option<u64>) -> Self {
        Order { rows: (0..rows).collect(), batch_size, seed, epoch: 0, at: rows }
    }

    /// Batches of an epoch.
    pub fn batches_per_epoch(rows: usize, batch_size: usize) -> usize {
        rows.div_ceil(batch_size)
    }

    /// Goes to where a new order is after `batches` batches.
    pub fn go_to(&mut self, batches: usize) {
        let a_epoch = Self::batches_per_epoch(self.rows.len(), self.batch_size).max(1);
        (self.epoch, self.at) = (u32::try_from(batches / a_epoch).unwrap_or(u32::MAX), self.rows.len());
        if !batches.is_multiple_of(a_epoch) {
            self.begin_epoch();
            self.at = batches % a_epoch * self.batch_size;
        }
    }

    /// The next batch's row numbers.
    pub fn next_batch(&mut self) -> &[usize] {
        if self.at >= self.rows.len() {
            self.begin_epoch();
        }
        let batch = self.at..self.rows.len().min(self.at + self.batch_size);
        self.at = batch.end;
        &self.rows[batch]
    }

    fn begin_epoch(&mut self) {
        if let Some(seed) = self.seed {
            // From file order each time: an epoch's order depends on its number alone.
            self.rows.sort_unstable();
            Rng::new(seed, Purpose::Shuffle(self.epoch)).shuffle(&mut self.rows);
        }
        self.epoch += 1;
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_shows_every_row_once_and_the_next_in_another_order() {
        let mut order = Order::new(10, 4, Some(0));
        let mut epoch = || (0..3).flat_map(|_| order.next_batch().to_vec()).collect::<Vec<_>>();
        let (mut first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_goes_on_after_any_number_of_batches() {
        for seed in [None, Some(5)] {
            for batches in 0..10 {
                let (mut order, mut resumed) = (Order::new(10, 4, seed), Order::new(10, 4, seed));
                resumed.go_to(batches);
                (0..batches).for_each(|_| drop(order.next_batch().to_vec()));
                for _ in 0..7 {
                    assert_eq!(order.next_batch(), resumed.next_batch(), "after {batches} batches");
                }
            }
        }
    }

    #[test]
    fn without_a_seed_rows_come_in_file_order() {
        let mut order = Order::new(5, 2, None);
        assert_eq!(order.next_batch(), [0, 1]);
        assert_eq!(order.next_batch(), [2, 3]);
        assert_eq!(order.next_batch(), [4]);
        assert_eq!(order.next_batch(), [0, 1]);
    }
}
