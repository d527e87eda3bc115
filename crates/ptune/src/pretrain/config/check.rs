//! The values of a run file: ranges, keys that exclude or need each other.

use std::path::Path;

use super::{ModelConfig, PretrainConfig, TokenizerConfig};
use crate::error::{Error, Result};
use crate::keys::{Checked, check, optionally_within, required, within};
use crate::train::config::{LARGEST_SEED, ScheduleKind};

const MOST_STEPS: usize = 1_000_000_000;
/// What a saved count of rows relies on: `Progress::is_sound`.
const MOST_TOKENS: usize = 65_536;
const MOST_THREADS: usize = 1024;
const MOST_LAYERS: usize = 128;
/// A model of this width is no small one.
const LARGEST_WIDTH: usize = 8192;
const LARGEST_VOCABULARY: usize = 1 << 20;
const LARGEST_RATE: f64 = 1000.0;

impl PretrainConfig {
    /// Checks that the file says what training begins from: a shape or a checkpoint, not both.
    pub(super) fn check_beginning(&self, file: &Path) -> Result<()> {
        let model = &self.model;
        let shape = ModelConfig { checkpoint: model.checkpoint.clone(), dtype: model.dtype, ..ModelConfig::default() };
        let found = if model.checkpoint.is_none() {
            required("model.layout", model.layout.is_some(), "bert or gpt2 (or give model.checkpoint, a directory)")
        } else {
            let message = "the checkpoint has a shape already; remove layout, layers, hidden, heads, inner, positions";
            check(*model == shape, "model.checkpoint", message).and_then(|()| {
                let message = "the checkpoint has a tokenizer already; remove the table";
                check(self.tokenizer == TokenizerConfig::default(), "tokenizer", message)
            })
        };
        found.map_err(|(key, message)| Error::key(file, key, message))
    }

    /// Checks every value of the run file `file`.
    pub(super) fn check(&self, file: &Path) -> Result<()> {
        let checks = [self.check_top(), self.check_data(), self.check_tokenizer(), self.check_model()];
        let mut checks = checks.into_iter().chain([self.check_length(), self.check_optimizer()]);
        match checks.find_map(std::result::Result::err) {
            Some((key, message)) => Err(Error::key(file, key, message)),
            None => Ok(()),
        }
    }

    fn check_top(&self) -> Checked {
        within("seed", self.seed, 0, LARGEST_SEED)?;
        optionally_within("threads", self.threads, MOST_THREADS)
    }

    fn check_data(&self) -> Checked {
        let data = &self.data;
        required("data.text", !data.text.is_empty(), "a list of text files: [\"text.txt\"]")?;
        let empty = data.text.iter().any(|path| path.as_os_str().is_empty());
        check(!empty, "data.text", "has an empty name; name files")?;
        let message = format!("{}: must be from 0 (none) to 0.5", data.held_out);
        check((0.0..=0.5).contains(&data.held_out), "data.held_out", message)?;
        // [CLS], [SEP] and a word between them; a causal row of two predicts one token.
        within("data.max_tokens", data.max_tokens.unwrap_or(3), 3, MOST_TOKENS)
    }

    fn check_tokenizer(&self) -> Checked {
        within("tokenizer.vocabulary", self.tokenizer.vocabulary, 1, LARGEST_VOCABULARY)?;
        let empty = self.tokenizer.words.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        check(!empty, "tokenizer.words", "is empty; name a file or remove the key")
    }

    fn check_model(&self) -> Checked {
        let model = &self.model;
        let empty = model.checkpoint.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        check(!empty, "model.checkpoint", "is empty; name a directory or remove the key")?;
        within("model.layers", model.layers, 1, MOST_LAYERS)?;
        within("model.hidden", model.hidden, 1, LARGEST_WIDTH)?;
        within("model.heads", model.heads, 1, model.hidden)?;
        let message = format!("{}: must divide model.hidden, which is {}", model.heads, model.hidden);
        check(model.hidden.is_multiple_of(model.heads), "model.heads", message)?;
        optionally_within("model.inner", model.inner, 4 * LARGEST_WIDTH)?;
        within("model.positions", model.positions, 3, MOST_TOKENS)?;
        let (tokens, positions) = (self.data.max_tokens.unwrap_or(1), model.positions);
        let message = format!("{tokens}: the model has only {positions} positions (model.positions)");
        check(model.checkpoint.is_some() || tokens <= positions, "data.max_tokens", message)
    }

    fn check_length(&self) -> Checked {
        let train = &self.train;
        required("train.steps", train.steps > 0, "the length of the run in batches: steps = 2000")?;
        within("train.steps", train.steps, 1, MOST_STEPS)?;
        within("train.warmup_steps", train.warmup_steps.unwrap_or(0), 0, train.steps)?;
        optionally_within("train.eval_every", train.eval_every, MOST_STEPS)?;
        within("train.save_every", train.save_every, 1, MOST_STEPS)?;
        within("train.batch_tokens", train.batch_tokens, 1, MOST_TOKENS)
    }

    fn check_optimizer(&self) -> Checked {
        let train = &self.train;
        let positive = train.learning_rate as f32 > 0.0 && train.learning_rate <= LARGEST_RATE;
        let message = format!("{}: must be above 0 and at most {LARGEST_RATE}", train.learning_rate);
        check(positive, "train.learning_rate", message)?;
        for (key, value) in [("train.weight_decay", train.weight_decay), ("train.clip_norm", train.clip_norm)] {
            let message = format!("{value}: must be from 0 (off) to {LARGEST_RATE}");
            check((0.0..=LARGEST_RATE).contains(&value), key, message)?;
        }
        let message = "\"exponential\" decays by epochs of labelled rows; here it is constant or linear";
        check(train.schedule != ScheduleKind::Exponential, "train.schedule", message)?;
        let message = format!("{}: must be above 0 and at most 0.9", train.masked);
        check(train.masked > 0.0 && train.masked <= 0.9, "train.masked", message)
    }
}
