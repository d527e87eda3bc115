//! Writing and reading an adapter's files: the bytes, their checks, and what ties them together.
//!
//! `adapter.toml` holds the SHA-256 of the other files, and its rename is the one moment at which an older adapter becomes
//! the new one: the other files are written as `NAME.next` before it and renamed to `NAME` after it, and loading takes
//! whichever of the two has the right SHA-256. So an adapter can be loaded whenever a save was interrupted.

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Adapter, Description, Matrix, Tuned};
use crate::checkpoint::sha256;
use crate::error::{Error, Result};
use crate::files::{self, StagedFile, built_in};
use crate::tensor::Precision;

pub(super) const ADAPTER_FILE: &str = "adapter.toml";
const PROMPT_FILE: &str = "prompt.safetensors";
const VOCABULARY_FILE: &str = "vocabulary.bin";
const PROMPT_TENSOR: &str = "prompt";
const PREFIX_TENSOR: &str = "prefix";

/// The version that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;
const LARGEST_TOML: u64 = 16 << 20;
/// One bit a token id: 16 million tokens.
const LARGEST_VOCABULARY: u64 = 2 << 20;
/// The safetensors header of a prompt takes about 80 bytes.
const LARGEST_PROMPT_HEADER: u64 = 64 << 10;
const MOST_TOKENS: usize = 65_536;
const LARGEST_WIDTH: usize = 65_536;
/// Numbers of a prompt: a quarter of a gigabyte, thousands of times what prompts have.
const LARGEST_PROMPT: usize = 1 << 26;

/// `adapter.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    task: Description,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<PromptFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocabulary: Option<VocabularyFile>,
    /// SHA-256 of the trained weights' files.
    #[serde(default, skip_serializing_if = "Tuned::is_empty")]
    tuned: Tuned,
}

/// What `prompt.safetensors` must be.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    rows: usize,
    width: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix_rows: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix_width: Option<usize>,
    sha256: String,
}

/// What `vocabulary.bin` must be.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    tokens: usize,
    sha256: String,
}

/// Writes an adapter; see [`Adapter::save`].
pub(super) fn save(adapter: &Adapter, directory: &Path) -> Result<()> {
    let file = directory.join(ADAPTER_FILE);
    check_description(&file, &adapter.description)?;
    let (prompt, has_prefix) = (prompt_bytes(adapter, &file)?, adapter.prefix.rows > 0);
    let vocabulary = vocabulary_bytes(&adapter.description, &file)?;
    let manifest = Manifest {
        format: FORMAT,
        task: adapter.description.clone(),
        prompt: prompt.as_ref().map(|bytes| PromptFile {
            rows: adapter.rows,
            width: adapter.width,
            prefix_rows: has_prefix.then_some(adapter.prefix.rows),
            prefix_width: has_prefix.then_some(adapter.prefix.width),
            sha256: sha256(bytes),
        }),
        vocabulary: vocabulary
            .as_ref()
            .map(|(tokens, bytes)| VocabularyFile { tokens: *tokens, sha256: sha256(bytes) }),
        tuned: adapter.tuned.clone(),
    };
    let text = toml::to_string(&manifest)
        .map_err(|wrong| Error::file(&file, format!("the adapter cannot be written as TOML: {wrong}")))?;

    files::create_directory(directory)?;
    let parts = [(PROMPT_FILE, prompt), (VOCABULARY_FILE, vocabulary.map(|(_, bytes)| bytes))];
    let mut staged = Vec::new();
    for (name, bytes) in &parts {
        if let Some(bytes) = bytes {
            staged.push(StagedFile::write(&next(&directory.join(name)), bytes)?);
        }
    }
    let manifest = StagedFile::write(&file, text.as_bytes())?;
    for part in staged {
        part.commit()?;
    }
    // Up to here the older adapter stands; from here on the new one: `load` finds parts under either name.
    manifest.commit()?;
    for (name, bytes) in &parts {
        let path = directory.join(name);
        match bytes {
            Some(_) => files::rename(&next(&path), &path)?,
            None => files::remove_if_present(&path)?, // an older adapter had it
        }
    }
    adapter.tuned.settle(directory)
}

/// The name under which a part waits for `adapter.toml` to be renamed: `prompt.safetensors.next`.
pub(super) fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// Reads an adapter; see [`Adapter::load`].
pub(super) fn load(directory: &Path) -> Result<Adapter> {
    let file = directory.join(ADAPTER_FILE);
    if !file.exists() {
        return Err(not_an_adapter(directory));
    }
    let mut manifest = read_manifest(&file)?;
    if let Some(about) = &manifest.vocabulary {
        manifest.task.vocabulary = Some(read_vocabulary(&directory.join(VOCABULARY_FILE), about)?);
    }
    let description = manifest.task;
    check_description(&file, &description)?;
    let width = description.base.width;
    let (rows, (prompt, prefix)) = match &manifest.prompt {
        Some(about) => {
            check_prompt_sizes(&file, &description, about.rows, about.width)?;
            let (rows, width) = (about.prefix_rows.unwrap_or(0), about.prefix_width.unwrap_or(0));
            check_prefix_sizes(&file, &description, rows, width)?;
            (about.rows, read_prompt(&directory.join(PROMPT_FILE), about)?)
        }
        None => {
            check_prompt_sizes(&file, &description, 0, width)?;
            check_prefix_sizes(&file, &description, 0, 0)?;
            (0, (Vec::new(), Matrix::default()))
        }
    };
    Ok(Adapter { width, description, prompt, rows, prefix, tuned: manifest.tuned })
}

/// The trained weights of the adapter in a directory, if there is one.
pub(super) fn tuned_of(directory: &Path) -> Option<Tuned> {
    read_manifest(&directory.join(ADAPTER_FILE)).ok().map(|manifest| manifest.tuned)
}

/// What stands where an adapter was expected, and where the adapter may be.
fn not_an_adapter(path: &Path) -> Error {
    let inside = path.join("adapter");
    let message = if built_in::directory(path).is_some() || path.join("config.json").is_file() {
        "is a model, not an adapter: 'ptune train' makes one over it, the directory 'adapter' of a finished run".into()
    } else if !path.exists() {
        "there is no such directory; an adapter is the directory 'adapter' of a finished run".into()
    } else if !path.is_dir() {
        "is not an adapter; an adapter is a directory, such as the 'adapter' of a finished run".into()
    } else if inside.join(ADAPTER_FILE).exists() {
        format!("is a run; its adapter is {}", inside.display())
    } else {
        "holds no adapter.toml, so it is not an adapter".into()
    };
    Error::file(path, message)
}

/// Reads `adapter.toml`; the version is looked at first, because a newer one may have other keys.
fn read_manifest(file: &Path) -> Result<Manifest> {
    parse_manifest(&files::read_text(file, LARGEST_TOML)?, file)
}

/// The description in the text of an `adapter.toml`, without its vocabulary.
pub(super) fn parse_description(text: &str, file: &Path) -> Result<Description> {
    Ok(parse_manifest(text, file)?.task)
}

fn parse_manifest(text: &str, file: &Path) -> Result<Manifest> {
    let wrong = |refused: toml::de::Error| {
        let line = 1 + text.bytes().take(refused.span().map_or(0, |span| span.start)).filter(|b| *b == b'\n').count();
        Error::line(file, line, format!("the adapter cannot be read: {}", refused.message()))
    };
    let table: toml::Table = toml::from_str(text).map_err(wrong)?;
    match table.get("format").and_then(toml::Value::as_integer) {
        Some(format) if format == i64::from(FORMAT) => {}
        Some(format) if format > i64::from(FORMAT) => {
            let message = format!("{format}: written by a newer release; this one reads up to {FORMAT}");
            return Err(Error::key(file, "format", message));
        }
        _ => return Err(Error::key(file, "format", format!("is missing or wrong; {FORMAT} was expected"))),
    }
    toml::from_str(text).map_err(wrong)
}

/// What must hold for an adapter to be used, whatever the model.
fn check_description(file: &Path, task: &Description) -> Result<()> {
    let require = |holds: bool, key: &str, message: &str| {
        if holds { Ok(()) } else { Err(Error::key(file, key, message)) }
    };
    let hexadecimal = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    require(!task.template.trim().is_empty(), "task.template", "is empty; a template was expected")?;
    require(!task.target.is_empty(), "task.target", "is empty; the name of a field was expected")?;
    require((1..=MOST_TOKENS).contains(&task.max_tokens), "task.max_tokens", "must be from 1 to 65536")?;
    if Precision::named(&task.compute).is_none() {
        let known = Precision::ALL.map(Precision::name).join(", ");
        let message = format!("'{}' is not what this release computes with; it has: {known}", task.compute);
        return Err(Error::key(file, "task.compute", message));
    }
    require(task.labels.len() != 1, "task.labels", "has one label; none or at least two were expected")?;
    let classifier = task.head.is_some();
    require(task.head.as_deref().is_none_or(|head| head == "classifier"), "task.head", "must be \"classifier\"")?;
    require(!classifier || task.labels.len() > 1, "task.labels", "of a classifier are at least two")?;
    for (label, words) in &task.labels {
        if classifier {
            require(words.is_empty(), &format!("task.labels.{label}"), "has words, of which a classifier has none")?;
            continue;
        }
        let sound = !words.is_empty() && words.iter().all(|word| !word.is_empty());
        require(sound, &format!("task.labels.{label}"), "needs at least one word, and no empty one")?;
    }
    let one_kind = task.labels.is_empty() || (task.vocabulary.is_none() && task.loss.is_none());
    require(one_kind, "task.labels", "exclude a vocabulary and a probing loss")?;
    if let Some(longest) = task.answer_tokens {
        let none_else = task.labels.is_empty() && task.vocabulary.is_none() && task.loss.is_none();
        require(none_else, "task.answer_tokens", "excludes labels, a vocabulary and a probing loss")?;
        let message = "must be from 1 to below max_tokens";
        require((1..task.max_tokens).contains(&longest), "task.answer_tokens", message)?;
    }
    require(hexadecimal(&task.base.fingerprint), "task.base.fingerprint", "must be 64 hexadecimal digits")?;
    require((1..=LARGEST_WIDTH).contains(&task.base.width), "task.base.width", "must be from 1 to 65536")?;
    task.discrete.check(file, &task.template)?;
    let mut metrics = task.metrics.dev.values().chain(task.metrics.test.values());
    require(metrics.all(|metric| metric.is_finite()), "task.metrics", "must be finite numbers")
}

/// Whether the prompt's sizes agree with the description; no rows make a manual prompt, which has no encoder.
fn check_prompt_sizes(file: &Path, task: &Description, rows: usize, width: usize) -> Result<()> {
    if rows > MOST_TOKENS {
        return Err(Error::key(file, "prompt.rows", format!("{rows}: must be at most {MOST_TOKENS}")));
    }
    if width > LARGEST_PROMPT / rows.max(1) {
        let message = format!("{rows} rows of width {width} are more than {LARGEST_PROMPT} numbers");
        return Err(Error::key(file, "prompt.rows", message));
    }
    if width != task.base.width {
        let message = format!("{width}: the base has width {}", task.base.width);
        return Err(Error::key(file, "prompt.width", message));
    }
    if (rows > 0) != task.encoder.is_some() {
        let message = "a prompt with rows has an encoder, a manual prompt has neither";
        return Err(Error::key(file, "task.encoder", message));
    }
    Ok(())
}

/// Whether the sizes of the prefix agree with the description.
fn check_prefix_sizes(file: &Path, task: &Description, rows: usize, width: usize) -> Result<()> {
    if rows != task.prefix_tokens.unwrap_or(0) {
        let message = format!("{rows}: task.prefix_tokens is {}", task.prefix_tokens.unwrap_or(0));
        return Err(Error::key(file, "prompt.prefix_rows", message));
    }
    if rows > MOST_TOKENS || width > LARGEST_PROMPT / rows.max(1) || (rows > 0) != (width > 0) {
        let message = format!("{rows} rows of width {width} are no prefix; at most {LARGEST_PROMPT} numbers are");
        return Err(Error::key(file, "prompt.prefix_rows", message));
    }
    Ok(())
}

/// The bytes of `prompt.safetensors`; none for a manual prompt.
fn prompt_bytes(adapter: &Adapter, file: &Path) -> Result<Option<Vec<u8>>> {
    check_prompt_sizes(file, &adapter.description, adapter.rows, adapter.width)?;
    check_prefix_sizes(file, &adapter.description, adapter.prefix.rows, adapter.prefix.width)?;
    let file = file.with_file_name(PROMPT_FILE);
    let Matrix { values, rows, width } = &adapter.prefix;
    let parts = [(PREFIX_TENSOR, values, *rows, *width), (PROMPT_TENSOR, &adapter.prompt, adapter.rows, adapter.width)];
    let mut tensors = Vec::new();
    for (name, values, rows, width) in parts {
        if values.len() != rows * width {
            let message = format!("has {} values for {rows} rows of width {width}", values.len());
            return Err(Error::tensor(&file, name, message));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::tensor(&file, name, format!("value {at} is {}; it must be finite", values[at])));
        }
        if rows > 0 {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name, vec![rows, width], bytes));
        }
    }
    if tensors.is_empty() {
        return Ok(None);
    }
    let views =
        tensors.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let whole = views.collect::<std::result::Result<Vec<_>, SafeTensorError>>();
    let whole = whole.and_then(|views| safetensors::serialize(views, None));
    whole.map(Some).map_err(|refused| Error::file(&file, refused.to_string()))
}

/// Reads `prompt.safetensors`, which must be exactly what `adapter.toml` says: the rows of the pseudo tokens, and those of
/// a prefix.
fn read_prompt(file: &Path, about: &PromptFile) -> Result<(Vec<f32>, Matrix)> {
    // Checked to be at most `LARGEST_PROMPT` each, so nothing overflows.
    let (rows, width) = (about.prefix_rows.unwrap_or(0), about.prefix_width.unwrap_or(0));
    let limit = ((about.rows * about.width + rows * width) * 4) as u64 + LARGEST_PROMPT_HEADER;
    let bytes = read_part(file, limit, &about.sha256)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|refused| Error::file(file, format!("is no safetensors file: {refused}")))?;
    let expected: Vec<&str> = [(PROMPT_TENSOR, about.rows), (PREFIX_TENSOR, rows)]
        .iter()
        .filter(|part| part.1 > 0)
        .map(|part| part.0)
        .collect();
    if tensors.len() != expected.len() {
        let expected = expected.join("' and '");
        return Err(Error::file(file, format!("holds {} tensors; '{expected}' was expected", tensors.len())));
    }
    let prompt = read_tensor(file, &tensors, PROMPT_TENSOR, about.rows, about.width)?;
    let prefix = read_tensor(file, &tensors, PREFIX_TENSOR, rows, width)?;
    Ok((prompt, Matrix { values: prefix, rows, width }))
}

/// The numbers of a tensor `[rows, width]`; none where there are no rows.
fn read_tensor(file: &Path, tensors: &SafeTensors<'_>, name: &str, rows: usize, width: usize) -> Result<Vec<f32>> {
    let wrong = |message: String| Error::tensor(file, name, message);
    if rows == 0 {
        return Ok(Vec::new());
    }
    let tensor = tensors.tensor(name).map_err(|_| wrong("is missing".into()))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(wrong(format!("has dtype {:?}; F32 was expected", tensor.dtype())));
    }
    if tensor.shape() != [rows, width] {
        return Err(wrong(format!("has shape {:?}; adapter.toml makes it [{rows}, {width}]", tensor.shape())));
    }
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            Err(wrong(format!("the value at [{}, {}] is {}; it must be finite", at / width, at % width, values[at])))
        }
        None => Ok(values),
    }
}

/// The number of candidates and the bytes of `vocabulary.bin`; none without a vocabulary. Token id `i` is bit `i % 8`
/// (the lowest is 0) of byte `i / 8`: 4 KB for BERT, where the words would take 120.
fn vocabulary_bytes(task: &Description, file: &Path) -> Result<Option<(usize, Vec<u8>)>> {
    let Some(ids) = &task.vocabulary else { return Ok(None) };
    let bytes = ids.last().map_or(0, |last| *last as usize / 8 + 1);
    if !ids.is_sorted_by(|a, b| a < b) || bytes as u64 > LARGEST_VOCABULARY {
        let message = format!("must be distinct token ids below {}, ascending", LARGEST_VOCABULARY * 8);
        return Err(Error::key(file, "vocabulary", message));
    }
    let mut bits = vec![0; bytes];
    for id in ids {
        bits[*id as usize / 8] |= 1 << (id % 8);
    }
    Ok(Some((ids.len(), bits)))
}

/// Reads `vocabulary.bin`, which must be exactly what `adapter.toml` says.
fn read_vocabulary(file: &Path, about: &VocabularyFile) -> Result<Vec<u32>> {
    let bits = read_part(file, LARGEST_VOCABULARY, &about.sha256)?;
    let ids: Vec<u32> = (0..bits.len() as u32 * 8).filter(|id| bits[*id as usize / 8] & (1 << (id % 8)) != 0).collect();
    if ids.len() != about.tokens {
        let message = format!("holds {} tokens; adapter.toml has {}", ids.len(), about.tokens);
        return Err(Error::file(file, message));
    }
    Ok(ids)
}

/// The bytes of the part that `adapter.toml` was written with: `file`, or `file.next` of an interrupted save.
fn read_part(file: &Path, limit: u64, expected: &str) -> Result<Vec<u8>> {
    let bytes = files::read_bytes(file, limit);
    if bytes.as_ref().is_ok_and(|bytes| sha256(bytes) == expected) {
        return bytes;
    }
    if let Ok(waiting) = files::read_bytes(&next(file), limit)
        && sha256(&waiting) == expected
    {
        return Ok(waiting);
    }
    bytes?;
    let message = "does not belong to the adapter.toml beside it: one of them was changed or copied alone; copy the \
                   whole adapter, or train again";
    Err(Error::file(file, message))
}
