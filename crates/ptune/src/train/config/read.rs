//! From the text of a run file to a [`RunConfig`]: keys of later releases, overrides, paths. What every strict file has in
//! common is in `keys.rs`.

use std::path::{Path, PathBuf};

use super::{
    ANSWER_TOKENS, BACKBONE_LEARNING_RATE, BackboneConfig, BackboneMode, Compute, DataConfig, HeadKind,
    LORA_LEARNING_RATE, Metric, PromptConfig, RunConfig, SearchConfig, SensitivityConfig, TaskConfig, TrainConfig,
};
use crate::checkpoint::hub;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::model::Projection;
use crate::prompt::AnswerKind;
use crate::prompt::initial::PrefixInit;

/// Keys that are designed but whose feature is not built, and what to do.
pub(super) const LATER_KEYS: &[(&str, &str)] = &[
    ("backbone.lora_dropout", "dropout of what LoRA reads comes with a later release; remove the key"),
    ("prompt.dropout", "dropout in the prompt encoder comes with a later release; remove the key"),
];

/// Values that are designed but whose feature is not built, and what to write instead.
pub(super) const LATER_VALUES: &[(&str, &str, &str)] = &[];

impl RunConfig {
    /// Reads a run file, applies `overrides` (`--set key=value`: a dotted key, and a value as TOML or else a text) as
    /// if they stood in the file, and checks everything. `train.steps` and `train.epochs` replace each other.
    /// Relative paths are taken from the run file's directory; `model` (unless there is no such
    /// path and it can be a name), `data.*` and `task.vocabulary` come back absolute, `compute` and `train.select` decided.
    ///
    /// # Errors
    /// Syntax and unknown keys with the file, the line and the closest key; a wrong type or value with its key; a
    /// feature of a later release by name; a wrong override by its key.
    pub fn read(path: &Path, overrides: &[(String, String)]) -> Result<RunConfig> {
        let mut config: RunConfig = Self::keys()?.read(path, overrides)?;
        config.resolve(path)?;
        config.check(path)?;
        Ok(config)
    }

    /// A run made in a program instead of a file, decided and checked as [`RunConfig::read`] does it; relative paths are
    /// taken from the current directory.
    ///
    /// # Errors
    /// A wrong value, with its key.
    pub fn checked(mut self) -> Result<RunConfig> {
        let file = Path::new("RunConfig");
        self.resolve(file)?;
        self.check(file)?;
        Ok(self)
    }

    /// A run file with every key given, whatever the values: the list of keys.
    pub(super) fn with_every_key() -> RunConfig {
        RunConfig {
            threads: Some(1),
            data: DataConfig {
                dev: Some(PathBuf::new()),
                test: Some(PathBuf::new()),
                max_tokens: Some(1),
                ..DataConfig::default()
            },
            task: TaskConfig {
                answer: Some(AnswerKind::Text),
                answer_tokens: Some(1),
                vocabulary: Some(PathBuf::new()),
                vocabulary_key: Some(String::new()),
                head: Some(HeadKind::Classifier),
                labels: Some(Vec::new()),
                verbalizer: vec![(String::new(), Vec::new())],
                ..TaskConfig::default()
            },
            prompt: PromptConfig {
                hidden_size: Some(1),
                layers: Some(1),
                prefix_tokens: Some(1),
                prefix_hidden_size: Some(1),
                prefix_init: Some(PrefixInit::Zero),
                prefix_text: Some(String::new()),
                ..PromptConfig::default()
            },
            backbone: BackboneConfig {
                lora_rank: Some(1),
                lora_alpha: Some(1.0),
                lora_rslora: Some(false),
                lora_targets: Some(Vec::new()),
                ..BackboneConfig::default()
            },
            train: TrainConfig {
                steps: Some(1),
                epochs: Some(1),
                backbone_learning_rate: Some(1.0),
                head_learning_rate: Some(1.0),
                backbone_weight_decay: Some(1.0),
                eval_every: Some(1),
                select: Some(Metric::Accuracy),
                ..TrainConfig::default()
            },
            search: SearchConfig::with_every_key(),
            sensitivity: SensitivityConfig::with_every_key(),
            ..RunConfig::default()
        }
    }

    /// The keys of a run file.
    pub(super) fn keys() -> Result<Keys> {
        Ok(Keys { later, ..Keys::of(&Self::with_every_key())? })
    }

    /// Decides what depends on other keys and makes paths absolute.
    fn resolve(&mut self, file: &Path) -> Result<()> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let absolute = |path: &mut PathBuf| -> Result<()> {
            // An empty path stays empty: the check says that the key is missing.
            if !path.as_os_str().is_empty() {
                *path = std::path::absolute(directory.join(&*path)).map_err(|source| Error::read(file, source))?;
            }
            Ok(())
        };
        if !hub::is_name(&self.model, directory) {
            absolute(&mut self.model)?;
        }
        absolute(&mut self.data.train)?;
        let data = [&mut self.data.dev, &mut self.data.test];
        for path in data.into_iter().chain([&mut self.task.vocabulary, &mut self.search.prompts]).flatten() {
            absolute(path)?;
        }
        if self.compute == Compute::Auto {
            self.compute = Compute::fastest(self.backbone.mode);
        }
        self.train.select = Some(self.select());
        if self.is_text() {
            self.task.answer_tokens.get_or_insert(ANSWER_TOKENS);
        }
        self.resolve_backbone();
        Ok(())
    }

    fn resolve_backbone(&mut self) {
        let (backbone, train) = (&mut self.backbone, &mut self.train);
        let rate = match backbone.mode {
            BackboneMode::Frozen => return,
            BackboneMode::Full => BACKBONE_LEARNING_RATE,
            BackboneMode::Lora => LORA_LEARNING_RATE,
        };
        let rate = *train.backbone_learning_rate.get_or_insert(rate);
        train.backbone_weight_decay.get_or_insert(train.weight_decay);
        if backbone.mode.is_full() {
            train.head_learning_rate.get_or_insert(rate);
        } else {
            let rank = *backbone.lora_rank.get_or_insert(8);
            backbone.lora_alpha.get_or_insert(2.0 * rank as f64);
            backbone.lora_rslora.get_or_insert(false);
            backbone.lora_targets.get_or_insert_with(|| vec![Projection::Query, Projection::Value]);
        }
    }
}

/// What is wrong with a key, or with a named value, whose feature is not built.
fn later(key: &str, value: Option<&str>) -> Option<String> {
    if let Some((_, reason)) = LATER_KEYS.iter().find(|(later, _)| *later == key) {
        return Some(format!("{key}: {reason}"));
    }
    let (_, later, instead) = LATER_VALUES.iter().find(|(at, later, _)| *at == key && Some(*later) == value)?;
    Some(format!("{key}: '{later}' comes with a later release; use {instead}"))
}
