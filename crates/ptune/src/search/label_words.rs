//! The search for label words (AutoPrompt, Shin et al. 2020, their section 3.2): which words the answer place speaks for
//! when a row has a label.
//!
//! ```text
//! h        what the decoder reads at the answer of a training row, with the prompt as it starts
//! p(l | h) = softmax over l of  v[l] . h + b[l]                                          a linear classifier
//! loss     = mean over rows of -log p(gold | h)  +  width / (2 rows) |v|^2
//! p(l | w) = softmax over l of  v[l] . e[w]                                              e: the decoder's row of w
//! ```
//! The decoder compares h with e, so that a word is a point in the space of the answers; the words of a label are those with
//! the greatest p(l | w), each one a word of the label that has most of it. The authors' code leaves b out of p(l | w) too.
//! From few rows v points at much that has nothing to do with labels, and some word of thousands lies there. So words are
//! chosen among the `search.label_pool` that the model finds likeliest at the answer of a label's rows, on average; 0 is the whole
//! vocabulary, as the authors have it.
//!
//! They stop their classifier after some passes of SGD; here it has an optimum. The penalty says that, before a row is seen, a score
//! v . h has variance 1 (h is brought to mean 0 and mean square 1, numbers of it taken together): 32 rows cannot speak against
//! a width of hundreds, thousands can. Adam over all rows at once, in f64, from zero: the same rows give the same bits.
//!
//! Nothing of the model is changed, and only whole words that are one token are taken.

use std::collections::BTreeSet;
use std::path::Path;

use super::weights::softmax;
use super::{Error, Event, Injection, Result, Search};
use crate::checkpoint::{ModelDirectory, Tokenizer};
use crate::data::{Encoded, pack};
use crate::method::Head;
use crate::tensor::Tensor;
use crate::train::evaluate::packs;
use crate::train::prepare::Data;
use crate::train::state::Identity;
use crate::train::{Order, Task};

/// Training rows that the classifier sees; drawn where there are more.
const MOST_ROWS: usize = 1000;
const STEPS: usize = 300;
const LEARNING_RATE: f64 = 0.01;

/// Answers of training rows, `[rows, width]` at mean 0 and mean square 1, and their labels.
pub(super) struct Answers {
    pub(super) rows: Vec<f64>,
    /// What the rows were divided by.
    pub(super) scale: f64,
    pub(super) width: usize,
    pub(super) gold: Vec<usize>,
    pub(super) labels: usize,
}

/// `v [labels, width]` and `b [labels]`.
#[derive(Clone)]
pub(super) struct Classifier {
    pub(super) v: Vec<f64>,
    pub(super) b: Vec<f64>,
}

impl Search<'_> {
    /// Looks for `count` words for each label and puts them in the place of those of the run file: in its configuration,
    /// its task, its rows.
    pub(super) fn find_label_words(
        &mut self,
        count: usize,
        file: &Path,
        directory: &ModelDirectory,
        gradient: bool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let Head::Verbalizer(verbalizer) = &self.task.head else { unreachable!("checked: the task has labels") };
        let labels: Vec<String> = verbalizer.labels().iter().map(|label| label.name.clone()).collect();
        let (answers, likely) = self.answers(labels.len(), observe)?;
        let scores = self.word_scores(&answers.classifier().v, answers.scale);
        let as_word = |id: u32| word(&self.task, id);
        let pool = self.config.search.label_pool;
        let pool = (pool > 0).then(|| likeliest(&likely, labels.len(), pool, as_word));
        let in_pool = |id: u32| pool.as_ref().is_none_or(|pool| pool.contains(&id));
        let found = best_words(scores.read(), labels.len(), count, |id| as_word(id).filter(|_| in_pool(id)));
        for (label, words) in labels.into_iter().zip(found) {
            if words.is_empty() {
                let message = "no word of this model speaks for it more than for the other labels; give words and remove \
                               search.label_words";
                return Err(Error::key(file, format!("task.verbalizer.{label}"), message));
            }
            let place = self.config.task.verbalizer.iter_mut().find(|(known, _)| *known == label);
            place.expect("labels are those of the run file").1 = words;
        }
        self.task = Task::from_run(&self.config, file, directory, self.model.spec())?;
        self.data = Data::read(&self.config, &self.task, &mut |_| {})?; // what there is to tell was told the first time
        self.columns = self.model.columns(self.task.head.columns(true), gradient);
        self.identity = Identity::new(&self.config, &self.device, &self.base.fingerprint, &self.data, &self.task)?;
        for (label, words) in &self.config.task.verbalizer {
            observe(Event::Note(&format!("label words: {label} = {}", words.join(", "))));
        }
        Ok(())
    }

    /// What the decoder reads at the answers of the training rows, and how likely each word is there: sums over the rows of a
    /// label, `[labels, vocabulary]`.
    fn answers(&self, labels: usize, observe: &mut dyn FnMut(Event<'_>)) -> Result<(Answers, Vec<f64>)> {
        let Search { task, config, model, .. } = self;
        let all = task.clone().with_one_answer(model.spec().causal).dataset(&config.data.train)?;
        let mut chosen = Order::new(all.examples.len(), MOST_ROWS, Some(config.seed)).next_batch().to_vec();
        chosen.sort_unstable();
        let encoded: Vec<&Encoded> = chosen.iter().map(|row| &all.examples[*row].encoded).collect();
        let vectors = match task.template.has_pseudo_tokens() {
            true => Some(self.vectors(&[&self.first_tokens(&self.allowed()?.1)?.0])),
            false => None,
        };
        let prompt = Injection::new(model, vectors, None);
        let gold: Vec<usize> = chosen.iter().map(|row| all.examples[*row].targets[0] as usize).collect();
        let (columns, vocabulary) = (model.columns(None, false), model.decoder_table().rows());
        let (mut rows, mut likely) = (Vec::new(), vec![0.0; labels * vocabulary]);
        for range in packs(&encoded) {
            self.check_stop()?;
            let layout = pack(encoded[range.clone()].iter().copied());
            let h = model.decoder_rows(&layout, &prompt.inject());
            rows.extend(h.read().iter().map(|x| f64::from(*x)));
            let logits = model.logits(&layout, &prompt.inject(), &columns);
            for (logits, gold) in logits.read().chunks_exact(vocabulary).zip(&gold[range.clone()]) {
                let p = softmax(&logits.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
                likely[gold * vocabulary..][..vocabulary].iter_mut().zip(p).for_each(|(sum, p)| *sum += p);
            }
            observe(Event::Evaluating { done: range.end, total: encoded.len() });
        }
        if rows.iter().any(|x| !x.is_finite()) {
            return Err(Error::Failed("the model's rows are not finite numbers; its weights cannot be right".into()));
        }
        Ok((Answers::new(rows, gold, labels), likely))
    }

    /// `v . e` for each label and word, `[labels, vocabulary]`; the rows that `v` was learned from were divided by `scale`.
    fn word_scores(&self, v: &[f64], scale: f64) -> Tensor {
        let table = self.model.decoder_table();
        let mut rows = self.device.zeros(v.len() / table.columns(), table.columns());
        rows.data_mut().iter_mut().zip(v).for_each(|(row, v)| *row = (v / scale) as f32);
        self.device.dense(&rows, table, None)
    }
}

impl Answers {
    /// Brings rows to mean 0, number by number, and all together to mean square 1.
    pub(super) fn new(mut rows: Vec<f64>, gold: Vec<usize>, labels: usize) -> Answers {
        let count = gold.len().max(1);
        let width = rows.len() / count;
        for column in 0..width {
            let mean = rows.iter().skip(column).step_by(width).sum::<f64>() / count as f64;
            rows.iter_mut().skip(column).step_by(width).for_each(|x| *x -= mean);
        }
        let scale = (rows.iter().map(|x| x * x).sum::<f64>() / rows.len().max(1) as f64).sqrt();
        let scale = if scale > 0.0 { scale } else { 1.0 }; // rows that are all alike say nothing
        rows.iter_mut().for_each(|x| *x /= scale);
        Answers { rows, scale, width, gold, labels }
    }

    /// The classifier with the smallest loss.
    pub(super) fn classifier(&self) -> Classifier {
        let Answers { width, labels, .. } = *self;
        let mut found = Classifier { v: vec![0.0; labels * width], b: vec![0.0; labels] };
        let mut moments = vec![(0.0, 0.0); labels * (width + 1)];
        for step in 1..=STEPS {
            let gradient = self.gradient(&found);
            let (fix1, fix2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.999f64.powi(step as i32));
            let d = gradient.v.into_iter().chain(gradient.b);
            let parameters = found.v.iter_mut().chain(&mut found.b);
            for ((x, d), (first, second)) in parameters.zip(d).zip(&mut moments) {
                *first = 0.9 * *first + 0.1 * d;
                *second = 0.999 * *second + 0.001 * d * d;
                *x -= LEARNING_RATE * (*first / fix1) / ((*second / fix2).sqrt() + 1e-8);
            }
        }
        found
    }

    /// The gradient of the loss.
    pub(super) fn gradient(&self, at: &Classifier) -> Classifier {
        let Answers { rows, width, gold, labels, .. } = self;
        let count = gold.len().max(1) as f64;
        let penalty = *width as f64 / count;
        let mut d = Classifier { v: at.v.iter().map(|v| penalty * v).collect(), b: vec![0.0; *labels] };
        for (h, gold) in rows.chunks_exact(*width).zip(gold) {
            let score = |l: usize| dot(&at.v[l * width..(l + 1) * width], h) + at.b[l];
            let mut d_scores = softmax(&(0..*labels).map(score).collect::<Vec<_>>());
            d_scores[*gold] -= 1.0;
            for (l, d_score) in d_scores.iter().map(|d| d / count).enumerate() {
                d.v[l * width..(l + 1) * width].iter_mut().zip(h).for_each(|(d, h)| *d += d_score * h);
                d.b[l] += d_score;
            }
        }
        d
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// For each label the `count` words with the greatest p(l | w) among those that have no greater one for another label, from
/// `scores [labels, vocabulary]`; of equal ones the first id. `word` says what a token is as a word, if it is one.
pub(super) fn best_words(
    scores: &[f32],
    labels: usize,
    count: usize,
    word: impl Fn(u32) -> Option<String>,
) -> Vec<Vec<String>> {
    let vocabulary = scores.len() / labels;
    let mut of_label = vec![Vec::new(); labels];
    for id in 0..vocabulary {
        let all: Vec<f64> = (0..labels).map(|l| f64::from(scores[l * vocabulary + id])).collect();
        let best = (0..labels).fold(0, |best, l| if all[l] > all[best] { l } else { best });
        // p = 1 / (1 + others), and the log of the others tells words apart whose p are 1 to the last digit.
        let second = (0..labels).filter(|l| *l != best).map(|l| all[l]).fold(f64::NEG_INFINITY, f64::max);
        let others: f64 = (0..labels).filter(|l| *l != best).map(|l| (all[l] - second).exp()).sum();
        of_label[best].push((second - all[best] + others.ln(), id as u32));
    }
    let first = |mut words: Vec<(f64, u32)>| {
        words.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        words.into_iter().filter_map(|(_, id)| word(id)).take(count).collect()
    };
    of_label.into_iter().map(first).collect()
}

/// The `count` likeliest words of each label, from `likely [labels, vocabulary]`; of equal ones the first ids.
pub(super) fn likeliest(
    likely: &[f64],
    labels: usize,
    count: usize,
    word: impl Fn(u32) -> Option<String>,
) -> BTreeSet<u32> {
    let mut pool = BTreeSet::new();
    for likely in likely.chunks_exact(likely.len() / labels) {
        let mut ids: Vec<u32> = (0..likely.len() as u32).collect();
        ids.sort_by(|a, b| likely[*b as usize].total_cmp(&likely[*a as usize]));
        pool.extend(ids.into_iter().filter(|id| word(*id).is_some()).take(count));
    }
    pool
}

/// The token as a label word: one that the tokenizer makes this token of at the answer.
fn word(task: &Task, id: u32) -> Option<String> {
    let tokenizer: &Tokenizer = &task.tokenizer;
    if id as usize >= tokenizer.vocab_size() || !super::candidates::is_word(tokenizer, id) {
        return None;
    }
    let text = tokenizer.token(id);
    let same = tokenizer.single_token(&text, task.template.answer_glue()).ok().flatten() == Some(id);
    (same && text.trim() == text).then_some(text)
}

#[cfg(test)]
mod tests;
