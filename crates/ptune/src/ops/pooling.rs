//! The mean of each example's rows: `y_e = 1 / n_e * sum of its n_e rows`, for a classifier that reads no single one. Plain
//! loops: it runs once a step over what one block computes in a moment.

use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

impl Device {
    /// `x [sum of groups, columns]`, the rows of each group one behind the other -> means `[groups, columns]`.
    pub(crate) fn mean_rows(&self, x: &Tensor, groups: &[usize]) -> Tensor {
        assert_eq!(x.rows(), groups.iter().sum::<usize>(), "every row belongs to a group");
        let _doing = self.doing(Operation::Rows);
        let (columns, mut y) = (x.columns(), self.zeros(groups.len(), x.columns()));
        let mut rows = x.read().chunks_exact(columns);
        for (y, &count) in y.data_mut().chunks_exact_mut(columns).zip(groups) {
            for row in rows.by_ref().take(count) {
                y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y /= count as f32);
        }
        y
    }

    /// `d_means [groups, columns] -> d_x`: each row gets its share.
    pub(crate) fn mean_rows_backward(&self, d_means: &Tensor, groups: &[usize]) -> Tensor {
        let _doing = self.doing(Operation::Rows);
        let columns = d_means.columns();
        let mut d_x = self.zeros(groups.iter().sum(), columns);
        let mut rows = d_x.data_mut().chunks_exact_mut(columns);
        for (d_mean, &count) in d_means.read().chunks_exact(columns).zip(groups) {
            for row in rows.by_ref().take(count) {
                row.iter_mut().zip(d_mean).for_each(|(row, d)| *row = d / count as f32);
            }
        }
        d_x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_its_mean_and_its_rows_share_the_gradient() {
        let device = Device::processor(Some(1));
        let x = device.upload(4, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 7.0, 8.0]);
        let y = device.mean_rows(&x, &[1, 3]);
        assert_eq!(y.read(), [1.0, 2.0, 5.0, 7.0]);
        let d_x = device.mean_rows_backward(&device.upload(2, 2, &[1.0, -1.0, 3.0, 6.0]), &[1, 3]);
        assert_eq!(d_x.read(), [1.0, -1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }
}
