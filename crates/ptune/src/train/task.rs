//! A task ready to be asked: template, tokenizer, head; the same for a run, `eval` and `predict`.
//!
//! A *discrete* prompt has tokens of the vocabulary in the places of its pseudo tokens. Several prompts may answer
//! together: then the template is the first of them, an example has the rows of all, and [`Task::weights`] says how their
//! answers are added up.

use std::path::Path;
use std::sync::Arc;

use crate::adapter::{Description, Discrete};
use crate::checkpoint::{Glue, ModelDirectory, Tokenizer, Weights};
use crate::data::{Dataset, Encoder, Example, RowForm};
use crate::method::{Classifier, Head};
use crate::model::Model;
use crate::model::spec::ModelSpec;
use crate::prompt::template::listed;
use crate::prompt::vocabulary::gold_token;
use crate::prompt::{AnswerForm, CausalTail, PieceKind, Template, Verbalizer, Vocabulary};
use crate::tensor::Device;
use crate::train::config::{ANSWER_TOKENS, HeadKind, Loss, RunConfig};
use crate::{Error, Result};

/// The longest row where the run file does not say.
const MAX_TOKENS: usize = 256;

/// What is asked of a model, and how its answers are read.
#[derive(Clone)]
pub struct Task {
    /// The template.
    pub template: Template,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// What turns logits into answers.
    pub head: Head,
    /// The field with the gold label or answer.
    target: String,
    max_tokens: usize,
    prefix_tokens: Option<usize>,
    answer: AnswerForm,
    /// The tokens that the family puts before and behind a text.
    around: [Vec<u32>; 2],
    causal_tail: CausalTail,
    /// The token of each prompt row of a discrete prompt.
    tokens: Vec<u32>,
    /// Templates that answer together with the first.
    others: Vec<Template>,
    weights: Vec<f32>,
}

impl Task {
    /// The task of a run file. `file` is the run file, for messages.
    ///
    /// # Errors
    /// Everything that is wrong with the template, the label words, the vocabulary file or the tokenizer.
    pub fn from_run(config: &RunConfig, file: &Path, directory: &ModelDirectory, spec: &ModelSpec) -> Result<Task> {
        let (task, prefix_tokens) = (&config.task, config.prompt.prefix_tokens);
        let positions = positions_behind(prefix_tokens, file, "prompt.prefix_tokens", spec)?;
        let max_tokens = config.data.max_tokens.unwrap_or(MAX_TOKENS.min(positions));
        if max_tokens > positions {
            let behind = prefix_tokens.map_or(String::new(), |rows| format!(" behind a prefix of {rows}"));
            let message = format!("{max_tokens} is more than the {positions} positions of this model{behind}");
            return Err(Error::key(file, "data.max_tokens", message));
        }
        let template = template_for(&task.template, config.head(), task.causal_tail, file, spec)?;
        let tokenizer = Arc::new(open_tokenizer(directory, spec)?);
        let glue = template.answer_glue();
        let head = if let Some(labels) = task.labels.as_ref().filter(|_| config.head() == HeadKind::Classifier) {
            Head::Classifier(labels.clone())
        } else if config.is_text() {
            text_head((file, "task.answer"), &tokenizer, spec, task.answer_tokens.unwrap_or(ANSWER_TOKENS), max_tokens)?
        } else if config.is_probing() {
            let read = |path| Vocabulary::read(path, task.vocabulary_key.as_deref(), &tokenizer, glue);
            let candidates = task.vocabulary.as_deref().map(read).transpose()?;
            Head::Vocabulary { candidates, restrict_loss: task.loss == Loss::Vocabulary }
        } else {
            Head::Verbalizer(Verbalizer::new(file, &task.verbalizer, &tokenizer, glue, spec.causal)?)
        };
        Ok(Task::new(template, tokenizer, head, &task.target, max_tokens, prefix_tokens, task.causal_tail, spec))
    }

    /// The task of an adapter. `file` is its description, for messages.
    ///
    /// # Errors
    /// A description that does not fit this model, which a matching fingerprint excludes unless it was edited.
    pub fn from_adapter(
        description: &Description,
        file: &Path,
        directory: &ModelDirectory,
        spec: &ModelSpec,
    ) -> Result<Task> {
        let prefix_tokens = description.prefix_tokens;
        let positions = positions_behind(prefix_tokens, file, "task.prefix_tokens", spec)?;
        if description.max_tokens > positions {
            let message = format!("more than the {positions} positions of this model");
            return Err(Error::key(file, "task.max_tokens", message));
        }
        let classifier = description.head.as_deref() == Some(HeadKind::Classifier.name());
        let kind = if classifier { HeadKind::Classifier } else { HeadKind::Verbalizer };
        let template = template_for(&description.template, kind, description.causal_tail, file, spec)?;
        let tokenizer = Arc::new(open_tokenizer(directory, spec)?);
        let head = if classifier {
            Head::Classifier(description.labels.iter().map(|(label, _)| label.clone()).collect())
        } else if let Some(longest) = description.answer_tokens {
            text_head((file, "task.answer_tokens"), &tokenizer, spec, longest, description.max_tokens)?
        } else if description.labels.is_empty() {
            let candidates = match &description.vocabulary {
                Some(ids) if ids.last().is_some_and(|id| *id as usize >= spec.vocabulary) => {
                    return Err(Error::key(file, "vocabulary", "has tokens that this model does not have"));
                }
                ids => ids.clone().map(Vocabulary::from_tokens),
            };
            Head::Vocabulary { candidates, restrict_loss: false }
        } else {
            let glue = template.answer_glue();
            Head::Verbalizer(Verbalizer::new(file, &description.labels, &tokenizer, glue, spec.causal)?)
        };
        let Description { target, max_tokens, causal_tail, discrete, .. } = description;
        Task::new(template, tokenizer, head, target, *max_tokens, prefix_tokens, *causal_tail, spec)
            .with_discrete(discrete, file, spec)
    }

    fn new(
        template: Template,
        tokenizer: Arc<Tokenizer>,
        head: Head,
        target: &str,
        max_tokens: usize,
        prefix_tokens: Option<usize>,
        causal_tail: CausalTail,
        spec: &ModelSpec,
    ) -> Task {
        Task {
            answer: head.answer_form(spec),
            around: tokens_around(spec, &tokenizer),
            tokenizer,
            target: target.into(),
            tokens: Vec::new(),
            others: Vec::new(),
            weights: Vec::new(),
            template,
            head,
            max_tokens,
            prefix_tokens,
            causal_tail,
        }
    }

    /// The same with what an adapter has in the place of vectors. `file` is its description.
    fn with_discrete(mut self, discrete: &Discrete, file: &Path, spec: &ModelSpec) -> Result<Task> {
        let Discrete { tokens, prompts } = discrete;
        if tokens.iter().any(|id| *id as usize >= spec.vocabulary) {
            return Err(Error::key(file, "task.discrete.tokens", "has tokens that this model does not have"));
        }
        if !tokens.is_empty() && tokens.len() != self.template.pseudo_rows() {
            let (needs, has) = (self.template.pseudo_rows(), tokens.len());
            let message = format!("the template needs {needs} tokens, and there are {has}");
            return Err(Error::key(file, "task.discrete.tokens", message));
        }
        self.tokens = tokens.clone();
        let templates = prompts.iter().map(|prompt| self.prompt(&prompt.template)).collect::<Result<Vec<_>>>()?;
        Ok(self.answered_by(templates, prompts.iter().map(|prompt| prompt.weight)))
    }

    /// The template of another prompt for the same question: without pseudo tokens, and with the same tokens as answers.
    ///
    /// # Errors
    /// What is wrong with it, with a caret.
    pub(crate) fn prompt(&self, source: &str) -> Result<Template> {
        let template = Template::parse(source)?;
        let template = if self.causal_tail == CausalTail::Drop { template.without_tail() } else { template };
        if let Some((piece, _)) = template.pseudo().next() {
            return Err(template.error(piece, "a prompt of words alone is wanted here, without pseudo tokens"));
        }
        // Whether a word has a mark of the space before it is the tokenizer's, not the word's: one word shows it.
        let answer = |glue| self.tokenizer.encode("a", glue);
        if answer(template.answer_glue())? != answer(self.template.answer_glue())? {
            let mask = template.pieces().iter().find(|piece| piece.kind == PieceKind::Mask);
            let message = "here the answers have other tokens than in task.template: put white space before [MASK], or \
                           text, as it has it";
            return Err(mask.map_or_else(|| Error::request(message), |mask| template.error(mask, message)));
        }
        self.encoder_of(&template)?;
        Ok(template)
    }

    /// The same question asked by other prompts, whose answers are added up with these weights.
    pub(crate) fn answered_by(mut self, prompts: Vec<Template>, weights: impl Iterator<Item = f64>) -> Task {
        let mut prompts = prompts.into_iter();
        if let Some(first) = prompts.next() {
            (self.template, self.tokens) = (first, Vec::new());
            self.weights = weights.map(|weight| weight as f32).collect();
            self.others = prompts.collect();
        }
        self
    }

    /// The same question with one answer row, whatever rows the label words need.
    pub(crate) fn with_one_answer(self, causal: bool) -> Task {
        Task { answer: AnswerForm::one_token(causal), ..self }
    }

    /// What the answers of prompts that answer together are multiplied by; empty for one prompt alone.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// How many vectors its pseudo tokens need.
    pub fn prompt_rows(&self) -> usize {
        if self.tokens.is_empty() { self.template.pseudo_rows() } else { 0 }
    }

    /// The longest row that it accepts.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whether every row begins with a token of the family's own.
    pub(crate) fn has_start_token(&self) -> bool {
        !self.around[0].is_empty()
    }

    /// Rows of the prefix that every row stands behind; `None` without one.
    pub fn prefix_tokens(&self) -> Option<usize> {
        self.prefix_tokens
    }

    /// Turns examples into rows of tokens.
    ///
    /// # Errors
    /// A special token that the template needs and the model lacks; a template that a causal model cannot answer.
    pub fn encoder(&self) -> Result<Encoder<'_>> {
        let others = self.others.iter().map(|template| self.encoder_of(template)).collect::<Result<_>>()?;
        Ok(self.encoder_of(&self.template)?.with_discrete(&self.tokens).with_others(others))
    }

    fn encoder_of<'a>(&'a self, template: &'a Template) -> Result<Encoder<'a>> {
        let [start, end] = self.around.clone();
        let form = RowForm { max_tokens: self.max_tokens, start, end, answer: self.answer.clone() };
        Encoder::new(template, &self.tokenizer, form)
    }

    /// Reads a labelled file whole.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn dataset(&self, file: &Path) -> Result<Dataset> {
        Dataset::read(file, &self.encoder()?, &self.target, |text| self.gold(text))
    }

    /// The same of examples that are in memory.
    ///
    /// # Errors
    /// As [`Dataset::encode`].
    pub fn rows(&self, examples: &[Example]) -> Result<Dataset> {
        Dataset::encode(examples, &self.encoder()?, &self.target, |text| self.gold(text))
    }

    /// The targets that a gold label or answer means; none where its row is to be dropped.
    fn gold(&self, text: &str) -> std::result::Result<Option<Vec<u32>>, String> {
        let glue = self.template.answer_glue();
        match &self.head {
            Head::Verbalizer(verbalizer) => verbalizer.target(text).map(|label| Some(vec![label])),
            Head::Vocabulary { candidates, .. } => {
                let token = gold_token(candidates.as_ref(), &self.tokenizer, glue, text)?;
                Ok(token.map(|token| vec![token]))
            }
            Head::Text { end, longest, .. } => text_targets(&self.tokenizer, glue, text, *end, *longest).map(Some),
            Head::Classifier(labels) => match labels.iter().position(|label| label == text) {
                Some(label) => Ok(Some(vec![label as u32])),
                None => {
                    let known: Vec<&str> = labels.iter().map(String::as_str).collect();
                    Err(format!("the label '{text}' is missing from task.labels, which has {}", listed(&known)))
                }
            },
        }
    }
}

/// The positions of the model that a prefix leaves to a text: positions of the text go on behind it.
fn positions_behind(prefix: Option<usize>, file: &Path, key: &str, spec: &ModelSpec) -> Result<usize> {
    match spec.positions.checked_sub(prefix.unwrap_or(0)) {
        Some(left @ 1..) => Ok(left),
        _ => {
            let message =
                format!("takes all of the {} positions of this model; nothing is left for a text", spec.positions);
            Err(Error::key(file, key, message))
        }
    }
}

/// The head of a task whose answers are texts; `key` of `file` says that they are.
fn text_head(
    (file, key): (&Path, &str),
    tokenizer: &Arc<Tokenizer>,
    spec: &ModelSpec,
    longest: usize,
    max_tokens: usize,
) -> Result<Head> {
    if !spec.causal {
        let message = format!(
            "a text is written by a causal model, from left to right; this one ({}) is masked: give a verbalizer, or \
             leave the key out to ask for one word",
            spec.family
        );
        return Err(Error::key(file, key, message));
    }
    if longest >= max_tokens {
        let message = format!("{longest} leaves no room for a question: a row has at most {max_tokens} tokens");
        return Err(Error::key(file, "task.answer_tokens", message));
    }
    let message = "the tokenizer names no end-of-text token (eos_token), so nothing would end an answer";
    let end = tokenizer.special().eos.ok_or_else(|| Error::file(tokenizer.file(), message))?;
    Ok(Head::Text { end, longest, tokenizer: Arc::clone(tokenizer) })
}

/// The tokens of a text behind the question, and the end token.
fn text_targets(
    tokenizer: &Tokenizer,
    glue: Glue,
    text: &str,
    end: u32,
    longest: usize,
) -> std::result::Result<Vec<u32>, String> {
    let mut tokens = tokenizer.encode(text, glue).map_err(|error| error.to_string())?;
    if tokens.is_empty() {
        return Err("the answer is empty: there is nothing to learn from it".into());
    }
    if tokens.len() > longest {
        let message = "which must leave room for the longest answer: raise it, or shorten the answer";
        return Err(format!("the answer has {} tokens, task.answer_tokens is {longest}, {message}", tokens.len()));
    }
    tokens.push(end);
    Ok(tokens)
}

/// The template as this model can use it. `file` is the run file or the adapter's description.
fn template_for(source: &str, head: HeadKind, tail: CausalTail, file: &Path, spec: &ModelSpec) -> Result<Template> {
    if head == HeadKind::Classifier {
        return Template::parse_whole(source);
    }
    let template = Template::parse(source)?;
    match (tail, spec.causal) {
        (CausalTail::Error, _) => Ok(template),
        (CausalTail::Drop, true) => Ok(template.without_tail()),
        (CausalTail::Drop, false) => {
            let message = format!(
                "\"drop\" is for causal models; this one ({}) sees what stands behind [MASK]: remove the key",
                spec.family
            );
            Err(Error::key(file, "task.causal_tail", message))
        }
    }
}

/// The tokens that a family puts before and behind a text: its class and separator tokens, or what its tokenizer puts in
/// front.
pub(crate) fn tokens_around(spec: &ModelSpec, tokenizer: &Tokenizer) -> [Vec<u32>; 2] {
    let special = tokenizer.special();
    match (spec.enclosed, spec.begins) {
        (true, _) => [special.cls, special.sep].map(|token| token.into_iter().collect()),
        (false, true) => [tokenizer.beginning().to_vec(), Vec::new()],
        (false, false) => [Vec::new(), Vec::new()],
    }
}

/// Opens the tokenizer and checks that the model has an embedding for each of its tokens.
pub(crate) fn open_tokenizer(directory: &ModelDirectory, spec: &ModelSpec) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::open(directory.path())?;
    if tokenizer.vocab_size() > spec.vocabulary {
        let message = format!(
            "the tokenizer has {} tokens, but config.json says vocab_size {}: they are not of the same model",
            tokenizer.vocab_size(),
            spec.vocabulary
        );
        return Err(Error::file(tokenizer.file(), message));
    }
    Ok(tokenizer)
}

/// The classifier among the trained weights of an adapter; `None` where the head is no classifier.
///
/// # Errors
/// No classifier where the head is one, or one of other sizes.
pub(crate) fn classifier_in(
    tuned: &[Weights],
    model: &Model,
    head: &Head,
    device: &Device,
) -> Result<Option<Classifier>> {
    let Head::Classifier(labels) = head else { return Ok(None) };
    let message = "the adapter's head is a classifier, and it has none: head.safetensors is missing";
    let file = tuned.iter().find(|file| Classifier::is_in(file)).ok_or_else(|| Error::request(message))?;
    let spec = model.spec();
    Classifier::read(device, &spec.classifier, spec.hidden, labels.len(), file).map(Some)
}
