//! The tensors of a model directory: one safetensors file or several with an index, read one tensor at a time.
//!
//! A tensor is read in pieces, of a large one several at a time, into memory of the caller, widened to f32 on the way
//! (f32, f16, bf16), and refused when its shape is not the expected one or a value is not finite. No second copy of a
//! tensor is ever held.
//! The index is `{"weight_map": {"tensor": "shard file", ...}}`; shard names must be plain file names of the directory.
//! The headers' own checks are in [`super::shard`]. Quantised dtypes are refused by name.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use serde_json::Value;

use super::shard::Shard;
use crate::error::{Error, Result};
use crate::{files, spelling};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// An index of a hundred thousand tensors is below this.
const LARGEST_INDEX: u64 = 64 << 20;
/// Every shard stays open, and processes may hold 1,024 files; no model in sight has more than 200.
const MOST_SHARDS: usize = 512;
/// Tensors are read in pieces of this size: large enough for the disk, small enough for the cache.
const PIECE_BYTES: usize = 256 << 10;
/// No thread is started for fewer values: they are read in less time than that takes to pay.
const LEAST_PART: usize = 1 << 20;

/// The tensors of a model directory, known by name, dtype and shape; their values stay in the files.
#[derive(Debug)]
pub struct Weights {
    /// `model.safetensors` or the index: the file that errors about missing tensors name.
    file: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Tensor>,
}

/// Turns little-endian values of some dtype into as many f32 values.
type Widen = fn(&[u8], &mut [f32]);

/// Where a tensor lies and what it is.
#[derive(Debug)]
struct Tensor {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Offset from the beginning of the file, in bytes.
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Whether a directory holds safetensors weights.
    pub fn present(directory: &Path) -> bool {
        files::exists(&directory.join(SINGLE_FILE)) || files::exists(&directory.join(INDEX_FILE))
    }

    /// Whether it holds them all: the one file, or every shard of a sound index.
    pub(super) fn complete(directory: &Path) -> bool {
        let there = |name: &String| directory.join(name).is_file();
        let shards = || read_index(&directory.join(INDEX_FILE)).is_ok_and(|shards| shards.keys().all(there));
        directory.join(SINGLE_FILE).is_file() || shards()
    }

    /// Opens `model.safetensors`, or else the shards of `model.safetensors.index.json`, and checks every header.
    ///
    /// # Errors
    /// A missing file; a header that is truncated, too long, no UTF-8, no JSON, or that lies about offsets and sizes;
    /// an index that names a file outside the directory or a tensor that its shard lacks. Each names the file.
    pub fn open(directory: &Path) -> Result<Self> {
        let single = directory.join(SINGLE_FILE);
        let index = directory.join(INDEX_FILE);
        if !files::exists(&single) && files::exists(&index) {
            return Self::open_sharded(directory, &index);
        }
        Self::open_file(&single)
    }

    /// Opens one safetensors file, whatever its name.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_file(file: &Path) -> Result<Self> {
        let (shard, metadata) = Shard::open(file)?;
        let mut tensors = BTreeMap::new();
        for name in metadata.offset_keys() {
            if let Some(tensor) = Tensor::find(&metadata, &name, 0, &shard) {
                tensors.insert(name, tensor);
            }
        }
        Ok(Weights { file: file.into(), shards: vec![shard], tensors })
    }

    /// Opens the shards that an index names. A tensor of a shard that the index does not list is not visible.
    fn open_sharded(directory: &Path, index: &Path) -> Result<Self> {
        let by_shard = read_index(index)?;
        let mut shards = Vec::new();
        let mut tensors = BTreeMap::new();
        for (shard_name, names) in by_shard {
            let (shard, metadata) = Shard::open(&directory.join(&shard_name))?;
            for name in names {
                let Some(tensor) = Tensor::find(&metadata, &name, shards.len(), &shard) else {
                    return Err(Error::tensor(index, &name, format!("is not in {shard_name}, where the index has it")));
                };
                tensors.insert(name, tensor);
            }
            shards.push(shard);
        }
        Ok(Weights { file: index.into(), shards, tensors })
    }

    /// The file that lists the tensors: `model.safetensors` or the index.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// The type that a tensor is stored in, by its name in safetensors: `F32`, `BF16`.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|tensor| format!("{:?}", tensor.dtype))
    }

    /// Bytes of a tensor as it is stored; none of one that is not there.
    pub(super) fn bytes(&self, name: &str) -> usize {
        self.tensors.get(name).map_or(0, |tensor| tensor.bytes)
    }

    /// Reads a tensor as f32, in row-major order. `out` gets its length and keeps its memory between calls.
    ///
    /// # Errors
    /// A missing tensor (with up to three names like it), another shape than `expected_shape`, a dtype other than f32,
    /// f16 and bf16, a value that is not finite (with its index), a failed read. `out` holds no usable values then.
    pub fn read_into(&self, name: &str, expected_shape: &[usize], out: &mut Vec<f32>) -> Result<()> {
        let (tensor, ..) = self.readable(name, expected_shape)?;
        let values = tensor.values();
        out.try_reserve_exact(values.saturating_sub(out.len()))
            .map_err(|_| Error::Failed(format!("no memory for the {values} values of {name}")))?;
        out.resize(values, 0.0);
        self.read(name, expected_shape, out, 1)
    }

    /// The same into memory of the tensor's size, a large tensor with up to `threads` threads.
    ///
    /// # Errors
    /// As [`Weights::read_into`]; of several bad values the first.
    pub fn read(&self, name: &str, expected_shape: &[usize], out: &mut [f32], threads: usize) -> Result<()> {
        let (tensor, shard, widen) = self.readable(name, expected_shape)?;
        assert_eq!(out.len(), tensor.values(), "memory for exactly the values of {name}");
        let read = |first: usize, out: &mut [f32]| -> Result<()> {
            let bytes = tensor.value_bytes();
            let mut buffer = vec![0; PIECE_BYTES.min(out.len() * bytes)];
            for (i, values) in out.chunks_mut(PIECE_BYTES / bytes).enumerate() {
                let first = first + i * (PIECE_BYTES / bytes);
                let piece = &mut buffer[..values.len() * bytes];
                shard.read_at(tensor.start + (first * bytes) as u64, piece)?;
                widen(piece, values);
                if let Some(at) = not_finite(values) {
                    let place = index_of(first + at, &tensor.shape);
                    let message = format!("the value at {place:?} is {}; weights must be finite", values[at]);
                    return Err(Error::tensor(shard.path(), name, message));
                }
            }
            Ok(())
        };
        let part = out.len().div_ceil(threads.max(1)).max(LEAST_PART);
        std::thread::scope(|scope| {
            let mut parts = out.chunks_mut(part).enumerate().map(|(i, out)| (i * part, out));
            let mine = parts.next();
            let others: Vec<_> = parts.map(|(first, out)| scope.spawn(move || read(first, out))).collect();
            let mine = mine.map_or(Ok(()), |(first, out)| read(first, out));
            let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.fold(mine, Result::and)
        })
    }

    /// A tensor that can be read as f32 and has the expected shape.
    fn readable(&self, name: &str, expected_shape: &[usize]) -> Result<(&Tensor, &Shard, Widen)> {
        let (tensor, shard) = self.find(name)?;
        let wrong = |message: String| Error::tensor(shard.path(), name, message);
        if tensor.shape != expected_shape {
            return Err(wrong(format!("has shape {:?}; the configuration makes it {expected_shape:?}", tensor.shape)));
        }
        match widening(tensor.dtype) {
            Some(widen) => Ok((tensor, shard, widen)),
            None => Err(wrong(format!("has dtype {:?}; F32, F16 and BF16 can be read", tensor.dtype))),
        }
    }

    /// Hands the bytes of a tensor, as they stand in the file, to `visit`, piece by piece and in order. A piece is a
    /// whole number of values.
    pub(super) fn for_each_piece(&self, name: &str, mut visit: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (tensor, shard) = self.find(name)?;
        let mut buffer = vec![0; tensor.bytes.min(PIECE_BYTES)];
        let mut done = 0;
        while done < tensor.bytes {
            let piece = &mut buffer[..PIECE_BYTES.min(tensor.bytes - done)];
            shard.read_at(tensor.start + done as u64, piece)?;
            visit(piece)?;
            done += piece.len();
        }
        Ok(())
    }

    /// The headers of all files, each with its file's name, in the order of the names.
    pub(super) fn headers(&self) -> impl Iterator<Item = Result<(&Path, Vec<u8>)>> {
        self.shards.iter().map(|shard| Ok((shard.path(), shard.header()?)))
    }

    fn find(&self, name: &str) -> Result<(&Tensor, &Shard)> {
        let tensor = self.tensors.get(name).ok_or_else(|| {
            let close = spelling::closest(name, self.names(), 3);
            let hint = if close.is_empty() { String::new() } else { format!("; names like it: {}", close.join(", ")) };
            Error::tensor(&self.file, name, format!("is missing{hint}"))
        })?;
        Ok((tensor, &self.shards[tensor.shard]))
    }
}

impl Tensor {
    /// The tensor of a name in a header whose offsets have been checked against the file.
    fn find(metadata: &safetensors::tensor::Metadata, name: &str, shard: usize, file: &Shard) -> Option<Tensor> {
        let info = metadata.info(name)?;
        let (begin, end) = info.data_offsets;
        let start = file.data_start() + begin as u64;
        Some(Tensor { shard, dtype: info.dtype, shape: info.shape.clone(), start, bytes: end - begin })
    }

    /// Bytes of a value as it is stored, in a dtype that can be read.
    fn value_bytes(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    fn values(&self) -> usize {
        self.bytes / self.value_bytes()
    }
}

/// The tensors of each shard, by shard, sorted.
fn read_index(index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let text = files::read_text(index, LARGEST_INDEX)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|wrong| Error::line(index, wrong.line().max(1), format!("not valid JSON: {wrong}")))?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty()) else {
        return Err(Error::key(index, "weight_map", "is missing or empty; an object from tensor to file was expected"));
    };
    let mut by_shard: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str().filter(|shard| is_plain_name(shard)) else {
            let message = format!("{shard} is not the plain name of a .safetensors file in this directory");
            return Err(Error::key(index, format!("weight_map.{tensor}"), message));
        };
        by_shard.entry(shard.into()).or_default().push(tensor.clone());
    }
    if by_shard.len() > MOST_SHARDS {
        let message = format!("names {} files; at most {MOST_SHARDS} can be open at once", by_shard.len());
        return Err(Error::key(index, "weight_map", message));
    }
    Ok(by_shard)
}

/// Whether a shard's name stays within its directory on every operating system.
fn is_plain_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.')
}

/// How to widen a dtype; none for the dtypes that are refused.
fn widening(dtype: Dtype) -> Option<Widen> {
    match dtype {
        Dtype::F32 => Some(|bytes, out| {
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, value)| *to = f32::from_le_bytes(*value));
        }),
        Dtype::F16 => Some(|bytes, out| {
            let halves: Vec<f16> = bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value)).collect();
            halves.convert_to_f32_slice(out);
        }),
        // A bf16 is the upper half of an f32.
        Dtype::BF16 => Some(|bytes, out| {
            let wide = |value: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*value)) << 16);
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, value)| *to = wide(value));
        }),
        _ => None,
    }
}

/// Where the first value is that is no finite number.
fn not_finite(values: &[f32]) -> Option<usize> {
    // All values first, without a way out, so that the loop is one of vectors.
    let any = values.iter().fold(false, |any, value| any | !value.is_finite());
    if any { values.iter().position(|value| !value.is_finite()) } else { None }
}

/// The index of a value, `[row, column]`, from its position in row-major order.
fn index_of(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut left = position;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let place = left % size;
            left /= size;
            place
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
pub(in crate::checkpoint) mod tests;
