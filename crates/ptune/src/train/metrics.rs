//! Metrics of evaluation, by their names in the command contract.
//!
//! | name | meaning |
//! |---|---|
//! | `accuracy` | share of rows whose predicted label is the gold label |
//! | `macro_f1` | unweighted mean over labels of `2 tp / (2 tp + fp + fn)` |
//! | `p_at_1`, `p_at_10` | share of rows whose gold answer has rank 1, at most 10 |
//! | `mrr` | mean of `1 / rank` |
//! | `exact_match` | share of rows whose answer, as a text, a model writes and ends that always takes the likeliest token |
//! | `perplexity` | `exp(loss)` |
//! | `loss` | mean, over the tokens of all answers and their ends, of `-log p(token)` |
//! | `majority` | share of the most frequent gold label or answer among the rows: the score of always saying that |
//!
//! `macro_f1` averages over the labels that occur among gold or predicted, as scikit-learn's
//! `f1_score(average="macro")` does: a label that occurs in neither says nothing about the model. A label with gold rows
//! and no hit counts 0.
//!
//! The rank of a gold answer counts every other candidate that scores at least as high, so a tie counts against the
//! model, and a score that is not a number never helps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Metrics by name, in the order of the contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(serde_json::Map<String, serde_json::Value>);

impl Metrics {
    /// Adds a metric, or a count.
    pub fn set(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// A metric by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(serde_json::Value::as_f64)
    }

    /// The metrics as numbers by name.
    pub fn to_map(&self) -> BTreeMap<String, f64> {
        self.0.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
    }

    /// Names and values; counts are whole numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<const N: usize> From<[(&'static str, f64); N]> for Metrics {
    fn from(metrics: [(&'static str, f64); N]) -> Self {
        Metrics(metrics.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The mean of some runs' metric, and its standard deviation over them (with `n - 1`), which one run alone has none of.
/// No runs: 0.
pub fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// The index of the largest score, the first of equals; a score that is not a number never wins. 0 for no scores.
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] || scores[best].is_nan() && !score.is_nan() {
            best = i;
        }
    }
    best
}

/// Metrics of classification, `(name, value)` in the order of the contract.
///
/// `predicted` and `gold` are label indices below `labels`, one a row; panics when they differ in length. No rows: 0.
pub fn classification(predicted: &[usize], gold: &[usize], labels: usize) -> [(&'static str, f64); 3] {
    assert_eq!(predicted.len(), gold.len());
    let hits = predicted.iter().zip(gold).filter(|(p, g)| p == g).count();
    let (accuracy, f1) = (share(hits, gold.len()), macro_f1(predicted, gold, labels));
    [("accuracy", accuracy), ("macro_f1", f1), ("majority", majority(gold))]
}

/// Metrics of probing, `(name, value)` in the order of the contract.
///
/// `ranks` are those of [`rank`], `gold` the answers of the same rows; panics when they differ in length. No rows: 0.
pub fn probing(ranks: &[usize], gold: &[usize]) -> [(&'static str, f64); 4] {
    assert_eq!(ranks.len(), gold.len());
    let within = |limit: usize| share(ranks.iter().filter(|rank| **rank <= limit).count(), ranks.len());
    let reciprocal: f64 = ranks.iter().map(|rank| 1.0 / *rank as f64).sum();
    let mrr = if ranks.is_empty() { 0.0 } else { reciprocal / ranks.len() as f64 };
    [("p_at_1", within(1)), ("p_at_10", within(10)), ("mrr", mrr), ("majority", majority(gold))]
}

/// Metrics of texts, `(name, value)` in the order of the contract, from the loss of each token and how many of the rows were
/// matched. No tokens: loss 0.
pub fn text(losses: &[f32], matches: usize, rows: usize) -> [(&'static str, f64); 3] {
    let loss = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len().max(1) as f64;
    // JSON has no infinity.
    [("exact_match", share(matches, rows)), ("perplexity", loss.exp().min(f64::MAX)), ("loss", loss)]
}

/// The rank, from 1, of the candidate `gold` among `scores`.
///
/// Panics when `gold` is not an index of `scores`.
pub fn rank(scores: &[f32], gold: usize) -> usize {
    let own = scores[gold];
    // `<` and not `>=`: neither a gold nor another score that is not a number may look like a worse candidate.
    let worse = scores.iter().filter(|score| **score < own).count();
    scores.len() - worse
}

fn macro_f1(predicted: &[usize], gold: &[usize], labels: usize) -> f64 {
    let (mut hits, mut seen) = (vec![0usize; labels], vec![0usize; labels]);
    for (p, g) in predicted.iter().zip(gold) {
        hits[*g] += usize::from(p == g);
        // 2 tp + fp + fn is how often the label occurs in both columns together.
        seen[*p] += 1;
        seen[*g] += 1;
    }
    let f1: Vec<f64> = hits.iter().zip(&seen).filter(|(_, seen)| **seen > 0).map(|(h, s)| share(2 * h, *s)).collect();
    if f1.is_empty() { 0.0 } else { f1.iter().sum::<f64>() / f1.len() as f64 }
}

fn majority(gold: &[usize]) -> f64 {
    let mut sorted = gold.to_vec();
    sorted.sort_unstable();
    let longest = sorted.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or(0);
    share(longest, gold.len())
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, from the definition in the head of this file.
    #[test]
    fn macro_f1_averages_over_the_labels_that_occur() {
        // gold 0 0 1 2, predicted 0 1 1 1: f1 is 2/3, 2/4, 0; label 3 occurs nowhere and is left out.
        let found = classification(&[0, 1, 1, 1], &[0, 0, 1, 2], 4);
        assert_eq!(found[0], ("accuracy", 0.5));
        assert!((found[1].1 - (2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found[2], ("majority", 0.5));
        // A label that is only predicted counts 0.
        assert_eq!(classification(&[0, 1], &[0, 0], 2)[1], ("macro_f1", (2.0 / 3.0) / 2.0));
        assert_eq!(classification(&[], &[], 2), [("accuracy", 0.0), ("macro_f1", 0.0), ("majority", 0.0)]);
    }

    #[test]
    fn a_deviation_divides_by_one_less_than_the_runs() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 6.0]), (3.0, Some(7_f64.sqrt())));
        assert_eq!(mean_and_deviation(&[0.5]), (0.5, None));
        assert_eq!(mean_and_deviation(&[]), (0.0, None));
    }

    #[test]
    fn a_tie_or_a_nan_counts_against_the_model() {
        assert_eq!(rank(&[0.1, 0.5, 0.3], 1), 1);
        assert_eq!(rank(&[0.1, 0.5, 0.3], 0), 3);
        assert_eq!(rank(&[0.5, 0.5, 0.3], 1), 2);
        assert_eq!(rank(&[f32::NAN, 0.5], 1), 2);
        assert_eq!(rank(&[f32::NAN, 0.5, 0.1], 0), 3);
        assert_eq!(argmax(&[f32::NAN, 0.1, 0.5, 0.5]), 2);
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_mean_of_all_tokens() {
        let found = text(&[0.0, 2.0, 4.0], 1, 2);
        assert_eq!(found[0], ("exact_match", 0.5));
        assert!((found[1].1 - 2_f64.exp()).abs() < 1e-12);
        assert_eq!(found[2], ("loss", 2.0));
        assert_eq!(text(&[3000.0], 0, 1)[1].1, f64::MAX, "a number that JSON can hold");
    }

    #[test]
    fn probing_counts_ranks() {
        let found = probing(&[1, 2, 10, 11], &[5, 5, 5, 9]);
        assert_eq!(found[..2], [("p_at_1", 0.25), ("p_at_10", 0.75)]);
        assert!((found[2].1 - (1.0 + 0.5 + 0.1 + 1.0 / 11.0) / 4.0).abs() < 1e-12);
        assert_eq!(found[3], ("majority", 0.75));
    }
}
