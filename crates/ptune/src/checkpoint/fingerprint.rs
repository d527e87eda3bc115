//! The base fingerprint: which model, exactly, an adapter was trained on.
//!
//! SHA-256 over `config.json`, the tokenizer (`tokenizer.json`, or else `vocab.txt`, or else `vocab.json` and `merges.txt`,
//! both with the `tokenizer_config.json` that says how to read them), the header of every safetensors file and the bytes of the word embedding table. Each part goes in as its name, its length (eight bytes, little
//! endian) and its bytes, so that no byte can move from one part to the next unnoticed. The other tensors are left
//! out: reading them all would cost more than loading the model, and a fine-tuned copy has another embedding table.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::tokenizer::LARGEST_FILE;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::files;

/// The fingerprint of the model in `directory`, 64 hexadecimal digits.
pub(super) fn fingerprint(directory: &Path, weights: &Weights, embedding_tensor: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for name in [super::CONFIG_FILE].iter().chain(tokenizer_files(directory)?) {
        let bytes = files::read_bytes(&directory.join(name), LARGEST_FILE)?;
        begin_part(&mut hash, name, bytes.len());
        hash.update(&bytes);
    }
    for header in weights.headers() {
        let (path, bytes) = header?;
        begin_part(&mut hash, &path.file_name().unwrap_or_default().to_string_lossy(), bytes.len());
        hash.update(&bytes);
    }
    // The header has fixed the table's length; shapes and dtypes stand there.
    begin_part(&mut hash, embedding_tensor, 0);
    weights.for_each_piece(embedding_tensor, |piece| {
        hash.update(piece);
        Ok(())
    })?;
    Ok(hexadecimal(&hash.finalize()))
}

/// The files that decide about token ids, as the tokenizer reads them.
fn tokenizer_files(directory: &Path) -> Result<&'static [&'static str]> {
    let present = |name: &str| files::exists(&directory.join(name));
    if present("tokenizer.json") {
        return Ok(&["tokenizer.json"]);
    }
    let (vocab_txt, settings) = (present("vocab.txt"), present("tokenizer_config.json"));
    match (vocab_txt, present("vocab.json") && present("merges.txt"), settings) {
        (true, _, true) => Ok(&["vocab.txt", "tokenizer_config.json"]),
        (true, _, false) => Ok(&["vocab.txt"]),
        (false, true, true) => Ok(&["vocab.json", "merges.txt", "tokenizer_config.json"]),
        (false, true, false) => Ok(&["vocab.json", "merges.txt"]),
        (false, false, _) => {
            let wanted = "tokenizer.json, or vocab.txt, or vocab.json with merges.txt";
            Err(Error::file(directory, format!("holds no tokenizer; {wanted} was expected beside config.json")))
        }
    }
}

/// SHA-256 of some bytes, 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn begin_part(hash: &mut Sha256, name: &str, bytes: usize) {
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update((bytes as u64).to_le_bytes());
}

/// Bytes as hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
