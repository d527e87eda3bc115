//! How much of a model stays, and a digest of it: the same before and after a training, or a frozen weight was written to.
//! Each part of a model names its own numbers (`frozen`), packed as products read them.

use sha2::{Digest, Sha256};

use super::{Gradients, Model};
use crate::checkpoint::hexadecimal;
use crate::parameter::Parameter;

impl Model {
    /// How many numbers the checkpoint's tensors hold.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them stay as they are.
    pub fn frozen(&self) -> usize {
        match self.gradients {
            Gradients::Weights => self.count - self.parameters.iter().map(Parameter::count).sum::<usize>(),
            Gradients::None | Gradients::Inputs => self.count,
        }
    }

    /// SHA-256 of every number that it holds and no training moves, as it lies in memory: of a model that is not trained
    /// itself, of all its weights. The same checkpoint gives the same digest in the same precision, with the same
    /// instruction set and the same [`Gradients`].
    pub fn frozen_digest(&self) -> String {
        let mut all = Vec::new();
        self.embedding.frozen(&mut all);
        self.blocks.iter().for_each(|block| block.frozen(&mut all));
        self.final_norm.iter().for_each(|norm| norm.frozen(&mut all));
        self.head.iter().for_each(|head| head.frozen(&mut all));
        let mut hash = Sha256::new();
        for numbers in all {
            hash.update((numbers.len() as u64).to_le_bytes());
            let mut bytes = Vec::with_capacity(4 * numbers.len());
            numbers.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
            hash.update(bytes);
        }
        hexadecimal(&hash.finalize())
    }
}
