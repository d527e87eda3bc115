//! Which token is next. Drawing is: scores over the temperature, of them the `top_k` largest, of these as few of the largest
//! as have a probability of `top_p` together, and of those one by its probability (the order of transformers). In f64, the
//! tokens in their own order; of equal scores the smaller token counts as the larger score.
//!
//! Nothing is sorted but a few tokens: the weight of the largest scores is added up in intervals of scores, from the top, and
//! only the interval in which the share becomes full is put in order. A flat distribution over a whole vocabulary, of which
//! nearly all tokens may be drawn, takes no longer than a steep one.

use std::cmp::Ordering;

use crate::rng::Rng;

/// Intervals of scores.
const INTERVALS: usize = 2048;
/// In temperatures: `exp(-40)` of the largest weight is below what an f64 adds to it.
const LOWEST: f64 = 40.0;

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
        None => likeliest(scores),
    }
}

/// The token with the largest score, the first of equals.
pub(super) fn likeliest(scores: &[f32]) -> u32 {
    let larger = |best: usize, (token, score): (usize, &f32)| if *score > scores[best] { token } else { best };
    scores.iter().enumerate().fold(0, larger) as u32
}

/// A token and its weight, `exp((score - largest score) / temperature)`.
type Weighted = (u32, f64);

impl Sampling {
    fn draw(&self, scores: &[f32], stream: &mut Rng) -> u32 {
        let tokens = self.candidates(scores);
        // In 0..1, with all bits that an f64 has for it.
        let share = (stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = share * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
        let drawn = tokens.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a rest behind the last.
        drawn.or(tokens.last()).map_or(0, |(token, _)| *token)
    }

    /// The tokens that may be drawn, ascending.
    fn candidates(&self, scores: &[f32]) -> Vec<Weighted> {
        let mut tokens: Vec<u32> = (0..scores.len() as u32).collect();
        if let Some(most) = self.top_k.filter(|most| *most < tokens.len()) {
            tokens.select_nth_unstable_by(most, |a, b| order(scores, *a, *b));
            tokens.truncate(most);
            tokens.sort_unstable();
        }
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |token: u32| (f64::from(scores[token as usize] - largest) / self.temperature).exp();
        let weighted = tokens.into_iter().map(|token| (token, weight(token))).collect();
        match self.top_p.filter(|share| *share < 1.0) {
            Some(share) => self.largest(weighted, share, scores, largest),
            None => weighted,
        }
    }

    /// As few of the likeliest of these tokens as have a share of their weight together.
    fn largest(&self, mut tokens: Vec<Weighted>, share: f64, scores: &[f32], largest: f32) -> Vec<Weighted> {
        let wanted = share * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
        let scale = INTERVALS as f64 / (LOWEST * self.temperature);
        // Monotone: of two scores the larger one is never in the later interval.
        let interval = |token: u32| ((f64::from(largest - scores[token as usize]) * scale) as usize).min(INTERVALS - 1);
        let mut sums = [0.0; INTERVALS];
        tokens.iter().for_each(|(token, weight)| sums[interval(*token)] += weight);
        let mut above = 0.0;
        let full = sums.iter().position(|sum| {
            let is_full = above + sum >= wanted;
            above += if is_full { 0.0 } else { *sum };
            is_full
        });
        let Some(full) = full else { return tokens }; // rounding: all of them are wanted
        let mut last: Vec<Weighted> = tokens.iter().copied().filter(|(token, _)| interval(*token) == full).collect();
        last.sort_unstable_by(|(a, _), (b, _)| order(scores, *a, *b));
        let end = last.iter().position(|(_, weight)| {
            above += weight;
            above >= wanted
        });
        // The smallest that may be drawn.
        let Some(&(least, _)) = end.map_or(last.last(), |end| last.get(end)) else { return tokens };
        tokens.retain(|(token, _)| order(scores, *token, least) != Ordering::Greater);
        tokens
    }
}

/// The larger score first, of equal ones the smaller token.
fn order(scores: &[f32], a: u32, b: u32) -> Ordering {
    scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b))
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
        let candidates = |top_k, top_p| tokens(&sampling(1.0, top_k, top_p), &[1.0, 2.0, 2.0, 2.0]);
        assert_eq!(candidates(Some(2), None), [1, 2]);
        assert_eq!(candidates(None, Some(0.5)), [1, 2]);
        let mut stream = Rng::new(0, Purpose::Sampling(0));
        assert_eq!(next(&[1.0, 2.0, 2.0], None, &mut stream), 1);
    }

    /// The tokens that may be drawn.
    fn tokens(sampling: &Sampling, scores: &[f32]) -> Vec<u32> {
        sampling.candidates(scores).into_iter().map(|(token, _)| token).collect()
    }

    /// Those that a sort of the whole vocabulary and a sum from the top would give: flat and steep distributions, ties, and
    /// scores that are cut off far below.
    #[test]
    fn the_share_is_that_of_a_whole_sort() {
        let spread = |width: f32| (0..5000).map(|i| (i * 7919 % 5003) as f32 / 5003.0 * width).collect::<Vec<f32>>();
        let mut cut = spread(1.0);
        cut.iter_mut().step_by(2).for_each(|score| *score = -1e30);
        let ties = (0..3000).map(|i| (i % 7) as f32 * 0.5).collect();
        for scores in [spread(0.5), spread(20.0), spread(2000.0), cut, ties, vec![1.0; 100], vec![3.0]] {
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (temperature, share) in
                [1.0, 0.3].into_iter().flat_map(|t| [1e-9, 0.05, 0.5, 0.97, 0.9999].map(|s| (t, s)))
            {
                let weight = |token: u32| (f64::from(scores[token as usize] - largest) / temperature).exp();
                let mut sorted: Vec<u32> = (0..scores.len() as u32).collect();
                sorted.sort_by(|a, b| order(&scores, *a, *b));
                let wanted = share * sorted.iter().map(|token| weight(*token)).sum::<f64>();
                let found = tokens(&sampling(temperature, None, Some(share)), &scores);
                assert!(found.is_sorted(), "{share}");
                let mut first = sorted[..found.len()].to_vec();
                let mass: f64 = first.iter().map(|token| weight(*token)).sum();
                let without_last = mass - weight(first[first.len() - 1]);
                assert!(mass > wanted * (1.0 - 1e-9) && without_last < wanted * (1.0 + 1e-9), "{share}");
                first.sort_unstable();
                assert_eq!(found, first, "{share}");
            }
        }
    }
}
