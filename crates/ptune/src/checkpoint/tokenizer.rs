//! The tokenizer of a checkpoint directory: `tokenizer.json`, or `vocab.txt` as BERT wrote it.
//!
//! A template encodes each of its pieces alone, so the question here is always the same: *what stands before this
//! text?* [`Glue`] says it, and each kind of tokenizer answers in its own way:
//!
//! | kind | start of the text | after white space | glued to what precedes |
//! |---|---|---|---|
//! | WordPiece | `word` | `word` | `##word`, unless the tokenizer splits there anyway (punctuation, Han) |
//! | byte-level BPE | `word` (or `Ġword` with `add_prefix_space`) | `Ġword` | `word` |
//! | SentencePiece | `▁word` as its `prepend_scheme` says | `▁word` | `word` |
//!
//! The padding, truncation and BPE dropout that a file may store are switched off, and the names of special tokens
//! inside a text are text: `"[MASK]"` in someone's data never becomes the mask token. Special tokens around a text are
//! the caller's business, so the file's post-processor is not used.
//!
//! `vocab.txt`: one token a line, the id is the line's index; normaliser and pre-tokeniser are BERT's, with
//! `do_lower_case` (default true), `tokenize_chinese_chars` (true) and `strip_accents` (as lower case) of
//! `tokenizer_config.json`, the defaults of transformers 5.23 `models/bert/tokenization_bert.py`.
//!
//! Not read: `vocab.json` with `merges.txt`, and SentencePiece's `.model`; transformers converts both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    Decoder, Model, OffsetReferential, OffsetType, PostProcessorWrapper, PreTokenizedString, PreTokenizer,
};

use super::special_tokens::{SpecialTokens, read_settings};
use crate::{Error, Result};

/// The character that stands for a word in front of a glued text.
const WORD: char = 'x';
/// SentencePiece's visible space.
const METASPACE: char = '▁';

/// What stands directly before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glue {
    /// Nothing: the text starts here.
    Start,
    /// White space.
    Space,
    /// This character, without white space between.
    Joined(char),
}

impl Glue {
    /// Glued to a pseudo token or to the mask, which stand for words.
    pub const JOINED: Glue = Glue::Joined(WORD);
}

/// Text to token ids, without padding, truncation or special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    file: PathBuf,
    inner: tokenizers::Tokenizer,
    kind: Kind,
    special: SpecialTokens,
    vocab_size: usize,
}

/// How a tokenizer marks the start of a word, and what it takes to encode a text that does not start one.
#[derive(Debug)]
enum Kind {
    WordPiece {
        prefix: String,
        max_chars: usize,
    },
    /// `joined`: the pre-tokeniser without `add_prefix_space`.
    ByteLevel {
        joined: Option<PreTokenizerWrapper>,
    },
    /// `joined_*`: the pipeline that prepends nothing; `prepends`: whether the original one does; `splits`: whether
    /// white space is gone before the pieces are marked, so that only the first word may run through `joined_*`.
    Metaspace {
        joined_normalizer: Option<NormalizerWrapper>,
        joined: Option<PreTokenizerWrapper>,
        prepends: bool,
        splits: bool,
    },
    /// Words carry no mark at their start (BPE with `</w>`, word-level).
    Unmarked,
}

impl Tokenizer {
    /// Opens the tokenizer of a Hugging Face directory.
    ///
    /// Errors: neither `tokenizer.json` nor `vocab.txt`; a file that cannot be read or parsed.
    pub fn open(model_dir: &Path) -> Result<Tokenizer> {
        let settings = read_settings(model_dir)?;
        let (file, text) = (model_dir.join("tokenizer.json"), model_dir.join("vocab.txt"));
        if file.exists() {
            let bytes = std::fs::read(&file).map_err(|e| Error::read(&file, e))?;
            let inner = contained(|| tokenizers::Tokenizer::from_bytes(&bytes))
                .map_err(|e| Error::file(&file, format!("this is not a tokenizer of the tokenizers library: {e}")))?;
            Tokenizer::new(file, inner, &settings)
        } else if text.exists() {
            let inner = bert_tokenizer(&text, &settings[0])?;
            Tokenizer::new(text, inner, &settings)
        } else {
            let found = ["vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"]
                .into_iter()
                .find(|name| model_dir.join(name).exists());
            let hint = match found {
                Some(name) => format!(
                    "{name} is there, but this release does not read it: transformers' \
                     AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json"
                ),
                None => "copy it from where the model came from".to_string(),
            };
            Err(Error::file(model_dir, format!("the tokenizer is missing (tokenizer.json or vocab.txt); {hint}")))
        }
    }

    fn new(file: PathBuf, mut inner: tokenizers::Tokenizer, settings: &[Map<String, Value>]) -> Result<Tokenizer> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::file(&file, e.to_string()))?;
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.set_encode_special_tokens(true);
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        if vocab_size == 0 {
            return Err(Error::file(&file, "the vocabulary is empty"));
        }
        let mut special = SpecialTokens::find(settings, |name| inner.token_to_id(name));
        special.unk = special.unk.or_else(|| model_unk(inner.get_model()));
        let kind = Kind::of(&inner).map_err(|e| Error::file(&file, e))?;
        Ok(Tokenizer { file, inner, kind, special, vocab_size })
    }

    /// Token ids of `text`; its own leading and trailing white space is dropped, `glue` says what stands before it.
    ///
    /// Errors: the file's own rules fail on this text (a WordPiece vocabulary without its unknown token).
    pub fn encode(&self, text: &str, glue: Glue) -> Result<Vec<u32>> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoded = contained(|| match (&self.kind, glue) {
            (Kind::WordPiece { prefix, max_chars }, Glue::Joined(before)) => {
                self.encode_continuation(text, before, prefix, *max_chars)
            }
            (Kind::ByteLevel { joined }, Glue::Space) => {
                self.run(&format!(" {text}"), self.inner.get_normalizer(), joined.as_ref())
            }
            (Kind::ByteLevel { joined }, Glue::Joined(_)) => {
                self.run(text, self.inner.get_normalizer(), joined.as_ref())
            }
            (Kind::Metaspace { prepends: false, .. }, Glue::Space) => self.run_original(&format!(" {text}")),
            (Kind::Metaspace { joined_normalizer, joined, splits, .. }, Glue::Joined(_)) => {
                let end = if *splits { text.find(char::is_whitespace).unwrap_or(text.len()) } else { text.len() };
                self.run(&text[..end], joined_normalizer.as_ref(), joined.as_ref()).and_then(|mut ids| {
                    if !text[end..].trim().is_empty() {
                        ids.extend(self.run_original(text[end..].trim_start())?);
                    }
                    Ok(ids)
                })
            }
            _ => self.run_original(text),
        });
        let mut ids =
            encoded.map_err(|e| Error::file(&self.file, format!("the tokenizer cannot encode '{text}': {e}")))?;
        self.hide_special(&mut ids);
        Ok(ids)
    }

    /// A SentencePiece vocabulary lists its special tokens among its pieces, so that it finds them in a text as well.
    fn hide_special(&self, ids: &mut [u32]) {
        let SpecialTokens { mask, cls, sep, pad, unk, bos, eos } = self.special;
        let Some(unk) = unk else { return };
        for id in ids {
            if [mask, cls, sep, pad, bos, eos].contains(&Some(*id)) {
                *id = unk;
            }
        }
    }

    /// The one token of `word`, or `None` when it is several or unknown.
    ///
    /// Errors: as [`Tokenizer::encode`].
    pub fn single_token(&self, word: &str, glue: Glue) -> Result<Option<u32>> {
        let ids = self.encode(word, glue)?;
        Ok(match ids[..] {
            [id] if Some(id) != self.special.unk => Some(id),
            _ => None,
        })
    }

    /// Ids of the special tokens.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Id of the mask token.
    pub fn mask_id(&self) -> Option<u32> {
        self.special.mask
    }

    /// Id of the unknown token.
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk
    }

    /// One more than the largest id: the embedding table must have at least so many rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A token for people: bytes decoded, the mark of a leading space removed, `##` kept.
    pub fn token(&self, id: u32) -> String {
        let Some(raw) = self.inner.id_to_token(id) else { return format!("[id {id}]") };
        match &self.kind {
            Kind::WordPiece { .. } => raw,
            Kind::ByteLevel { .. } => match ByteLevel::default().decode_chain(vec![raw.clone()]) {
                Ok(parts) => shown(&parts.concat(), raw),
                Err(_) => raw,
            },
            Kind::Metaspace { .. } => shown(&raw.replace(METASPACE, " "), raw),
            Kind::Unmarked => shown(raw.trim_end_matches("</w>"), raw.clone()),
        }
    }

    /// The tokens of `text` for an error message: `excellent, ##ly`.
    pub fn shown_tokens(&self, ids: &[u32]) -> String {
        ids.iter().map(|id| self.token(*id)).collect::<Vec<_>>().join(", ")
    }

    fn run_original(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        self.run(text, self.inner.get_normalizer(), self.inner.get_pre_tokenizer())
    }

    fn run(
        &self,
        text: &str,
        normalizer: Option<&NormalizerWrapper>,
        pre_tokenizer: Option<&PreTokenizerWrapper>,
    ) -> tokenizers::Result<Vec<u32>> {
        let mut pieces = self.split(text, normalizer, pre_tokenizer)?;
        pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
        Ok(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    fn split(
        &self,
        text: &str,
        normalizer: Option<&NormalizerWrapper>,
        pre_tokenizer: Option<&PreTokenizerWrapper>,
    ) -> tokenizers::Result<PreTokenizedString> {
        let mut pieces = self.inner.get_added_vocabulary().extract_and_normalize(normalizer, text);
        if let Some(pre_tokenizer) = pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        Ok(pieces)
    }

    /// WordPiece of a text glued to `before`: with a stand-in word in front, the first piece is that word and what is
    /// glued to it; the rest of that piece is matched as a continuation from its first character, the pieces behind
    /// it as always. When the tokenizer would split behind `before` anyway, nothing is glued.
    fn encode_continuation(
        &self,
        text: &str,
        before: char,
        prefix: &str,
        max_chars: usize,
    ) -> tokenizers::Result<Vec<u32>> {
        let (normalizer, pre_tokenizer) = (self.inner.get_normalizer(), self.inner.get_pre_tokenizer());
        if before != WORD {
            let pair = self.split(&format!("{before}{WORD}"), normalizer, pre_tokenizer)?;
            if pair.get_splits(OffsetReferential::Original, OffsetType::None).len() > 1 {
                return self.run_original(text);
            }
        }
        let pieces = self.split(&format!("{WORD}{text}"), normalizer, pre_tokenizer)?;
        let mut ids = Vec::new();
        for (i, (piece, _, added)) in
            pieces.get_splits(OffsetReferential::Original, OffsetType::None).into_iter().enumerate()
        {
            match (i, piece.strip_prefix(WORD), added) {
                (_, _, Some(tokens)) => ids.extend(tokens.iter().map(|token| token.id)),
                (0, Some(rest), None) => self.continue_word(rest, prefix, max_chars, &mut ids)?,
                // A normaliser that rewrites the stand-in: nothing to cut off safely.
                (0, None, None) => return self.run_original(text),
                _ => ids.extend(self.inner.get_model().tokenize(piece)?.into_iter().map(|token| token.id)),
            }
        }
        Ok(ids)
    }

    /// Greedy longest match of `word` where every piece, the first too, carries the continuation prefix.
    fn continue_word(&self, word: &str, prefix: &str, max_chars: usize, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        let (before, mut rest) = (ids.len(), word);
        while !rest.is_empty() {
            let ends = rest.char_indices().map(|(i, c)| i + c.len_utf8()).rev();
            let longest = ends
                .filter(|_| word.chars().count() <= max_chars)
                .find_map(|end| Some((self.inner.get_model().token_to_id(&format!("{prefix}{}", &rest[..end]))?, end)));
            let Some((id, end)) = longest else {
                ids.truncate(before);
                ids.push(self.special.unk.ok_or("the vocabulary has no token for unknown words")?);
                return Ok(());
            };
            ids.push(id);
            rest = &rest[end..];
        }
        Ok(())
    }
}

impl Kind {
    /// Reads the kind off the pipeline, and prepares the variants that encode a glued text.
    fn of(inner: &tokenizers::Tokenizer) -> std::result::Result<Kind, String> {
        let as_json = |e: serde_json::Error| e.to_string();
        let normalizer = serde_json::to_value(inner.get_normalizer()).map_err(as_json)?;
        let pre_tokenizer = serde_json::to_value(inner.get_pre_tokenizer()).map_err(as_json)?;
        let (normalizers, pre_tokenizers) = (steps(&normalizer), steps(&pre_tokenizer));
        if let ModelWrapper::WordPiece(model) = inner.get_model() {
            let prefix = model.continuing_subword_prefix.clone();
            return Ok(Kind::WordPiece { prefix, max_chars: model.max_input_chars_per_word });
        }
        let has = |steps: &[&Value], name: &str| steps.iter().any(|step| step["type"] == name);
        if has(&pre_tokenizers, "ByteLevel") || has(&normalizers, "ByteLevel") {
            let joined = edited(&pre_tokenizer, &|step| {
                if step["type"] == "ByteLevel" {
                    step["add_prefix_space"] = json!(false);
                }
                true
            });
            return Ok(Kind::ByteLevel { joined: serde_json::from_value(joined).map_err(as_json)? });
        }
        let marks = normalizers.iter().any(|step| step["content"] == METASPACE.to_string());
        let scheme = pre_tokenizers.iter().find(|step| step["type"] == "Metaspace").map(|step| &step["prepend_scheme"]);
        if !marks && scheme.is_none() {
            return Ok(Kind::Unmarked);
        }
        let joined_normalizer = edited(&normalizer, &|step| step["type"] != "Prepend");
        let joined = edited(&pre_tokenizer, &|step| {
            if step["type"] == "Metaspace" {
                step["prepend_scheme"] = json!("never");
            }
            true
        });
        Ok(Kind::Metaspace {
            joined_normalizer: serde_json::from_value(joined_normalizer).map_err(as_json)?,
            joined: serde_json::from_value(joined).map_err(as_json)?,
            prepends: has(&normalizers, "Prepend") || scheme.is_some_and(|scheme| scheme != "never"),
            splits: has(&pre_tokenizers, "WhitespaceSplit") || has(&pre_tokenizers, "Whitespace"),
        })
    }
}

/// The tokenizers library panics on some damaged files (a piece length of 0, a pattern that matches nothing), and no
/// file may bring the program down: such a panic becomes an error here.
fn contained<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the tokenizer file makes no sense".into()))
}

/// The steps of a normaliser or pre-tokeniser, nested sequences flattened.
fn steps(pipeline: &Value) -> Vec<&Value> {
    let children = pipeline.get("normalizers").or_else(|| pipeline.get("pretokenizers")).and_then(Value::as_array);
    match children {
        Some(children) => children.iter().flat_map(steps).collect(),
        None => vec![pipeline],
    }
}

/// A copy of a pipeline after `edit` of each step; a step for which it says false is left out.
fn edited(pipeline: &Value, edit: &dyn Fn(&mut Value) -> bool) -> Value {
    let mut copy = pipeline.clone();
    for key in ["normalizers", "pretokenizers"] {
        if let Some(children) = copy.get_mut(key).and_then(Value::as_array_mut) {
            *children = children.iter().map(|child| edited(child, edit)).filter(|child| !child.is_null()).collect();
            return copy;
        }
    }
    if !copy.is_object() || edit(&mut copy) { copy } else { Value::Null }
}

fn model_unk(model: &ModelWrapper) -> Option<u32> {
    match model {
        ModelWrapper::WordPiece(model) => model.token_to_id(&model.unk_token),
        ModelWrapper::WordLevel(model) => model.token_to_id(&model.unk_token),
        ModelWrapper::BPE(model) => model.token_to_id(model.unk_token.as_deref()?),
        ModelWrapper::Unigram(model) => model.token_to_id("<unk>"),
    }
}

/// `text` without its leading space, or `raw` where nothing but the space is left.
fn shown(text: &str, raw: String) -> String {
    match text.trim_start() {
        "" => raw,
        text => text.to_string(),
    }
}

/// BERT's pipeline over a `vocab.txt`.
fn bert_tokenizer(file: &Path, settings: &Map<String, Value>) -> Result<tokenizers::Tokenizer> {
    let bytes = std::fs::read(file).map_err(|e| Error::read(file, e))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::file(file, "this is not UTF-8 text, one token a line"))?;
    let mut vocab = Map::new();
    for (id, line) in text.lines().enumerate() {
        vocab.insert(line.to_string(), json!(id));
    }
    let name = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string);
    let unk = settings.get("unk_token").and_then(name).unwrap_or_else(|| "[UNK]".to_string());
    if !vocab.contains_key(&unk) {
        return Err(Error::file(file, format!("the vocabulary lacks the unknown token '{unk}'")));
    }
    let flag = |key: &str, default: Value| match settings.get(key) {
        Some(value @ (Value::Bool(_) | Value::Null)) => Ok(if value.is_null() { default } else { value.clone() }),
        Some(_) => Err(Error::key(&file.with_file_name("tokenizer_config.json"), key, "this should be true or false")),
        None => Ok(default),
    };
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "post_processor": null, "decoder": null,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", json!(true))?,
            "strip_accents": flag("strip_accents", Value::Null)?,
            "lowercase": flag("do_lower_case", json!(true))?,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    serde_json::from_value(description).map_err(|e| Error::file(file, format!("this vocabulary cannot be used: {e}")))
}

#[cfg(test)]
mod tests;
