//! What a trained prompt row resembles: the words of the embedding table with the largest cosine.
//!
//! `cosine(a, b) = a·b / (|a| |b|)`. A pseudo token's row need not be near any word, and a low cosine says so; the
//! words are a hint for people and decide nothing.

/// A word and its cosine with a prompt row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The token id.
    pub token: u32,
    /// From -1 to 1.
    pub cosine: f64,
}

/// For each row of `prompt [rows, width]` the `count` entries of `table [vocabulary, width]` with the largest cosine,
/// the largest first; of equal ones the lower id. Entries and rows of length 0 have no direction: they are nobody's
/// neighbour and have none.
///
/// Panics when the sizes do not fit `width`.
pub fn nearest(table: &[f32], prompt: &[f32], width: usize, count: usize) -> Vec<Vec<Neighbour>> {
    assert!(width > 0 && table.len().is_multiple_of(width) && prompt.len().is_multiple_of(width));
    let lengths: Vec<f64> = table.chunks_exact(width).map(length).collect();
    let neighbours = |row: &[f32]| {
        let own = length(row);
        let mut found: Vec<Neighbour> = Vec::with_capacity(count + 1);
        for ((token, word), &length) in (0..).zip(table.chunks_exact(width)).zip(&lengths) {
            let cosine = dot(row, word) / (own * length);
            let place = found.partition_point(|better| better.cosine >= cosine);
            // A cosine that is not a number (a length of 0) is never larger.
            if cosine.is_finite() && place < count {
                found.insert(place, Neighbour { token, cosine });
                found.truncate(count);
            }
        }
        found
    };
    prompt.chunks_exact(width).map(neighbours).collect()
}

/// The mean length of the entries of `table [vocabulary, width]`; 0 for none.
pub fn mean_length(table: &[f32], width: usize) -> f64 {
    let words = (table.len() / width).max(1);
    table.chunks_exact(width).map(length).sum::<f64>() / words as f64
}

/// The Euclidean length of a vector.
pub fn length(row: &[f32]) -> f64 {
    dot(row, row).sqrt()
}

/// In f64, eight sums at a time so that the compiler can use vectors.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (a_whole, a_rest) = a.as_chunks::<8>();
    let (b_whole, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for i in 0..8 {
            sums[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five words in the plane: east, north-east (twice, of different length), north, nothing.
    const TABLE: [f32; 10] = [2.0, 0.0, 1.0, 1.0, 2.0, 2.0, 0.0, 0.5, 0.0, 0.0];

    #[test]
    fn direction_counts_and_length_does_not() {
        let found = nearest(&TABLE, &[0.1, 0.1, 0.0, -7.0], 2, 3);
        let tokens = |row: usize| found[row].iter().map(|n| n.token).collect::<Vec<_>>();
        assert_eq!(tokens(0), [1, 2, 0], "equal cosines in the order of their ids");
        assert!((found[0][0].cosine - 1.0).abs() < 1e-12 && (found[0][2].cosine - 0.5f64.sqrt()).abs() < 1e-12);
        // South: east is at a right angle, everything else behind.
        assert_eq!(found[1][0], Neighbour { token: 0, cosine: 0.0 });
        assert!((found[1][2].cosine + 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_row_of_zeros_has_no_neighbours_and_is_none() {
        assert_eq!(nearest(&TABLE, &[0.0, 0.0], 2, 3), [vec![]]);
        assert_eq!(nearest(&TABLE, &[1.0, 0.0], 2, 9)[0].len(), 4);
        assert_eq!(nearest(&TABLE, &[], 2, 3), Vec::<Vec<Neighbour>>::new());
    }

    #[test]
    fn widths_that_are_no_multiple_of_eight_lose_nothing() {
        let row: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(length(&row), (0..19).map(|i| f64::from(i * i)).sum::<f64>().sqrt());
        assert_eq!(mean_length(&[3.0, 4.0, 0.0, 0.0], 2), 2.5);
    }
}
