//! What a run needs before its first step: its rows, its base, its first prompt. Nothing is written here.

use std::path::{Path, PathBuf};

use crate::adapter::Base;
use crate::checkpoint::{Glue, ModelDirectory, hub};
use crate::data::{Dataset, Encoded, Token, pack};
use crate::method::{Classifier, Head, Prompt, Trained};
use crate::model::spec::ModelSpec;
use crate::model::{Additions, Gradients, Model};
use crate::prompt::encoder::{PrefixShape, PromptEncoder};
use crate::rng::{Purpose, Rng};
use crate::tensor::Device;
use crate::train::config::{BackboneMode, PromptConfig, RunConfig};
use crate::train::{Event, Task};
use crate::{Error, Result};

/// Says which words of the vocabulary file count.
fn tell_vocabulary(config: &RunConfig, task: &Task, observe: &mut dyn FnMut(Event<'_>)) {
    let (Some(file), Head::Vocabulary { candidates: Some(words), .. }) = (&config.task.vocabulary, &task.head) else {
        return;
    };
    if words.dropped + words.merged > 0 {
        let (kept, dropped, merged, file) = (words.tokens().len(), words.dropped, words.merged, file.display());
        observe(Event::Note(&format!(
            "{file}: {kept} candidates; {dropped} words dropped, because they are not one token of this model, and \
             {merged} merged with another"
        )));
    }
}

/// Says which label words have several tokens: they cost more than they seem to.
fn tell_long_words(task: &Task, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
    let Head::Verbalizer(verbalizer) = &task.head else { return Ok(()) };
    let words = verbalizer.labels().iter().flat_map(|label| &label.words);
    let long: Vec<_> = words.filter(|word| word.tokens.len() > 1).collect();
    let Some(first) = long.first() else { return Ok(()) };
    let others = if long.len() > 1 { format!(" and {} more", long.len() - 1) } else { String::new() };
    let hint = match task.tokenizer.single_token(&first.word, Glue::Space)? {
        Some(_) => "; with a space before [MASK] it is one",
        None => "",
    };
    observe(Event::Note(&format!(
        "label words of several tokens are scored over the whole vocabulary, which takes longer: '{}' ({}){others}{hint}",
        first.word,
        task.tokenizer.shown_tokens(&first.tokens),
    )));
    Ok(())
}

/// The rows of a run.
pub(crate) struct Data {
    pub(crate) train: Dataset,
    pub(crate) dev: Option<Dataset>,
    pub(crate) test: Option<Dataset>,
}

impl Data {
    pub(crate) fn read(config: &RunConfig, task: &Task, observe: &mut dyn FnMut(Event<'_>)) -> Result<Data> {
        let mut read = |file: &PathBuf| -> Result<Dataset> {
            let data = task.dataset(file)?;
            if data.dropped > 0 {
                let (file, dropped, all) = (file.display(), data.dropped, data.dropped + data.kept);
                observe(Event::Note(&format!(
                    "{file}: {dropped} of {all} rows dropped: their answer is not a candidate"
                )));
            }
            Ok(data)
        };
        let train = read(&config.data.train)?;
        let dev = config.data.dev.as_ref().map(&mut read).transpose()?;
        let test = config.data.test.as_ref().map(&mut read).transpose()?;
        Ok(Data { train, dev, test })
    }
}

/// The tokens that a prompt starts from.
pub(crate) struct Start {
    /// Of each prompt row for which the template gives a word.
    pub(crate) initial_words: Vec<Option<u32>>,
    /// Of the text that the prefix starts from.
    pub(crate) prefix_text: Option<Vec<u32>>,
}

/// Everything that a run file names, read and checked; only the model's weights are not read yet.
pub(crate) struct Prepared {
    pub(crate) directory: ModelDirectory,
    /// The run file with its model pinned.
    pub(crate) config: RunConfig,
    pub(crate) spec: ModelSpec,
    pub(crate) task: Task,
    pub(crate) start: Start,
    pub(crate) data: Data,
    pub(crate) gradients: Gradients,
}

impl Prepared {
    pub(crate) fn read(config: &RunConfig, file: &Path, observe: &mut dyn FnMut(Event<'_>)) -> Result<Prepared> {
        let (directory, config) = open_model(config, file)?;
        let spec = ModelSpec::read(&directory)?;
        if let Some(lora) = config.backbone.lora() {
            let checked = lora.check_targets(&spec, "backbone.lora_targets");
            checked.map_err(|(key, message)| Error::key(file, key, message))?;
        }
        let task = Task::from_run(&config, file, &directory, &spec)?;
        tell_vocabulary(&config, &task, observe);
        tell_long_words(&task, observe)?;
        let initial_words = task.encoder()?.initial_words()?;
        config.prompt.init.check(&task.template, &initial_words)?;
        let start = Start { initial_words, prefix_text: prefix_text(&config, file, &task)? };
        let data = Data::read(&config, &task, observe)?;
        let gradients = gradients(&config, &task);
        Ok(Prepared { directory, config, spec, task, start, data, gradients })
    }
}

/// Opens the model of a run. A name in the cache is pinned to the commit that it means today, so that the run as resolved
/// can be repeated.
fn open_model(config: &RunConfig, file: &Path) -> Result<(ModelDirectory, RunConfig)> {
    let beside = file.parent().unwrap_or(Path::new(""));
    let path = hub::locate(&config.model, beside)?;
    let pinned = if hub::is_name(&config.model, beside) { hub::name_of(&path).into() } else { config.model.clone() };
    Ok((ModelDirectory::open(&path)?, RunConfig { model: pinned, ..config.clone() }))
}

/// What an adapter says about its base.
pub(crate) fn describe_base(directory: &ModelDirectory, spec: &ModelSpec) -> Result<Base> {
    let path = directory.place()?;
    Ok(Base {
        fingerprint: directory.fingerprint(&spec.embeddings.words)?,
        model_type: spec.family.into(),
        width: spec.embeddings.width,
        name: hub::name_of(&path),
        path: path.to_string_lossy().into_owned(),
    })
}

/// The tokens of the text that the prefix starts from.
fn prefix_text(config: &RunConfig, file: &Path, task: &Task) -> Result<Option<Vec<u32>>> {
    let PromptConfig { prefix_tokens: Some(rows), prefix_text: Some(text), .. } = &config.prompt else {
        return Ok(None);
    };
    let ids = task.tokenizer.encode(text, Glue::Start)?;
    if ids.len() != *rows {
        let message = format!(
            "the text is {} tokens here ({}), so prompt.prefix_tokens should be {}, not {rows}",
            ids.len(),
            task.tokenizer.shown_tokens(&ids),
            ids.len()
        );
        return Err(Error::key(file, "prompt.prefix_text", message));
    }
    Ok(Some(ids))
}

/// The prompt at step 0 of a template with pseudo tokens and no prefix.
pub(crate) fn new_prompt(
    config: &RunConfig,
    file: &Path,
    device: &Device,
    model: &Model,
    initial_words: &[Option<u32>],
) -> Result<Prompt> {
    let mut rng = Rng::new(config.seed, Purpose::PromptInitialisation);
    Ok(Prompt { rows: new_rows(config, file, device, model, initial_words, &mut rng)?, prefix: None })
}

/// The model at step 0: without its head under a classifier.
pub(super) fn load_model(
    directory: &ModelDirectory,
    task: &Task,
    device: &Device,
    gradients: Gradients,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    let model = Model::load(directory, &[], device, gradients, progress)?;
    Ok(if matches!(task.head, Head::Classifier(_)) { model.without_head() } else { model })
}

/// Prompt, classifier and low-rank additions at step 0.
pub(super) fn new_trained(
    config: &RunConfig,
    file: &Path,
    device: &Device,
    model: &Model,
    directory: &ModelDirectory,
    task: &Task,
    start: &Start,
) -> Result<Trained> {
    let mut rng = Rng::new(config.seed, Purpose::PromptInitialisation);
    let rows = new_rows(config, file, device, model, &start.initial_words, &mut rng)?;
    let prefix = new_prefix(&config.prompt, device, model, start.prefix_text.as_deref(), &mut rng);
    let classifier = match &task.head {
        Head::Classifier(labels) => {
            let (spec, checkpoint) = (model.spec(), directory.weights());
            Some(Classifier::new(device, &spec.classifier, spec.hidden, labels.len(), checkpoint, &mut rng)?)
        }
        _ => None,
    };
    let lora = config.backbone.lora();
    let additions =
        lora.map(|lora| Additions::new(model, &lora, &mut Rng::new(config.seed, Purpose::LoraInitialisation)));
    Ok(Trained { prompt: Prompt { rows, prefix }, classifier, additions })
}

/// The prefix at step 0, if the run has one.
fn new_prefix(
    config: &PromptConfig,
    device: &Device,
    model: &Model,
    text: Option<&[u32]>,
    rng: &mut Rng,
) -> Option<PromptEncoder> {
    let rows = config.prefix_tokens?;
    let spec = model.spec();
    let table = spec.blocks.first().map_or(0, |block| block.attention.kv_heads * block.attention.head_dim);
    let projected = config.prefix_hidden_size.map(|hidden| (table, hidden));
    let shape = PrefixShape { rows, width: spec.past_width(), projected };
    let mut prefix = PromptEncoder::prefix(device, &shape, config.prefix_init.unwrap_or_default(), rng);
    if let Some(text) = text {
        let text = Encoded::row(text.iter().map(|id| Token::Id(*id)).collect(), 0);
        let past = model.run_past(&pack([&text]));
        prefix.table_mut().copy_from_slice(past.to_rows(device).read());
    }
    Some(prefix)
}

/// What computes the rows of the pseudo tokens at step 0, if the template has any.
fn new_rows(
    config: &RunConfig,
    file: &Path,
    device: &Device,
    model: &Model,
    initial_words: &[Option<u32>],
    rng: &mut Rng,
) -> Result<Option<PromptEncoder>> {
    let (rows, width, shape) = (initial_words.len(), model.embedding_width(), config.prompt.shape());
    if rows == 0 {
        return Ok(None);
    }
    if !shape.fits(width) {
        let message = format!(
            "an lstm in lama shapes needs an even embedding width, and this model's is {width}; \
             prompt.shapes = \"superglue\" does not"
        );
        return Err(Error::key(file, "prompt.encoder", message));
    }
    let deviation = deviation(model.word_table().read());
    let mut encoder = PromptEncoder::new(device, &shape, rows, width, deviation, rng);
    config.prompt.init.fill(encoder.table_mut(), initial_words, model.word_table(), rng);
    Ok(Some(encoder))
}

/// The standard deviation of a table's numbers.
fn deviation(table: &[f32]) -> f32 {
    let n = table.len().max(1) as f64;
    let mean = table.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    (table.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt() as f32
}

/// The gradients that a run needs of its model.
fn gradients(config: &RunConfig, task: &Task) -> Gradients {
    match (config.backbone.mode, task.template.has_pseudo_tokens() || task.prefix_tokens().is_some()) {
        (BackboneMode::Full, _) => Gradients::Weights,
        (BackboneMode::Lora, _) | (BackboneMode::Frozen, true) => Gradients::Inputs,
        (BackboneMode::Frozen, false) => Gradients::None,
    }
}
