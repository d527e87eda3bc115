//! Evaluation: rows -> answers, the same path for a run's dev set, `ptune eval` and `ptune predict`.
//!
//! Rows are packed by their number, not sorted or padded: an answer does not depend on the rows it is computed with.

use std::borrow::Cow;
use std::ops::Range;

use crate::data::{Dataset, Encoded, Labelled, pack};
use crate::generate::{Sought, Writer};
use crate::method::{Classifier, Head, Injection};
use crate::model::{Additions, Columns, Inject, Model};
use crate::tensor::Device;
use crate::train::metrics::{self, Metrics};
use crate::{Error, Result};

/// Packed rows computed together: enough to use every weight many times, few enough to stay in the cache.
const PACKED_ROWS: usize = 1024;
/// Answer rows computed together: the logits of a whole vocabulary take up to a megabyte a row.
const PACKED_ANSWERS: usize = 128;

const NOT_FINITE: &str = "the model's answers are not finite numbers; its weights or its config.json cannot be right, \
                          or the prompt was trained at too high a learning rate";

/// A model with a prompt in place: all that answers need.
pub struct Scorer<'a> {
    /// Where it is done.
    pub device: &'a Device,
    /// The frozen model.
    pub model: &'a Model,
    /// Columns of its head: those of [`Head::columns`], `training` or not.
    pub columns: &'a Columns,
    /// Their token ids; `None` for the whole vocabulary.
    pub column_ids: Option<&'a [u32]>,
    /// What turns logits into answers.
    pub head: &'a Head,
    /// The prompt.
    pub prompt: &'a Injection,
    /// What scores the labels, where the head is a classifier.
    pub classifier: Option<&'a Classifier>,
    /// Low-rank additions to the model.
    pub additions: Option<&'a Additions>,
    /// What the scores of prompts that answer together are multiplied by; empty where one answers alone.
    pub weights: &'a [f32],
}

impl Scorer<'_> {
    /// Calls `each(example, scores)` for every example in order. With a verbalizer the scores are those of the labels,
    /// else those of the candidates in order (of the whole vocabulary where there are none).
    /// `progress(done, total)` counts examples; its error ends the work.
    ///
    /// # Errors
    /// A score that is not finite: the numbers of the model or the prompt make no sense together, and neither would
    /// any answer.
    pub fn score(
        &self,
        examples: &[&Encoded],
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let (inject, prefix) = (self.inject(), self.prompt.prefix_rows());
        // A classifier's rows are as narrow as the model's.
        let most_answers = if self.classifier.is_some() { PACKED_ROWS } else { PACKED_ANSWERS };
        for range in packs_of(examples, most_answers) {
            let layout = pack(examples[range.clone()].iter().copied()).behind(prefix);
            let logits = self.model.logits(&layout, &inject, self.columns);
            let scores = match self.classifier {
                Some(classifier) => classifier.forward(self.device, logits, classifier.groups(&layout)).0,
                None => self.head.scores(self.device, &logits, self.column_ids),
            };
            let prompts = self.weights.len().max(1);
            for (i, rows) in scores.read().chunks_exact(prompts * scores.columns()).enumerate() {
                let row = &*added_up(rows, self.weights);
                if row.iter().any(|score| !score.is_finite()) {
                    return Err(Error::Failed(NOT_FINITE.into()));
                }
                each(range.start + i, row);
            }
            progress(range.end, examples.len())?;
        }
        Ok(())
    }

    /// The metrics of a labelled file: accuracy and macro-F1 with a verbalizer; P@1, P@10, MRR and how many rows were
    /// kept and dropped else; and the majority baseline. Of texts perplexity, the loss of
    /// a token, and how many are written as they are.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn evaluate(&self, data: &Dataset, progress: &mut dyn FnMut(usize, usize) -> Result<()>) -> Result<Metrics> {
        let examples: Vec<&Encoded> = data.examples.iter().map(|row| &row.encoded).collect();
        let gold: Vec<usize> = data.examples.iter().map(|row| row.targets[0] as usize).collect();
        match self.head {
            Head::Verbalizer(_) | Head::Classifier(_) => {
                let labels = self.head.labels().map_or(0, |labels| labels.len());
                let mut answers = Vec::with_capacity(examples.len());
                self.score(&examples, progress, |_, scores| answers.push(metrics::argmax(scores)))?;
                Ok(metrics::classification(&answers, &gold, labels).into())
            }
            Head::Vocabulary { candidates, .. } => {
                let mut ranks = Vec::with_capacity(examples.len());
                self.score(&examples, progress, |i, scores| {
                    let column = match candidates {
                        Some(vocabulary) => vocabulary.column(data.examples[i].targets[0]),
                        None => Some(gold[i]),
                    };
                    // A dataset keeps only rows whose answer is a candidate; any other would be ranked last.
                    ranks.push(column.map_or(scores.len(), |column| metrics::rank(scores, column)));
                })?;
                let mut found: Metrics = metrics::probing(&ranks, &gold).into();
                found.set("kept", data.kept);
                found.set("dropped", data.dropped);
                Ok(found)
            }
            Head::Text { end, longest, tokenizer } => {
                let Scorer { device, model, columns, .. } = *self;
                let inject = self.inject();
                let writer = Writer { device, model, columns, inject, tokenizer, end: *end };
                self.evaluate_texts(data, &writer, *longest, progress)
            }
        }
    }
}

impl Scorer<'_> {
    fn inject(&self) -> Inject<'_> {
        self.prompt.inject().with_lora(self.additions)
    }

    /// All metrics of texts, from the logits before every token of the answers. A model that writes the likeliest token
    /// each time writes an answer in its own tokens exactly where each of them, and the end, is the likeliest behind those before
    /// it: so nothing has to be written to know that. Where another token may begin the same text, `writer` goes on.
    fn evaluate_texts(
        &self,
        data: &Dataset,
        writer: &Writer<'_>,
        longest: usize,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Metrics> {
        let examples: Vec<&Encoded> = data.examples.iter().map(|row| &row.encoded).collect();
        let (inject, prefix) = (&writer.inject, self.prompt.prefix_rows());
        let (mut losses, mut matches) = (Vec::new(), 0);
        for range in packs(&examples) {
            let layout = pack(examples[range.clone()].iter().copied()).behind(prefix);
            let rows = &data.examples[range.clone()];
            let targets: Vec<u32> = rows.iter().flat_map(|row| &row.targets).copied().collect();
            let logits = self.model.logits(&layout, inject, self.columns);
            losses.extend_from_slice(self.device.cross_entropy(&logits, &targets).0.read());
            if losses.iter().any(|loss| !loss.is_finite()) {
                return Err(Error::Failed(NOT_FINITE.into()));
            }
            let mut likeliest = logits.read().chunks_exact(logits.columns()).map(|row| metrics::argmax(row) as u32);
            let mut sought = Vec::new();
            for Labelled { encoded: row, targets } in rows {
                let tokens: Vec<u32> = likeliest.by_ref().take(targets.len()).collect();
                match tokens.iter().zip(targets).position(|(token, target)| token != target) {
                    Some(agreed) => sought.push(Sought { row, targets, agreed, other: tokens[agreed] }),
                    None => matches += 1,
                }
            }
            matches += writer.write_the_same(&sought, longest)?.into_iter().filter(|same| *same).count();
            progress(range.end, examples.len())?;
        }
        Ok(metrics::text(&losses, matches, examples.len()).into())
    }
}

/// The answer of prompts together: `score[y] = sum over prompts i of weight[i] * score_i[y]`, from the scores of each, one
/// prompt behind the other. Log-probabilities and raw logits come to the same: they differ by a number that all `y` of a
/// prompt have in common, which neither the order of the sums nor their softmax sees.
fn added_up<'s>(scores: &'s [f32], weights: &[f32]) -> Cow<'s, [f32]> {
    if weights.is_empty() {
        return Cow::Borrowed(scores);
    }
    let mut sums = vec![0.0; scores.len() / weights.len()];
    for (scores, weight) in scores.chunks_exact(sums.len()).zip(weights) {
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
    }
    Cow::Owned(sums)
}

/// Ranges of consecutive examples with up to [`PACKED_ROWS`] and [`PACKED_ANSWERS`] together, at least one example each.
pub(crate) fn packs(examples: &[&Encoded]) -> Vec<Range<usize>> {
    packs_of(examples, PACKED_ANSWERS)
}

fn packs_of(examples: &[&Encoded], most_answers: usize) -> Vec<Range<usize>> {
    let mut packs = Vec::new();
    let (mut start, mut rows, mut answers) = (0, 0, 0);
    for (i, example) in examples.iter().enumerate() {
        // What examples begin with alike is packed once.
        let own = example.tokens.len() - example.leading;
        let full = rows + own > PACKED_ROWS || answers + example.answers.len() > most_answers;
        if i > start && full {
            packs.push(start..i);
            (start, rows, answers) = (i, 0, 0);
        }
        rows += own + if i == start { example.leading } else { 0 };
        answers += example.answers.len();
    }
    if start < examples.len() {
        packs.push(start..examples.len());
    }
    packs
}
