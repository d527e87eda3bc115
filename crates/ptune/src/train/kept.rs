//! What a frozen causal model makes of the text before the first pseudo token of an example. It sees nothing that is
//! trained, so it is run once a run, forward only, and its keys and values are kept.
//!
//! ```text
//! past rows   | example 0 | example 1 | ... those that fit into train.keep_mb | room for others of a batch |
//! ```
//! An example is run when a batch first needs it; those that do not fit, the last of the file, whenever one needs them. A
//! row's bits do not depend on its neighbours, so no bit of a step depends on when they were run.

use crate::data::{Beginning, Encoded, Labelled, pack, pack_from};
use crate::model::{Model, Past};
use crate::ops::Layout;
use crate::tensor::Device;

/// The beginnings of the training examples.
pub(super) struct Kept {
    /// Their tokens, by example.
    lengths: Vec<usize>,
    /// The past row of the first of them. Of an example that does not fit, the one that it last had.
    firsts: Vec<usize>,
    /// Whether they are there and stay.
    there: Vec<bool>,
    /// The examples before this one fit.
    fit: usize,
    /// The first past row of the room for others.
    room: usize,
    /// Made when the first rows were run: only then their size is known.
    past: Option<Past>,
    /// Bytes that may be kept.
    budget: usize,
    /// Examples that may be asked for at once.
    most_at_once: usize,
}

impl Kept {
    /// For batches that have up to `most_at_once` of these examples together.
    pub(super) fn new(examples: &[Labelled], most_at_once: usize, budget: usize) -> Kept {
        let lengths: Vec<usize> = examples.iter().map(|row| row.encoded.before_pseudo()).collect();
        let there = lengths.iter().map(|length| *length == 0).collect();
        Kept { firsts: vec![0; lengths.len()], lengths, there, fit: 0, room: 0, past: None, budget, most_at_once }
    }

    /// Packs batches of the examples behind their beginnings ([`Kept::past`]), which are run where they are not there: all
    /// together, and each once.
    pub(super) fn pack(
        &mut self,
        model: &Model,
        device: &Device,
        examples: &[Labelled],
        batches: &[&[usize]],
    ) -> Vec<Layout> {
        let mut missing: Vec<usize> = batches.concat();
        missing.retain(|&example| !self.there[example]);
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let beginning = |&example: &usize| examples[example].encoded.tokens[..self.lengths[example]].to_vec();
            let beginnings: Vec<_> = missing.iter().map(|example| Encoded::row(beginning(example), 0)).collect();
            self.take(device, &model.run_past(&pack(&beginnings)), &missing);
        }
        let place = |example: usize| self.firsts[example]..self.firsts[example] + self.lengths[example];
        let behind = |&example: &usize| (&examples[example].encoded, Beginning::Past(place(example)));
        batches.iter().map(|batch| pack_from(batch.iter().map(behind))).collect()
    }

    /// What the batches packed last stand behind.
    pub(super) fn past(&self) -> Option<&Past> {
        self.past.as_ref()
    }

    /// Takes over the rows of these examples.
    fn take(&mut self, device: &Device, run: &Past, examples: &[usize]) {
        let mut past = self.past.take().unwrap_or_else(|| self.lay_out(device, run));
        let (mut from, mut room) = (0, self.room);
        for &example in examples {
            let length = self.lengths[example];
            if example < self.fit {
                self.there[example] = true;
            } else {
                self.firsts[example] = room;
                room += length;
            }
            past.copy_rows(device, self.firsts[example], run, from..from + length);
            from += length;
        }
        self.past = Some(past);
    }

    /// Gives each example that fits its place. `run` says how large a row is.
    fn lay_out(&mut self, device: &Device, run: &Past) -> Past {
        let most = self.budget / run.bytes_of_row().max(1);
        for (&length, first) in self.lengths.iter().zip(&mut self.firsts) {
            if self.room + length > most {
                break;
            }
            (*first, self.fit) = (self.room, self.fit + 1);
            self.room += length;
        }
        let mut others = self.lengths[self.fit..].to_vec();
        others.sort_unstable_by(|a, b| b.cmp(a));
        run.with_room(device, self.room + others.iter().take(self.most_at_once).sum::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::ModelDirectory;
    use crate::data::Token;
    use crate::model::{Gradients, Inject};

    /// Texts of 0 to 7 tokens before a pseudo token and a word.
    fn examples() -> Vec<Labelled> {
        let example = |length: u32| {
            let text = (0..length).map(|i| Token::Id(20 + 3 * i + length));
            let tokens: Vec<Token> = text.chain([Token::Pseudo(0), Token::Id(30)]).collect();
            Labelled { encoded: Encoded::row(tokens, length as usize + 1), targets: vec![0] }
        };
        [3, 0, 7, 4, 5, 1].map(example).into()
    }

    #[test]
    fn bits_are_the_same_whatever_fits_and_what_fits_is_run_once() {
        let device = Device::processor(Some(1));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2_mlp/model");
        let directory = ModelDirectory::open(&path).unwrap();
        let model = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap();
        let columns = model.columns(None, false);
        let prompt = device.upload(1, model.embedding_width(), &vec![0.5; model.embedding_width()]);
        let examples = examples();
        let row = model.run_past(&pack([&Encoded::row(vec![Token::Id(5)], 0)])).bytes_of_row();
        let batches = [[0, 1, 2], [3, 4, 5], [2, 5, 0], [4, 2, 3], [5, 4, 3]];
        let results = |rows: usize| {
            let mut kept = Kept::new(&examples, 3, rows * row + row / 2);
            let logits = batches.map(|batch| {
                let layout = kept.pack(&model, &device, &examples, &[&batch]).remove(0);
                assert_eq!(layout.rows(), 3 * 2);
                let inject = Inject { prompt_embeds: Some(&prompt), past: kept.past(), ..Inject::default() };
                model.forward(&layout, &inject, &columns).0.read().to_vec()
            });
            (logits, kept.there)
        };
        let (all, there) = results(20);
        assert_eq!(there, [true; 6]);
        let (some, there) = results(13);
        assert_eq!(there, [true, true, true, false, false, false]); // 3 + 0 + 7, and 4 do not fit
        assert!(some == all);
        let (none, there) = results(0);
        assert_eq!(there, [false, true, false, false, false, false]); // where there is nothing, nothing is to do
        assert!(none == all);
        // And nearly those of rows of their own.
        let inject = Inject { prompt_embeds: Some(&prompt), ..Inject::default() };
        let own = model.forward(&pack(batches[0].map(|i| &examples[i].encoded)), &inject, &columns).0;
        assert!(own.read().iter().zip(&all[0]).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
