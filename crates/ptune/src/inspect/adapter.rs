//! An adapter: its task, and what its pseudo tokens resemble in its base model.
//!
//! Of the base only the tokenizer and the word table are read; words are looked for in that table, also where a copy of it
//! was trained. Where the base is not at its place or has changed, the
//! facts that need it are left out and `base.note` says why.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{PieceFacts, pieces};
use crate::adapter::{Adapter, Discrete, Metrics};
use crate::checkpoint::{ModelDirectory, Shard, Tokenizer, hub};
use crate::model::Lora;
use crate::model::spec::ModelSpec;
use crate::prompt::nearest;
use crate::train::Task;
use crate::{Error, Result, files};

/// Words shown for each pseudo token.
const NEAREST: usize = 5;
/// Where a tuned model's weights are.
const TRAINED_FILES: [&str; 2] = ["backbone.safetensors", "head.safetensors"];

/// What is known about an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterFacts {
    /// Where it is.
    pub path: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// The template.
    pub template: String,
    /// Its pieces with their tokens; none without the base.
    pub pieces: Option<Vec<PieceFacts>>,
    /// The field with the gold label or answer.
    pub target: String,
    /// The longest row.
    pub max_tokens: usize,
    /// Precision of the model.
    pub compute: String,
    /// Texts: the most tokens of an answer; none where the answer is a label or a word.
    pub answer_tokens: Option<usize>,
    /// Labels in the order of the classes; none in probing, and for texts.
    pub labels: Vec<LabelFacts>,
    /// Probing: what the training loss compared the answer with.
    pub loss: Option<String>,
    /// Probing: how many candidate answers; none for the whole vocabulary.
    pub candidates: Option<usize>,
    /// The trained pseudo tokens; none for a manual prompt.
    pub prompt: Option<PromptFacts>,
    /// The trained prefix; none without one.
    pub prefix: Option<PrefixFacts>,
    /// What a search found: tokens in the place of pseudo tokens, by their ids, or prompts with weights.
    pub discrete: Discrete,
    /// The weights of the model that were trained with it, by their files; none over a frozen model.
    pub trained: Vec<TrainedFacts>,
    /// The low-rank additions whose matrices are among these; none without.
    pub lora: Option<Lora>,
    /// The model.
    pub base: BaseFacts,
    /// What the run measured.
    pub metrics: Metrics,
}

/// A label and its words.
#[derive(Clone, Debug, Serialize)]
pub struct LabelFacts {
    /// The label.
    pub label: String,
    /// Its words.
    pub words: Vec<String>,
    /// The tokens of each word; none without the base.
    pub tokens: Option<Vec<Vec<String>>>,
}

/// A trained prompt.
#[derive(Clone, Debug, Serialize)]
pub struct PromptFacts {
    /// What computed the rows.
    pub encoder: Option<String>,
    /// The shapes of that encoder.
    pub shapes: Option<String>,
    /// Pseudo tokens.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
    /// The pseudo tokens.
    pub tokens: Vec<PseudoFacts>,
}

/// A trained prefix.
#[derive(Clone, Debug, Serialize)]
pub struct PrefixFacts {
    /// Rows before those of the text.
    pub rows: usize,
    /// Numbers of a row: keys and values of every block.
    pub width: usize,
}

/// A pseudo token.
#[derive(Clone, Debug, Serialize)]
pub struct PseudoFacts {
    /// `P1`, `P2`, ... by its prompt row.
    pub token: String,
    /// The length of its row, over the mean length of the model's word embeddings; none without the base.
    pub length: Option<f64>,
    /// The words with the largest cosine, the largest first; none without the base.
    pub nearest: Option<Vec<WordFacts>>,
}

/// A word near a pseudo token.
#[derive(Clone, Debug, Serialize)]
pub struct WordFacts {
    /// The word, as the tokenizer shows it.
    pub word: String,
    /// Its cosine with the row.
    pub cosine: f64,
}

/// A file of trained weights.
#[derive(Clone, Debug, Serialize)]
pub struct TrainedFacts {
    /// Its name in the adapter.
    pub file: String,
    /// Tensors in it.
    pub tensors: usize,
    /// Numbers in these.
    pub numbers: usize,
    /// Its bytes.
    pub bytes: u64,
}

/// The model of an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct BaseFacts {
    /// Its name.
    pub name: String,
    /// Its family.
    pub family: String,
    /// Where it is, or was.
    pub path: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Why the tokens and the nearest words are left out.
    pub note: Option<String>,
}

/// What the base tells.
struct Base {
    task: Task,
    /// The word table `[vocabulary, width]`.
    table: Vec<f32>,
}

impl AdapterFacts {
    /// Reads an adapter; its base is looked for at `model`, or else where the run had it.
    ///
    /// # Errors
    /// A damaged adapter; a `model` that is not its base.
    pub fn read(path: &Path, model: Option<&Path>) -> Result<AdapterFacts> {
        let adapter = Adapter::load(path)?;
        let described = &adapter.description;
        let former = Path::new(&described.base.path);
        let place = match model {
            Some(model) => Some(hub::locate(model, Path::new(""))?),
            None => hub::locate_again(former, &described.base.name),
        };
        let (base, note) = match place.as_deref().map(|place| open_base(&adapter, path, place)) {
            Some(Ok(base)) => (Some(base), None),
            Some(Err(wrong)) if model.is_some() => return Err(wrong),
            Some(Err(wrong)) => (None, Some(wrong.to_string())),
            None => (None, Some("is not there any more; --model DIR says where it is".into())),
        };
        let (place, prefix) = (place.as_deref().unwrap_or(former), adapter.prefix.rows > 0);
        let base = base.as_ref();
        Ok(AdapterFacts {
            path: path.to_string_lossy().into_owned(),
            bytes: files::directory_bytes(path)?,
            template: described.template.clone(),
            pieces: base.map(|base| pieces(&base.task, None)).transpose()?,
            target: described.target.clone(),
            max_tokens: described.max_tokens,
            compute: described.compute.clone(),
            answer_tokens: described.answer_tokens,
            labels: described.labels.iter().map(|label| LabelFacts::of(label, base)).collect::<Result<_>>()?,
            loss: described.loss.clone(),
            candidates: described.vocabulary.as_ref().map(Vec::len),
            prompt: (adapter.rows > 0).then(|| PromptFacts::of(&adapter, base)),
            prefix: prefix.then_some(PrefixFacts { rows: adapter.prefix.rows, width: adapter.prefix.width }),
            discrete: described.discrete.clone(),
            trained: trained(path)?,
            lora: adapter.tuned.lora().cloned(),
            base: BaseFacts {
                name: described.base.name.clone(),
                family: described.base.model_type.clone(),
                path: place.to_string_lossy().into_owned(),
                fingerprint: described.base.fingerprint.clone(),
                note,
            },
            metrics: described.metrics.clone(),
        })
    }
}

/// Opens the base as `predict` does, but reads its word table alone.
fn open_base(adapter: &Adapter, path: &Path, place: &Path) -> Result<Base> {
    let directory = ModelDirectory::open(place)?;
    let spec = ModelSpec::read(&directory)?;
    adapter.check_base(&directory.fingerprint(&spec.embeddings.words)?, place)?;
    let file = path.join("adapter.toml");
    let task = Task::from_adapter(&adapter.description, &file, &directory, &spec)?;
    if task.prompt_rows() != adapter.rows {
        let (needs, has) = (task.prompt_rows(), adapter.rows);
        let message = format!("the template needs {needs} prompt rows, the adapter has {has}");
        return Err(Error::key(&file, "task.template", message));
    }
    let mut table = Vec::new();
    directory.weights().read_into(&spec.embeddings.words, &[spec.vocabulary, adapter.width], &mut table)?;
    Ok(Base { task, table })
}

/// The files of trained weights in an adapter. Only their headers are read.
fn trained(adapter: &Path) -> Result<Vec<TrainedFacts>> {
    let present = TRAINED_FILES.iter().map(|name| adapter.join(name)).filter(|file| file.exists());
    let facts = |file: PathBuf| {
        let (_, metadata) = Shard::open(&file)?;
        let tensors = metadata.tensors();
        Ok(TrainedFacts {
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            tensors: tensors.len(),
            numbers: tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum(),
            bytes: file.metadata().map_err(|source| Error::read(&file, source))?.len(),
        })
    };
    present.map(facts).collect()
}

impl LabelFacts {
    fn of((label, words): &(String, Vec<String>), base: Option<&Base>) -> Result<LabelFacts> {
        let tokens = |task: &Task| {
            let glue = task.template.answer_glue();
            let word = |word: &String| {
                let ids = task.tokenizer.encode(word, glue)?;
                Ok(ids.into_iter().map(|id| task.tokenizer.token(id)).collect())
            };
            words.iter().map(word).collect::<Result<_>>()
        };
        let tokens = base.map(|base| tokens(&base.task)).transpose()?;
        Ok(LabelFacts { label: label.clone(), words: words.clone(), tokens })
    }
}

impl PromptFacts {
    fn of(adapter: &Adapter, base: Option<&Base>) -> PromptFacts {
        let (rows, width) = (adapter.rows, adapter.width);
        let tokens = match base {
            Some(Base { task, table }) => pseudo_facts(table, &adapter.prompt, width, &task.tokenizer),
            None => (1..=rows).map(PseudoFacts::unknown).collect(),
        };
        let described = &adapter.description;
        PromptFacts { encoder: described.encoder.clone(), shapes: described.shapes.clone(), rows, width, tokens }
    }
}

impl PseudoFacts {
    /// What is known without the base: its name.
    fn unknown(row: usize) -> PseudoFacts {
        PseudoFacts { token: format!("P{row}"), length: None, nearest: None }
    }
}

/// What the rows of a prompt `[rows, width]` resemble in a word table `[vocabulary, width]`.
pub(crate) fn pseudo_facts(table: &[f32], prompt: &[f32], width: usize, tokenizer: &Tokenizer) -> Vec<PseudoFacts> {
    let mean = nearest::mean_length(table, width);
    let found = nearest::nearest(table, prompt, width, NEAREST);
    let word = |word: nearest::Neighbour| WordFacts { word: tokenizer.token(word.token), cosine: word.cosine };
    let rows = (1..).zip(prompt.chunks_exact(width)).zip(found);
    let facts = rows.map(|((row, values), words)| PseudoFacts {
        length: (mean > 0.0).then(|| nearest::length(values) / mean),
        nearest: Some(words.into_iter().map(word).collect()),
        ..PseudoFacts::unknown(row)
    });
    facts.collect()
}
