//! Which token is next. Drawing is: scores over the temperature, of them the `top_k` largest, of these as few of the largest
//! as have a probability of `top_p` together, and of those one by its probability (the order of transformers). In f64 and in
//! a fixed order; of equal scores the smaller token comes first.

use crate::rng::Rng;
use crate::train::metrics::argmax;

/// Tokens that are put in order at first, where it is not known how many will be needed.
const FIRST_SORTED: usize = 256;

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Above 0: small ones keep to the likeliest tokens.
    pub temperature: f64,
    /// Only so many of the likeliest tokens, at least 1; `None` for all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens, as many as have this probability together; above 0, and `None` for all.
    pub top_p: Option<f64>,
    /// Where the random numbers come from.
    pub seed: u64,
}

/// The token that follows; `scores` are finite, one a token.
pub(super) fn next(scores: &[f32], sampling: Option<&Sampling>, stream: &mut Rng) -> u32 {
    match sampling {
        Some(sampling) => sampling.draw(scores, stream),
        None => argmax(scores) as u32,
    }
}

impl Sampling {
    fn draw(&self, scores: &[f32], stream: &mut Rng) -> u32 {
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |token: u32| (f64::from(scores[token as usize] - largest) / self.temperature).exp();
        let tokens = self.candidates(scores, &weight);
        // In 0..1, with all bits that an f64 has for it.
        let share = (stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = share * tokens.iter().map(|token| weight(*token)).sum::<f64>();
        let drawn = tokens.iter().find(|token| {
            left -= weight(**token);
            left < 0.0
        });
        // Rounding may leave a rest behind the last.
        drawn.or(tokens.last()).copied().unwrap_or_default()
    }

    /// The tokens that may be drawn, in a fixed order.
    fn candidates(&self, scores: &[f32], weight: &impl Fn(u32) -> f64) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..scores.len() as u32).collect();
        if let Some(most) = self.top_k {
            sort_largest(&mut tokens, most, scores);
            tokens.truncate(most);
        }
        let Some(share) = self.top_p.filter(|share| *share < 1.0) else { return tokens };
        let wanted = share * tokens.iter().map(|token| weight(*token)).sum::<f64>();
        let mut sorted = FIRST_SORTED;
        loop {
            sort_largest(&mut tokens, sorted, scores);
            let mut sum = 0.0;
            let enough = tokens.iter().take(sorted).position(|token| {
                sum += weight(*token);
                sum >= wanted
            });
            match enough {
                Some(last) => tokens.truncate(last + 1),
                None if sorted < tokens.len() => {
                    sorted *= 8;
                    continue;
                }
                None => {}
            }
            return tokens;
        }
    }
}

/// Brings the `most` tokens with the largest scores to the front, in order.
fn sort_largest(tokens: &mut [u32], most: usize, scores: &[f32]) {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if most < tokens.len() {
        tokens.select_nth_unstable_by(most, order);
    }
    let most = most.min(tokens.len());
    tokens[..most].sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn sampling(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Sampling {
        Sampling { temperature, top_k, top_p, seed: 0 }
    }

    /// How often each token is drawn in 40,000.
    fn shares(scores: &[f32], sampling: &Sampling) -> Vec<f64> {
        let mut stream = Rng::new(sampling.seed, Purpose::Sampling(0));
        let mut counts = vec![0.0; scores.len()];
        (0..40_000).for_each(|_| counts[sampling.draw(scores, &mut stream) as usize] += 1.0 / 40_000.0);
        counts
    }

    fn assert_shares(scores: &[f32], sampling: &Sampling, want: &[f64]) {
        let found = shares(scores, sampling);
        // Five deviations of a share of a half are 0.0125.
        let close = found.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.0125 && (*b > 0.0 || *a == 0.0));
        assert!(close, "{sampling:?}: {found:?}, not {want:?}");
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let scores = [0.1_f32, 0.4, 0.2, 0.3].map(f32::ln);
        assert_shares(&scores, &sampling(1.0, None, None), &[0.1, 0.4, 0.2, 0.3]);
        // Probabilities to the power of 1 / temperature.
        assert_shares(&scores, &sampling(0.5, None, None), &[1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0]);
        assert_shares(&scores, &sampling(1.0, Some(2), None), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(&scores, &sampling(1.0, None, Some(0.71)), &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        // The share is of the two that top_k leaves: the first has 4/7 of it.
        assert_shares(&scores, &sampling(1.0, Some(2), Some(0.57)), &[0.0, 1.0, 0.0, 0.0]);
        assert_shares(&scores, &sampling(1.0, Some(9), Some(1.0)), &[0.1, 0.4, 0.2, 0.3]);
        assert_shares(&scores, &sampling(1e-6, None, None), &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn of_equal_scores_the_smaller_token_comes_first() {
        let candidates = |top_k, top_p| sampling(1.0, top_k, top_p).candidates(&[1.0, 2.0, 2.0, 2.0], &|_| 1.0);
        assert_eq!(candidates(Some(2), None), [1, 2]);
        assert_eq!(candidates(None, Some(0.3)), [1, 2]);
        let mut stream = Rng::new(0, Purpose::Sampling(0));
        assert_eq!(next(&[1.0, 2.0, 2.0], None, &mut stream), 1);
    }

    /// However many must be sorted until the share is full, they are those of a whole sort.
    #[test]
    fn a_large_vocabulary_is_sorted_as_far_as_it_must_be() {
        let scores: Vec<f32> = (0..5000).map(|i| (i * 7919 % 5003) as f32 * 1e-4).collect();
        let weight = |token: u32| f64::from(scores[token as usize]).exp();
        let mut sorted: Vec<u32> = (0..5000).collect();
        sort_largest(&mut sorted, 5000, &scores);
        assert!(sorted.is_sorted_by(|a, b| scores[*a as usize] > scores[*b as usize]));
        let all: f64 = sorted.iter().map(|token| weight(*token)).sum();
        for share in [1e-9, 0.05, 0.5, 0.97, 0.9999] {
            let found = sampling(1.0, None, Some(share)).candidates(&scores, &weight);
            let mass: f64 = found.iter().map(|token| weight(*token)).sum();
            assert!(mass >= share * all && mass - weight(found[found.len() - 1]) < share * all, "{share}");
            assert_eq!(found, sorted[..found.len()], "{share}");
        }
    }
}
