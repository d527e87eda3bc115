//! The search for tokens (AutoPrompt, Shin et al. 2020; spec: P-tuning section 6).
//!
//! ```text
//! step   a batch    the gradient of the loss with respect to the embeddings in the places of [P*n]
//!        a place    drawn; its candidates are the tokens that promise most (candidates.rs)
//!        a batch    the loss with the prompt as it is and with each candidate: the smallest wins
//!        a change   is evaluated on dev; the best prompt there is kept
//! ```
//! Places start from the words of `[P*3 "the capital of"]`, else from the mask token, in a causal model from a word that is
//! drawn. A prompt with a mask in it is never kept, so places that still have one are filled first, each with its best
//! candidate in any case; AutoPrompt draws among all and may end with masks. The loss is that of training: over label
//! scores where there is a verbalizer, where AutoPrompt compares candidates by accuracy.
//!
//! The tokens are injected as vectors, the rows of the word table, so that their gradient is the one that training computes;
//! the adapter has their numbers, and the same bits come of both.

use std::time::Instant;

use serde_json::json;

use super::candidates::{allowed, changes, in_words, most_promising};
use super::compared::{shared_rows, side_by_side};
use super::{Error, Event, Found, Inject, Injection, Result, Search};
use crate::data::{Encoded, pack};
use crate::ops::{Layout, Part};
use crate::rng::{Purpose, Rng};
use crate::tensor::Tensor;
use crate::train::Order;

/// Rows computed together, as evaluation has them, and numbers of their logits: further candidates wait for the next pass.
const PACKED_ROWS: usize = 1024;
const PACKED_LOGITS: usize = 1 << 25;

/// A prompt under way.
struct Triggers {
    /// The token of each prompt row.
    tokens: Vec<u32>,
    /// Whether it still is the mask it started from.
    open: Vec<bool>,
    allowed: Vec<bool>,
    order: Order,
    /// The tokens on disk.
    kept: Option<Vec<u32>>,
}

pub(super) fn search(mut search: Search<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Found> {
    let steps = search.config.search.steps;
    let mut triggers = Triggers::new(&search)?;
    search.kept_or_not(&mut triggers, observe)?;
    for step in 0..steps {
        search.check_stop()?;
        let begin = Instant::now();
        let (loss, examples, changed) = search.step(&mut triggers, step)?;
        search.progress.count_step(loss, examples, begin.elapsed());
        observe(search.progress.event(search.config.seed, steps, loss, search.config.select().name()));
        if changed || step + 1 == steps {
            search.kept_or_not(&mut triggers, observe)?;
        }
    }
    let Some(tokens) = triggers.kept else {
        let open = triggers.open.iter().filter(|open| **open).count();
        let message = format!("{steps} steps left {open} places of the template without a token; raise search.steps");
        return Err(Error::Failed(message));
    };
    let test = match &search.data.test {
        Some(test) => {
            let prompt = Injection::new(&search.model, Some(search.vectors(&[&tokens])), None);
            Some(search.evaluate(&search.task, &prompt, test, observe)?)
        }
        None => None,
    };
    let tokenizer = &search.task.tokenizer;
    let words = in_words(&search.task, tokenizer, &tokens);
    let tokens = tokens.iter().map(|id| tokenizer.token(*id)).collect();
    let labels = search.labels();
    Ok(Found { summary: search.finish(test, 0)?, words, labels, tokens, prompts: Vec::new(), tried: Vec::new() })
}

impl Triggers {
    fn new(search: &Search<'_>) -> Result<Triggers> {
        let Search { data, config, .. } = search;
        let (allowed, words) = search.allowed()?;
        let (tokens, open) = search.first_tokens(&words)?;
        let batch_size = config.search.batch_size;
        Ok(Triggers {
            open,
            tokens,
            order: Order::new(data.train.examples.len(), batch_size, config.data.shuffle.then_some(config.seed)),
            allowed,
            kept: None,
        })
    }

    /// The place that a step changes: one that is still open, else any.
    fn place(&self, seed: u64, step: usize) -> usize {
        let open: Vec<usize> = (0..self.open.len()).filter(|place| self.open[*place]).collect();
        let mut rng = Rng::new(seed, Purpose::Search(u32::try_from(step).unwrap_or(u32::MAX)));
        if open.is_empty() { rng.below(self.tokens.len()) } else { open[rng.below(open.len())] }
    }

    fn with(&self, place: usize, token: u32) -> Vec<u32> {
        let mut tokens = self.tokens.clone();
        tokens[place] = token;
        tokens
    }
}

impl Search<'_> {
    /// For each token whether it may stand in the prompt, and those that may.
    pub(super) fn allowed(&self) -> Result<(Vec<bool>, Vec<u32>)> {
        let Search { task, data, model, config, .. } = self;
        let rows = data.train.examples.iter().chain(data.dev.iter().flat_map(|dev| &dev.examples));
        let allowed = allowed(task, model.word_table().rows(), &config.search, rows);
        let words: Vec<u32> = (0..allowed.len() as u32).filter(|id| allowed[*id as usize]).collect();
        if words.is_empty() {
            return Err(Error::request("no token of this model may stand in a prompt; see search.exclude_answers"));
        }
        Ok((allowed, words))
    }

    /// The tokens that places start from, and which of them are masks: those of the template, else the mask, in a causal
    /// model one of `words`.
    pub(super) fn first_tokens(&self, words: &[u32]) -> Result<(Vec<u32>, Vec<bool>)> {
        let mut rng = Rng::new(self.config.seed, Purpose::PromptInitialisation);
        let mask = self.task.tokenizer.mask_id().filter(|_| !self.model.spec().causal);
        let initial = self.task.encoder()?.initial_words()?;
        let first = |word: &Option<u32>| word.or(mask).unwrap_or_else(|| words[rng.below(words.len())]);
        let open = initial.iter().map(|word| word.is_none() && mask.is_some()).collect();
        Ok((initial.iter().map(first).collect(), open))
    }

    /// One step: the loss of its first batch, the examples it has seen, and whether it has changed a token.
    fn step(&mut self, triggers: &mut Triggers, step: usize) -> Result<(f64, usize, bool)> {
        let first = triggers.order.next_batch().to_vec();
        let (loss, gradient) = self.gradient(&triggers.tokens, &first);
        if !loss.is_finite() {
            return Err(Error::Failed("the model's loss is not a finite number; its weights cannot be right".into()));
        }
        let place = triggers.place(self.config.seed, step);
        let of_place = self.device.gather_rows(&gradient, &[place as u32]);
        let changes = changes(&self.device, &self.model, &of_place);
        let now = triggers.tokens[place];
        let candidates = most_promising(changes.read(), &triggers.allowed, now, self.config.search.candidates);
        let second = triggers.order.next_batch().to_vec();
        let mut prompts = vec![triggers.tokens.clone()];
        prompts.extend(candidates.iter().map(|token| triggers.with(place, *token)));
        let losses = self.losses(&prompts, place, &second);
        // Of equal losses the first: the prompt as it is, or the candidate that promised most.
        let others = losses.iter().enumerate().skip(usize::from(triggers.open[place]));
        let best = others.min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(best, _)| best);
        let examples = first.len() + second.len() * prompts.len();
        if best > 0 {
            triggers.tokens = prompts.swap_remove(best);
            triggers.open[place] = false;
        }
        Ok((loss, examples, best > 0))
    }

    /// The vectors of prompts, one below the other: rows of the word table.
    pub(super) fn vectors(&self, prompts: &[&[u32]]) -> Tensor {
        self.device.gather_rows(self.model.word_table(), &prompts.concat())
    }

    /// The mean loss of some training rows, and its gradient with respect to the vectors of the prompt.
    pub(super) fn gradient(&mut self, tokens: &[u32], rows: &[usize]) -> (f64, Tensor) {
        let prompt = self.vectors(&[tokens]);
        let inject = Inject { prompt_embeds: Some(&prompt), ..Inject::default() };
        let (layout, targets) = self.batch(rows);
        let (logits, saved) = self.model.forward(&layout, &inject, &self.columns);
        let loss = self.task.head.loss(&self.device, &logits, &targets);
        let gradients = self.model.backward(&loss.d_logits, &saved, &layout, &inject, &self.columns);
        (loss.mean, gradients.prompt_embeds.expect("prompt rows were injected"))
    }

    /// The mean loss of some training rows with each of these prompts, which differ in this place alone: as many at once as
    /// a pass takes, or as are no more rows than those that they have in common.
    pub(super) fn losses(&self, prompts: &[Vec<u32>], place: usize, rows: &[usize]) -> Vec<f64> {
        let examples: Vec<&Encoded> = rows.iter().map(|row| &self.data.train.examples[*row].encoded).collect();
        let (batch, targets) = self.batch(rows);
        let shared = if self.model.spec().causal { shared_rows(&examples, place) } else { 0 };
        let by_logits = PACKED_LOGITS / (batch.targets.len() * self.columns.count());
        let at_once = (PACKED_ROWS.max(shared) / (batch.rows() - shared)).min(by_logits).max(1);
        let mut losses = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(at_once) {
            let all: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            let vectors = self.vectors(&all);
            let inject = Inject { prompt_embeds: Some(&vectors), ..Inject::default() };
            let logits = if shared > 0 {
                let (layout, answers) = side_by_side(&examples, place, all[0].len(), all.len());
                self.device.gather_rows(&self.model.logits(&layout, &inject, &self.columns), &answers)
            } else {
                let layout = Layout::join(all.iter().map(|tokens| (batch.clone(), [tokens.len(), 0])));
                self.model.logits(&layout, &inject, &self.columns)
            };
            let parts = Part::stacked(all.iter().map(|_| batch.targets.len()), logits.columns());
            let logits = self.device.split(logits, &parts);
            losses.extend(logits.iter().map(|logits| self.task.head.loss(&self.device, logits, &targets).mean));
        }
        losses
    }

    pub(super) fn batch(&self, rows: &[usize]) -> (Layout, Vec<u32>) {
        let examples = &self.data.train.examples;
        let encoded: Vec<&Encoded> = rows.iter().map(|row| &examples[*row].encoded).collect();
        (pack(encoded), rows.iter().map(|row| examples[*row].targets[0]).collect())
    }

    /// Evaluates the prompt on dev and keeps it when it is the best; without dev rows it is kept as it is. A prompt with a
    /// mask in it is not.
    fn kept_or_not(&mut self, triggers: &mut Triggers, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let step = self.progress.step;
        let again = self.progress.evaluated == Some(step) || triggers.kept.as_ref() == Some(&triggers.tokens);
        if again || triggers.open.contains(&true) {
            return Ok(());
        }
        let mut line = json!({"step": step});
        if step > 0 {
            line["loss"] = json!(self.progress.take_mean_loss());
        }
        let mut dev = None;
        let mut best = true;
        if let Some(rows) = &self.data.dev {
            let prompt = Injection::new(&self.model, Some(self.vectors(&[&triggers.tokens])), None);
            let metrics = self.evaluate(&self.task, &prompt, rows, observe)?;
            best = self.progress.is_best(&metrics, self.config.select());
            (line["dev"], line["best"]) = (json!(metrics), json!(best));
            observe(Event::Evaluated { seed: self.config.seed, step, metrics: &metrics, best });
            dev = Some(metrics);
        }
        if best {
            let mut description = self.describe(dev.as_ref());
            description.discrete.tokens.clone_from(&triggers.tokens);
            self.keep(description)?;
            self.progress.kept = dev;
            triggers.kept = Some(triggers.tokens.clone());
        }
        line["prompt"] = json!(in_words(&self.task, &self.task.tokenizer, &triggers.tokens));
        self.progress.evaluated = Some(step);
        self.progress.write_line(&line, &self.out)
    }
}
