//! A model as a Hugging Face directory: `config.json`, `model.safetensors`, and the files of its tokenizer.
//!
//! Weights are f32 or bf16; a number becomes bf16 by rounding to the nearest, ties to even, as PyTorch does it. Tensors
//! stand in the order of their names and go to the file one after the other. All files are written under temporary
//! names first and renamed then, `config.json` last: without it a directory is no model.

use std::io::{BufWriter, Write};
use std::path::Path;

use half::bf16;
use serde_json::{Map, Value, json};

use super::config::Dtype;
use crate::checkpoint::TOKENIZER_FILES;
use crate::error::{Error, Result};
use crate::files::{self, StagedFile};
use crate::model::Model;
use crate::parameter::Group;

const LARGEST_FILE: u64 = 256 << 20;

/// Puts the numbers of a tensor, row by row, into a buffer.
type Fill<'a> = Box<dyn Fn(&mut Vec<f32>) + 'a>;

/// A file's name and its bytes.
type NamedFile = (String, Vec<u8>);

/// A tensor to write.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    pub(super) fill: Fill<'a>,
}

/// Writes a trained model into `directory`, with the configuration and the tokenizer of the directory that it began from.
/// What that one holds beside the language model (a pooler) is left out, because nothing has trained it.
///
/// # Errors
/// A file that cannot be read or written; a directory that was there before is whole unless a rename fails.
pub(super) fn write_trained(directory: &Path, began_from: &Path, model: &Model, dtype: Dtype) -> Result<()> {
    let (config, tokenizer) = words_of(began_from)?;
    let trained: Vec<_> =
        [Group::Backbone, Group::Head].into_iter().flat_map(|group| model.trained_tensors(group)).collect();
    let named = trained.iter().map(|tensor| Named {
        name: tensor.name,
        shape: &tensor.shape,
        fill: Box::new(move |out: &mut Vec<f32>| tensor.read_into(out)),
    });
    write(directory, config, tokenizer, dtype, &mut named.collect::<Vec<_>>())
}

/// All of a model directory but its weights: the configuration, and the files of its tokenizer.
pub(super) fn words_of(directory: &Path) -> Result<(Map<String, Value>, Vec<NamedFile>)> {
    let config_file = directory.join("config.json");
    let config = match serde_json::from_slice(&files::read_bytes(&config_file, LARGEST_FILE)?) {
        Ok(Value::Object(config)) => config,
        _ => return Err(Error::file(&config_file, "is no JSON object any more")),
    };
    let mut tokenizer = Vec::new();
    for name in TOKENIZER_FILES.iter().filter(|name| files::exists(&directory.join(name))) {
        tokenizer.push(((*name).to_owned(), files::read_bytes(&directory.join(name), LARGEST_FILE)?));
    }
    Ok((config, tokenizer))
}

/// Writes a model directory.
///
/// # Errors
/// As [`write_trained`].
pub(super) fn write(
    directory: &Path,
    mut config: Map<String, Value>,
    tokenizer: Vec<NamedFile>,
    dtype: Dtype,
    tensors: &mut [Named<'_>],
) -> Result<()> {
    files::create_directory(directory)?;
    files::remove_temporaries(directory)?;
    config.remove("torch_dtype"); // the older name of the next
    config.insert("dtype".into(), json!(if dtype == Dtype::Bf16 { "bfloat16" } else { "float32" }));
    let config_file = directory.join("config.json");
    let config = serde_json::to_vec_pretty(&config).map_err(|wrong| Error::file(&config_file, wrong.to_string()))?;
    let mut staged = vec![stage_weights(&directory.join("model.safetensors"), dtype, tensors)?];
    for (name, bytes) in tokenizer {
        staged.push(StagedFile::write(&directory.join(name), &bytes)?);
    }
    staged.push(StagedFile::write(&config_file, &config)?);
    staged.into_iter().try_for_each(StagedFile::commit)
}

fn stage_weights(path: &Path, dtype: Dtype, tensors: &mut [Named<'_>]) -> Result<StagedFile> {
    tensors.sort_by_key(|tensor| tensor.name);
    let header = header(dtype, tensors);
    StagedFile::write_with(path, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut numbers = Vec::new();
        for tensor in tensors.iter() {
            (tensor.fill)(&mut numbers);
            for number in &numbers {
                match dtype {
                    Dtype::F32 => file.write_all(&number.to_le_bytes())?,
                    Dtype::Bf16 => file.write_all(&bf16::from_f32(*number).to_le_bytes())?,
                }
            }
        }
        file.flush()
    })
}

/// The header of a safetensors file, padded with spaces to whole words as the format's own writer does.
fn header(dtype: Dtype, tensors: &[Named<'_>]) -> String {
    let (name, bytes) = match dtype {
        Dtype::F32 => ("F32", 4),
        Dtype::Bf16 => ("BF16", 2),
    };
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * bytes;
        header.insert(tensor.name.into(), json!({"dtype": name, "shape": tensor.shape, "data_offsets": [start, end]}));
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}
