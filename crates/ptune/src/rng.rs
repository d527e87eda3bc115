//! All randomness of ptune: streams of one counter-based generator (Philox4x32-10).
//!
//! A stream is named by the run's seed and its purpose, so adding a draw to one never shifts another: the shuffle of
//! epoch 3 is the same whatever the prompt's initialisation drew.

use ptune_kernels::{philox, unit_f32};

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial values of the prompt encoder's parameters.
    PromptInitialisation,
    /// The order of the training rows in an epoch, counted from 0.
    Shuffle(u32),
    /// What the model drops in a step, counted from 0.
    Dropout(u32),
    /// Initial values of a model's tensor, counted from 0.
    ModelInitialisation(u32),
    /// Which words of a step's texts are masked, counted from 0.
    Masking(u32),
    /// The place that a step of a search for tokens changes, counted from 0.
    Search(u32),
    /// Which lines of a text are held out.
    HeldOut,
    /// Initial values of low-rank additions to a model.
    LoraInitialisation,
    /// A part of the small world's corpus.
    World(u32),
    /// Which facts of a relation of the small world train, choose and test.
    WorldSplit(u32),
    /// The tokens of a text that is written, by the number of its example.
    Sampling(u32),
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    counter: u64,
    stream: [u32; 2],
    block: [u32; 4],
    used: usize,
}

impl Rng {
    /// The stream for `purpose` of the run with this seed.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let stream = match purpose {
            Purpose::PromptInitialisation => [1, 0],
            Purpose::Shuffle(epoch) => [2, epoch],
            Purpose::Dropout(step) => [3, step],
            Purpose::ModelInitialisation(tensor) => [4, tensor],
            Purpose::Masking(step) => [5, step],
            Purpose::HeldOut => [6, 0],
            Purpose::LoraInitialisation => [10, 0],
            Purpose::Search(step) => [13, step],
            Purpose::World(part) => [8, part],
            Purpose::WorldSplit(relation) => [9, relation],
            Purpose::Sampling(example) => [12, example],
        };
        Rng { key: [seed as u32, (seed >> 32) as u32], counter: 0, stream, block: [0; 4], used: 4 }
    }

    /// A random word.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let counter = [self.counter as u32, (self.counter >> 32) as u32, self.stream[0], self.stream[1]];
            self.block = philox(counter, self.key);
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Two random words as one: a seed for something else.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// Uniform in `-bound..bound`.
    pub fn symmetric(&mut self, bound: f32) -> f32 {
        (unit_f32(self.next_u32()) * 2.0 - 1.0) * bound
    }

    /// Normal with mean 0 and deviation 1 (Box-Muller, the cosine half: one number a pair keeps the stream simple).
    pub fn normal(&mut self) -> f32 {
        let radius = 1.0 - f64::from(unit_f32(self.next_u32())); // in (0, 1]: the logarithm is finite
        let angle = f64::from(unit_f32(self.next_u32())) * std::f64::consts::TAU;
        ((-2.0 * radius.ln()).sqrt() * angle.cos()) as f32
    }

    /// Uniform in `0..bound`; `bound` must not be 0. Multiply-shift: the bias is below bound / 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0);
        ((u64::from(self.next_u32()) * bound as u64) >> 32) as usize
    }

    /// Fisher-Yates: every order of `items` is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_and_purpose_and_repeat() {
        let draw = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            (0..9).map(|_| rng.next_u32()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, Purpose::Shuffle(0)), draw(1, Purpose::Shuffle(0)));
        assert_ne!(draw(1, Purpose::Shuffle(0)), draw(1, Purpose::Shuffle(1)));
        assert_ne!(draw(1, Purpose::Shuffle(0)), draw(2, Purpose::Shuffle(0)));
        assert_ne!(draw(1, Purpose::Shuffle(0)), draw(1, Purpose::PromptInitialisation));
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let mut rng = Rng::new(3, Purpose::PromptInitialisation);
        let x: Vec<f64> = (0..20_000).map(|_| f64::from(rng.normal())).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<usize> = (0..100).collect();
        Rng::new(0, Purpose::Shuffle(0)).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
