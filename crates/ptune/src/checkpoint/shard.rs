//! One safetensors file: its header, checked, and positioned reads of its bytes.
//!
//! Format (<https://huggingface.co/docs/safetensors>): eight bytes with the header's length, little endian; the header,
//! JSON `{"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}`; then the tensors' bytes without gaps.
//! The `safetensors` crate parses the header and checks that offsets are contiguous and agree with shape and dtype.
//! Here it is checked that the header fits into the file *before* it is read, and that the file ends where the header
//! says. Nothing is mapped into memory: a mapped file that shrinks kills the process, a read reports an error. The bytes of a
//! built-in model are in memory already and are copied from there.

use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;

use crate::error::{Error, Result};
use crate::files::built_in;

/// The format's own limit, which the `safetensors` crate enforces as well.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes of the length field in front of the header.
const LENGTH_BYTES: u64 = 8;

/// An open safetensors file whose header has been checked.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    source: Source,
    header_bytes: u64,
}

/// Where its bytes are.
#[derive(Debug)]
enum Source {
    File(File),
    Memory(&'static [u8]),
}

impl Shard {
    /// Opens a file and reads its header; tensors are left where they are.
    pub(crate) fn open(path: &Path) -> Result<(Shard, Metadata)> {
        let (source, bytes) = Source::open(path)?;
        let mut shard = Shard { path: path.into(), source, header_bytes: 0 };
        shard.header_bytes = shard.header_length(bytes)?;
        let metadata = shard.parse_header()?;
        shard.check_end(&metadata, bytes)?;
        Ok((shard, metadata))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the tensors' bytes begin in the file; `data_offsets` count from here.
    pub(crate) fn data_start(&self) -> u64 {
        LENGTH_BYTES + self.header_bytes
    }

    /// The header as it stands in the file.
    pub(crate) fn header(&self) -> Result<Vec<u8>> {
        // At most LARGEST_HEADER, and no more than the file holds: header_length has made sure.
        let mut header = vec![0; self.header_bytes as usize];
        self.read_at(LENGTH_BYTES, &mut header)?;
        Ok(header)
    }

    /// Fills `buffer` with the file's bytes from `offset`. Threads may read at the same time.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = match &self.source {
            Source::File(file) => self.read_exact_at(file, offset, buffer),
            Source::Memory(bytes) => copy_at(bytes, offset, buffer),
        };
        read.map_err(|source| Error::read(&self.path, source))
    }

    #[cfg(unix)]
    fn read_exact_at(&self, file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }

    /// Without positioned reads every read opens the file again, so that no position is shared between threads.
    #[cfg(not(unix))]
    fn read_exact_at(&self, _: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }

    /// The header's length, known to fit into a file of `file_bytes`.
    fn header_length(&self, file_bytes: u64) -> Result<u64> {
        let wrong = |message: String| Err(Error::file(&self.path, message));
        if file_bytes < LENGTH_BYTES {
            return wrong(format!("is only {file_bytes} bytes long: an empty or truncated safetensors file"));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        self.read_at(0, &mut length)?;
        if &length == b"version " {
            return wrong(
                "is a Git LFS pointer, not the weights themselves; run `git lfs pull` in its directory".into(),
            );
        }
        let claimed = u64::from_le_bytes(length);
        let left = file_bytes - LENGTH_BYTES;
        if claimed > left {
            return wrong(format!(
                "the header should be {claimed} bytes long but only {left} follow: the file is truncated, or no \
                 safetensors file"
            ));
        }
        if claimed > LARGEST_HEADER {
            return wrong(format!("the header is {claimed} bytes long; the format allows {LARGEST_HEADER}"));
        }
        Ok(claimed)
    }

    /// Parses the header; the crate checks offsets, shapes and sizes against each other.
    fn parse_header(&self) -> Result<Metadata> {
        let header = self.header()?;
        let text = std::str::from_utf8(&header)
            .map_err(|wrong| Error::file(&self.path, format!("the safetensors header is not UTF-8: {wrong}")))?;
        serde_json::from_str(text)
            .map_err(|wrong| Error::file(&self.path, format!("the safetensors header cannot be believed: {wrong}")))
    }

    /// The tensors must end exactly where the file does.
    fn check_end(&self, metadata: &Metadata, file_bytes: u64) -> Result<()> {
        let described = metadata.data_len() as u64;
        let held = file_bytes - self.data_start();
        let message = match described.cmp(&held) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => "the file is truncated; copy it again",
            std::cmp::Ordering::Less => "something was appended; copy it again",
        };
        Err(Error::file(
            &self.path,
            format!("the header describes {described} bytes of tensors but {held} are there: {message}"),
        ))
    }
}

impl Source {
    /// Opens a file; how many bytes it has.
    fn open(path: &Path) -> Result<(Source, u64)> {
        if let Some(bytes) = built_in::bytes(path) {
            return Ok((Source::Memory(bytes), bytes.len() as u64));
        }
        let failed = |source| Error::read(path, source);
        // Before opening: to open a pipe that nobody writes to would wait for ever.
        let about = path.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(Error::file(path, "is not a file; safetensors weights were expected"));
        }
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok((Source::File(file), bytes))
    }
}

/// As a positioned read of a file.
fn copy_at(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    let start = usize::try_from(offset).ok();
    let part = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
    buffer.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
    Ok(())
}
