//! The values of a run file: ranges, keys that exclude or need each other. Nothing after this has to ask again.

use std::collections::BTreeMap;
use std::path::Path;

use crate::prompt::encoder::{EncoderKind, Shapes};

use super::{
    BackboneConfig, BackboneMode, Compute, HeadKind, LARGEST_SEED, Loss, Metric, PromptConfig, RunConfig, TaskConfig,
};
use crate::error::{Error, Result};
use crate::keys::{Checked, check, optionally_within, required, within};

/// More steps than any run will see; products with the batch size stay far below 2^64.
const MOST_STEPS: usize = 1_000_000_000;
const MOST_EPOCHS: usize = 1_000_000;
const MOST_EXAMPLES_A_STEP: usize = 65_536;
const MOST_TOKENS: usize = 65_536;
/// A terabyte.
const MOST_MEGABYTES: usize = 1 << 20;
const MOST_THREADS: usize = 1024;
/// An LSTM this wide has a thousand million numbers a layer.
const LARGEST_ENCODER: usize = 8192;
const MOST_ENCODER_LAYERS: usize = 16;
/// As of the pseudo tokens of one piece.
const MOST_PREFIX_TOKENS: usize = 1000;
/// No optimiser survives more; it is far inside f32, in which the training computes.
const LARGEST_RATE: f64 = 1000.0;
/// With more there is hardly a model left.
const LARGEST_DROPOUT: f64 = 0.9;

impl RunConfig {
    /// Checks every value of the run file `file`.
    pub(super) fn check(&self, file: &Path) -> Result<()> {
        let checks = [self.check_top(), self.check_data(), self.check_task(), self.check_verbalizer()];
        let mut checks = checks.into_iter().chain([
            self.check_head(),
            self.check_prompt(),
            self.check_backbone(),
            self.check_length(),
            self.check_train(),
            self.search.check(),
            self.sensitivity.check(),
        ]);
        match checks.find_map(std::result::Result::err) {
            Some((key, message)) => Err(Error::key(file, key, message)),
            None => Ok(()),
        }
    }

    /// Refuses a run that trains and does not say how long. A manual prompt trains nothing and needs no length.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn require_length(&self, file: &Path) -> Result<()> {
        if self.train.steps.is_some() || self.train.epochs.is_some() {
            return Ok(());
        }
        let message = "is missing; give the length of the run as train.steps = 500 or train.epochs = 20";
        Err(Error::key(file, "train.steps", message))
    }

    fn check_top(&self) -> Checked {
        required(
            "model",
            !self.model.as_os_str().is_empty(),
            "the path of a Hugging Face model directory, or its name in the cache",
        )?;
        within("seed", self.seed, 0, LARGEST_SEED)?;
        optionally_within("threads", self.threads, MOST_THREADS)
    }

    fn check_data(&self) -> Checked {
        required("data.train", !self.data.train.as_os_str().is_empty(), "a file with a JSON object a line")?;
        for (key, path) in [("data.dev", &self.data.dev), ("data.test", &self.data.test)] {
            let empty = path.as_ref().is_some_and(|path| path.as_os_str().is_empty());
            check(!empty, key, "is empty; name a file or remove the key")?;
        }
        within("data.max_tokens", self.data.max_tokens.unwrap_or(1), 1, MOST_TOKENS)
    }

    fn check_task(&self) -> Checked {
        let task = &self.task;
        required("task.template", !task.template.trim().is_empty(), "the text around an example, with one [MASK]")?;
        check(!task.target.is_empty(), "task.target", "is empty; name the field with the gold label or answer")?;
        let vocabulary = &task.vocabulary;
        let empty = vocabulary.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        check(!empty, "task.vocabulary", "is empty; name a file or remove the key")?;
        let message = "is how long a text may be; it needs task.answer = \"text\"";
        check(task.answer_tokens.is_none() || self.is_text(), "task.answer_tokens", message)?;
        optionally_within("task.answer_tokens", task.answer_tokens, MOST_TOKENS)?;
        if self.is_text() {
            let message = "\"text\" has no label words; remove it or [task.verbalizer]";
            check(task.verbalizer.is_empty(), "task.answer", message)?;
            check(task.head.is_none(), "task.head", "says what answers where no text does; remove it or task.answer")?;
        }
        if !self.is_probing() {
            let message =
                "is for probing, where there is no verbalizer, and neither a classifier nor a text answers; remove it";
            check(vocabulary.is_none(), "task.vocabulary", message)?;
            check(task.vocabulary_key.is_none(), "task.vocabulary_key", message)?;
            check(task.loss == Loss::Full, "task.loss", "\"vocabulary\" is for probing; remove it")?;
        }
        let message = "chooses a list of task.vocabulary, which is missing";
        check(task.vocabulary_key.is_none() || vocabulary.is_some(), "task.vocabulary_key", message)?;
        let message = "\"vocabulary\" needs task.vocabulary, the file with the candidate answers";
        check(task.loss == Loss::Full || vocabulary.is_some(), "task.loss", message)
    }

    fn check_head(&self) -> Checked {
        let TaskConfig { head, labels, verbalizer, .. } = &self.task;
        let (words, classifier) = (!verbalizer.is_empty(), self.head() == HeadKind::Classifier);
        let message = "\"verbalizer\" needs [task.verbalizer], the words of each label";
        check(*head != Some(HeadKind::Verbalizer) || words, "task.head", message)?;
        let message = "has no use for the words of [task.verbalizer]; remove one of them";
        check(!words || self.head() == HeadKind::Verbalizer, "task.head", message)?;
        let message = "is for a classifier; set task.head = \"classifier\" or remove the key";
        check(labels.is_none() || classifier, "task.labels", message)?;
        let labels = labels.as_deref().unwrap_or(&[]);
        let message = "needs at least two labels of a classifier: [\"entailment\", \"not_entailment\"]";
        check(!classifier || labels.len() > 1, "task.labels", message)?;
        check(labels.iter().all(|label| !label.is_empty()), "task.labels", "a label cannot be empty")?;
        let twice = labels.iter().enumerate().find(|(i, label)| labels[..*i].contains(label)).map(|(_, label)| label);
        let message = format!("the label '{}' is there twice", twice.map_or("", String::as_str));
        check(twice.is_none(), "task.labels", message)?;
        let message = "is for templates with a [MASK], and a classifier's has none; remove it";
        check(!classifier || self.task.causal_tail.is_error(), "task.causal_tail", message)
    }

    fn check_verbalizer(&self) -> Checked {
        let labels = &self.task.verbalizer;
        check(labels.len() != 1, "task.verbalizer", "has one label; a classification needs at least two")?;
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (label, words) in labels {
            let key = format!("task.verbalizer.{label}");
            check(!label.is_empty(), &key, "a label cannot be empty")?;
            check(!words.is_empty(), &key, "has no word; give at least one: [\"yes\"]")?;
            for word in words {
                check(!word.trim().is_empty(), &key, "has an empty word")?;
                let owner = owners.insert(word, label);
                check(
                    owner.is_none(),
                    &key,
                    format!("the word '{word}' stands for '{}' too", owner.unwrap_or_default()),
                )?;
            }
        }
        Ok(())
    }

    fn check_prompt(&self) -> Checked {
        let prompt = &self.prompt;
        let (peft, kind) = (prompt.shapes == Shapes::Peft, prompt.encoder);
        let given = prompt.hidden_size.is_some();
        let message = format!("is fixed in the shapes \"{}\"; it needs prompt.shapes = \"peft\"", prompt.shapes.name());
        check(peft || !given, "prompt.hidden_size", &message)?;
        check(peft || prompt.layers.is_none(), "prompt.layers", message)?;
        let message = "an embedding has no hidden layer; remove the key";
        check(!given || kind != EncoderKind::Embedding, "prompt.hidden_size", message)?;
        let message = format!("is for the lstm; prompt.encoder is \"{}\"", kind.name());
        check(prompt.layers.is_none() || kind == EncoderKind::Lstm, "prompt.layers", message)?;
        optionally_within("prompt.hidden_size", prompt.hidden_size, LARGEST_ENCODER)?;
        optionally_within("prompt.layers", prompt.layers, MOST_ENCODER_LAYERS)?;
        self.check_prefix()
    }

    fn check_prefix(&self) -> Checked {
        let PromptConfig { prefix_tokens, prefix_hidden_size, prefix_init, prefix_text, .. } = &self.prompt;
        optionally_within("prompt.prefix_tokens", *prefix_tokens, MOST_PREFIX_TOKENS)?;
        let needs_prefix = [
            ("prompt.prefix_hidden_size", prefix_hidden_size.is_some()),
            ("prompt.prefix_init", prefix_init.is_some()),
            ("prompt.prefix_text", prefix_text.is_some()),
        ];
        for (key, given) in needs_prefix {
            check(!given || prefix_tokens.is_some(), key, "is for a prefix; give prompt.prefix_tokens or remove it")?;
        }
        optionally_within("prompt.prefix_hidden_size", *prefix_hidden_size, LARGEST_ENCODER)?;
        let message = "and prompt.prefix_init both say where the prefix starts; keep one of them";
        check(prefix_text.is_none() || prefix_init.is_none(), "prompt.prefix_text", message)?;
        let message = "starts a plain table, not one that is projected; remove prompt.prefix_hidden_size";
        check(prefix_text.is_none() || prefix_hidden_size.is_none(), "prompt.prefix_text", message)?;
        let empty = prefix_text.as_ref().is_some_and(|text| text.trim().is_empty());
        check(!empty, "prompt.prefix_text", "is empty; give a text or remove the key")
    }

    fn check_backbone(&self) -> Checked {
        let (dropout, train, mode) = (self.backbone.dropout, &self.train, self.backbone.mode);
        let (full, lora) = (mode.is_full(), mode == BackboneMode::Lora);
        let message = "\"bf16\" is for a model whose weights stay; use f32 or auto";
        check(!full || self.compute != Compute::Bf16, "compute", message)?;
        let message = format!("{dropout}: must be from 0 (off) to {LARGEST_DROPOUT}");
        check((0.0..=LARGEST_DROPOUT).contains(&dropout), "backbone.dropout", message)?;
        let of_trained = [
            ("train.backbone_learning_rate", train.backbone_learning_rate, full || lora),
            ("train.backbone_weight_decay", train.backbone_weight_decay, full || lora),
        ];
        for (key, value, allowed) in of_trained {
            let message = "is for a trained model; set backbone.mode = \"full\" or remove the key";
            check(value.is_none() || allowed, key, message)?;
        }
        let message =
            "is for a trained head; set task.head = \"classifier\" or backbone.mode = \"full\", or remove the key";
        let trained = full || self.head() == HeadKind::Classifier;
        check(train.head_learning_rate.is_none() || trained, "train.head_learning_rate", message)?;
        let BackboneConfig { lora_rank, lora_alpha, lora_rslora, lora_targets, .. } = &self.backbone;
        let of_lora = [
            ("backbone.lora_rank", lora_rank.is_some()),
            ("backbone.lora_alpha", lora_alpha.is_some()),
            ("backbone.lora_rslora", lora_rslora.is_some()),
            ("backbone.lora_targets", lora_targets.is_some()),
        ];
        for (key, given) in of_lora {
            check(lora || !given, key, "is for low-rank additions; set backbone.mode = \"lora\" or remove the key")?;
        }
        self.backbone.lora().map_or(Ok(()), |lora| lora.check("backbone.lora_"))
    }

    fn check_length(&self) -> Checked {
        let train = &self.train;
        let both = train.steps.is_some() && train.epochs.is_some();
        check(!both, "train.steps", "and train.epochs are both there; keep one of them")?;
        optionally_within("train.steps", train.steps, MOST_STEPS)?;
        optionally_within("train.epochs", train.epochs, MOST_EPOCHS)?;
        optionally_within("train.eval_every", train.eval_every, MOST_STEPS)?;
        within("train.warmup_steps", train.warmup_steps, 0, train.steps.unwrap_or(MOST_STEPS))
    }

    fn check_train(&self) -> Checked {
        let train = &self.train;
        within("train.batch_size", train.batch_size, 1, MOST_EXAMPLES_A_STEP)?;
        let rates = [
            ("train.learning_rate", Some(train.learning_rate)),
            ("train.backbone_learning_rate", train.backbone_learning_rate),
            ("train.head_learning_rate", train.head_learning_rate),
        ];
        for (key, rate) in rates.into_iter().filter_map(|(key, rate)| Some((key, rate?))) {
            let positive = rate as f32 > 0.0 && rate <= LARGEST_RATE;
            check(positive, key, format!("{rate}: must be above 0 and at most {LARGEST_RATE}"))?;
        }
        let decays = [
            ("train.weight_decay", train.weight_decay),
            ("train.backbone_weight_decay", train.backbone_weight_decay.unwrap_or(0.0)),
            ("train.clip_norm", train.clip_norm),
        ];
        for (key, value) in decays {
            let message = format!("{value}: must be from 0 (off) to {LARGEST_RATE}");
            check((0.0..=LARGEST_RATE).contains(&value), key, message)?;
        }
        let message = format!("{}: must be above 0 and at most 1", train.decay);
        check(train.decay > 0.0 && train.decay <= 1.0, "train.decay", message)?;
        within("train.save_every", train.save_every, 1, MOST_STEPS)?;
        within("train.keep_mb", train.keep_mb, 0, MOST_MEGABYTES)?;
        within("train.patience", train.patience, 0, MOST_STEPS)?;
        let message = "stops on the dev examples; give data.dev or remove the key";
        check(train.patience == 0 || self.data.dev.is_some(), "train.patience", message)?;
        self.check_select()
    }

    fn check_select(&self) -> Checked {
        let (of_task, metrics): (_, &[Metric]) = match () {
            () if self.is_text() => ("where the answer is a text", &[Metric::Perplexity, Metric::ExactMatch]),
            () if self.is_probing() => ("without labels", &[Metric::PAt1, Metric::PAt10, Metric::Mrr]),
            () => ("with labels", &[Metric::Accuracy, Metric::MacroF1]),
        };
        let allowed = metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ");
        let message = format!("\"{}\": {of_task}, it is one of: {allowed}", self.select().name());
        check(metrics.contains(&self.select()), "train.select", message)
    }
}
