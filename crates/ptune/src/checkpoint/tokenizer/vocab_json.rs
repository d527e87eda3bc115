//! `vocab.json` and `merges.txt`, as GPT-2 and RoBERTa wrote them: byte-level BPE.
//!
//! `vocab.json` is an object from token to id. `merges.txt` has a pair of tokens a line, joined by a space, the most
//! frequent pair first; its first line may be `#version: ...`. Bytes stand as the printable characters of the byte-level
//! alphabet (a space as `Ġ`). The pre-tokeniser is GPT-2's, with `add_prefix_space` (default false) of
//! `tokenizer_config.json`: the defaults of transformers 5.23, `models/gpt2/tokenization_gpt2.py`.
//!
//! Not read: `added_tokens.json`; a token that only stands there counts as absent.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::LARGEST_FILE;
use crate::{Error, Result, files};

/// The tokenizer of these two files.
pub(super) fn byte_level_tokenizer(
    vocab_file: &Path,
    merges_file: &Path,
    settings: &Map<String, Value>,
) -> Result<tokenizers::Tokenizer> {
    let vocab = read_vocab(vocab_file)?;
    let merges = read_merges(merges_file, &vocab)?;
    let prefix = match settings.get("add_prefix_space") {
        Some(Value::Bool(prefix)) => *prefix,
        None | Some(Value::Null) => false,
        Some(_) => {
            let file = vocab_file.with_file_name("tokenizer_config.json");
            return Err(Error::key(&file, "add_prefix_space", "this should be true or false"));
        }
    };
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).build();
    let bpe = bpe.map_err(|e| Error::file(merges_file, format!("these merges cannot be used: {e}")))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, true, true)));
    Ok(tokenizer)
}

fn read_vocab(file: &Path) -> Result<Vocab> {
    let text = files::read_text(file, LARGEST_FILE)?;
    let tokens: Map<String, Value> = serde_json::from_str(&text).map_err(|e| {
        Error::line(file, e.line().max(1), format!("an object from token to id was expected, {{\"the\": 0, ...}}: {e}"))
    })?;
    let id = |(token, id): (String, Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(Error::key(file, token, format!("{id} is no token id, a whole number from 0"))),
    };
    tokens.into_iter().map(id).collect()
}

fn read_merges(file: &Path, vocab: &Vocab) -> Result<Merges> {
    let text = files::read_text(file, LARGEST_FILE)?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        let wrong = |message: String| Error::line(file, number + 1, message);
        let pair = line.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' '));
        let (a, b) =
            pair.ok_or_else(|| wrong(format!("two tokens with a space between were expected, not '{line}'")))?;
        let joined = format!("{a}{b}");
        if let Some(token) = [a, b, &joined].into_iter().find(|token| !vocab.contains_key(*token)) {
            return Err(wrong(format!("'{token}' is not in vocab.json: the two files are not of the same model")));
        }
        merges.push((a.to_owned(), b.to_owned()));
    }
    Ok(merges)
}
