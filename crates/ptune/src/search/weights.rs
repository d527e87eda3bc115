//! Weights of prompts that answer together, learned from rows (LPAQA's optimised ensemble).
//!
//! ```text
//! s[y] = sum over prompts i of w[i] log P_i(y)        w = softmax(theta)
//! loss = mean over rows of  log sum over y of exp s[y]  -  s[gold]
//! ```
//! The sum over y makes the answer a probability again; without it the loss is linear in w and one prompt would get all
//! weight. y runs over the answers that occur among the rows. Adam over all rows at once, in f64, from equal weights: the
//! same rows give the same bits.

const STEPS: usize = 200;
const LEARNING_RATE: f64 = 0.05;

/// Learns the weights. `scores[i]` are those of prompt i, `[rows, answers]`; `gold` is the column of each row's answer.
pub(super) fn learn(scores: &[Vec<f32>], gold: &[usize], answers: usize) -> Vec<f64> {
    let prompts = scores.len();
    let (mut theta, mut first, mut second) = (vec![0.0; prompts], vec![0.0; prompts], vec![0.0; prompts]);
    for step in 1..=STEPS {
        let weights = softmax(&theta);
        let d_weights = gradient(scores, gold, answers, &weights);
        // Through the softmax: d_theta = w (d_w - sum of w d_w).
        let mean: f64 = weights.iter().zip(&d_weights).map(|(weight, d)| weight * d).sum();
        let (fix1, fix2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.999f64.powi(step as i32));
        for i in 0..prompts {
            let d_theta = weights[i] * (d_weights[i] - mean);
            first[i] = 0.9 * first[i] + 0.1 * d_theta;
            second[i] = 0.999 * second[i] + 0.001 * d_theta * d_theta;
            theta[i] -= LEARNING_RATE * (first[i] / fix1) / ((second[i] / fix2).sqrt() + 1e-8);
        }
    }
    softmax(&theta)
}

/// The gradient of the loss with respect to the weights.
fn gradient(scores: &[Vec<f32>], gold: &[usize], answers: usize, weights: &[f64]) -> Vec<f64> {
    let mut d_weights = vec![0.0; scores.len()];
    let mut sums = vec![0.0; answers];
    for (row, gold) in gold.iter().enumerate() {
        let of = |prompt: &'_ [f32]| prompt[row * answers..(row + 1) * answers].to_vec();
        sums.fill(0.0);
        for (prompt, weight) in scores.iter().zip(weights) {
            sums.iter_mut().zip(of(prompt)).for_each(|(sum, score)| *sum += weight * f64::from(score));
        }
        let mut d_sums = softmax(&sums);
        d_sums[*gold] -= 1.0;
        for (prompt, d_weight) in scores.iter().zip(&mut d_weights) {
            *d_weight += d_sums.iter().zip(of(prompt)).map(|(d, score)| d * f64::from(score)).sum::<f64>();
        }
    }
    d_weights.iter_mut().for_each(|d| *d /= gold.len().max(1) as f64);
    d_weights
}

/// Of scores of any size.
pub(super) fn softmax(x: &[f64]) -> Vec<f64> {
    let highest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = x.iter().map(|x| (x - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(seed: u32, count: usize) -> Vec<f32> {
        (0..count as u32).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 200.0).collect()
    }

    fn loss(scores: &[Vec<f32>], gold: &[usize], answers: usize, weights: &[f64]) -> f64 {
        let row = |row: usize| {
            let sum = |y: usize| -> f64 {
                scores.iter().zip(weights).map(|(s, w)| w * f64::from(s[row * answers + y])).sum()
            };
            (0..answers).map(|y| sum(y).exp()).sum::<f64>().ln() - sum(gold[row])
        };
        (0..gold.len()).map(row).sum::<f64>() / gold.len() as f64
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let all: Vec<Vec<f32>> = (1..4).map(|seed| scores(seed, 5 * 4)).collect();
        let (gold, weights) = ([0, 3, 1, 1, 2], [0.2, 0.5, 0.3]);
        let found = gradient(&all, &gold, 4, &weights);
        for i in 0..3 {
            let moved = |by: f64| {
                let mut weights = weights;
                weights[i] += by;
                loss(&all, &gold, 4, &weights)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((found[i] - expected).abs() < 1e-7, "{i}: {} and {expected}", found[i]);
        }
    }

    #[test]
    fn a_prompt_that_knows_the_answers_gets_most_of_the_weight() {
        let gold: Vec<usize> = (0..20).map(|row| row * 7 % 4).collect();
        let mut knows = vec![0.0; 20 * 4];
        gold.iter().enumerate().for_each(|(row, gold)| knows[row * 4 + gold] = 4.0);
        let all = vec![scores(1, 80), knows, scores(2, 80)];
        let weights = learn(&all, &gold, 4);
        assert!(weights[1] > 0.9 && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{weights:?}");
        assert!(loss(&all, &gold, 4, &weights) < loss(&all, &gold, 4, &[1.0 / 3.0; 3]));
        assert_eq!(learn(&all[..1], &gold, 4), [1.0]);
    }
}
