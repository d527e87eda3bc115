//! The tokenizer of a checkpoint directory: `tokenizer.json`, or `vocab.txt` as BERT wrote it, or `vocab.json` with
//! `merges.txt` as GPT-2 and RoBERTa did.
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
//! the caller's business: the file's post-processor is only asked what it puts in front ([`Tokenizer::beginning`]).
//!
//! Not read: SentencePiece's `.model`; transformers converts it.

mod beginning;
mod bytes;
mod contained;
mod kind;
mod limits;
mod vocab_json;
mod vocab_txt;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    Decoder, Model, OffsetReferential, OffsetType, PostProcessorWrapper, PreTokenizedString, PreTokenizer,
};

use self::beginning::beginning;
use self::contained::contained;
use self::kind::{Kind, METASPACE};
use self::limits::LARGEST_TEXT;
use self::vocab_json::byte_level_tokenizer;
use self::vocab_txt::bert_tokenizer;
use super::special_tokens::{SpecialTokens, read_settings};
use crate::{Error, Result, files};

/// A `tokenizer.json` of 250,000 entries takes 17 MB.
pub(super) const LARGEST_FILE: u64 = 256 << 20;
/// Tokens that a message tells.
const MOST_SHOWN: usize = 50;
/// The character that stands for a word in front of a glued text.
const WORD: char = 'x';

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
    /// The most by which its normalisers can multiply a text.
    growth: u64,
    special: SpecialTokens,
    beginning: Vec<u32>,
    vocab_size: usize,
}

impl Tokenizer {
    /// Opens the tokenizer of a Hugging Face directory.
    ///
    /// Errors: none of `tokenizer.json`, `vocab.txt`, and `vocab.json` with `merges.txt`; a file that cannot be read or
    /// parsed.
    pub fn open(model_dir: &Path) -> Result<Tokenizer> {
        let settings = read_settings(model_dir)?;
        let [file, text, vocab, merges] =
            ["tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"].map(|name| model_dir.join(name));
        if files::exists(&file) {
            let bytes = files::read_bytes(&file, LARGEST_FILE)?;
            let growth = limits::check(&bytes).map_err(|e| Error::file(&file, e))?;
            let inner = contained(|| tokenizers::Tokenizer::from_bytes(&bytes))
                .map_err(|e| Error::file(&file, format!("this is not a tokenizer of the tokenizers library: {e}")))?;
            Tokenizer::new(file, inner, growth, &settings)
        } else if files::exists(&text) {
            let inner = bert_tokenizer(&text, &settings[0])?;
            Tokenizer::new(text, inner, 1, &settings)
        } else if files::exists(&vocab) && files::exists(&merges) {
            let inner = byte_level_tokenizer(&vocab, &merges, &settings[0])?;
            Tokenizer::new(vocab, inner, 1, &settings)
        } else {
            Err(missing(model_dir))
        }
    }

    fn new(
        file: PathBuf,
        mut inner: tokenizers::Tokenizer,
        growth: u64,
        settings: &[Map<String, Value>],
    ) -> Result<Tokenizer> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::file(&file, e.to_string()))?;
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
        let beginning = beginning(inner.get_post_processor(), settings, &special).map_err(|e| Error::file(&file, e))?;
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let kind = Kind::of(&inner).map_err(|e| Error::file(&file, e))?;
        Ok(Tokenizer { file, inner, kind, growth, special, beginning, vocab_size })
    }

    /// Token ids of `text`; its own leading and trailing white space is dropped, `glue` says what stands before it.
    ///
    /// Errors: the file's own rules fail on this text (a WordPiece vocabulary without its unknown token).
    pub fn encode(&self, text: &str, glue: Glue) -> Result<Vec<u32>> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        self.check_growth(text)?;
        let encoded = contained(|| match (&self.kind, glue) {
            (Kind::WordPiece { prefix, max_chars }, Glue::Joined(before)) => {
                self.encode_continuation(text, before, prefix, *max_chars)
            }
            (Kind::ByteLevel { joined }, Glue::Space) => {
                self.run(&format!(" {text}"), self.inner.get_normalizer(), joined.as_deref())
            }
            (Kind::ByteLevel { joined }, Glue::Joined(_)) => {
                self.run(text, self.inner.get_normalizer(), joined.as_deref())
            }
            (Kind::Metaspace { prepends: false, .. }, Glue::Space) => self.run_original(&format!(" {text}")),
            (Kind::Metaspace { joined_normalizer, joined, splits, .. }, Glue::Joined(_)) => {
                let end = if *splits { text.find(char::is_whitespace).unwrap_or(text.len()) } else { text.len() };
                self.run(&text[..end], joined_normalizer.as_deref(), joined.as_deref()).and_then(|mut ids| {
                    if !text[end..].trim().is_empty() {
                        ids.extend(self.run_original(text[end..].trim_start())?);
                    }
                    Ok(ids)
                })
            }
            _ => self.run_original(text),
        });
        let mut ids = encoded.map_err(|e| self.cannot_encode(text, &*e))?;
        self.hide_special(&mut ids);
        Ok(ids)
    }

    /// Token ids of a text that starts here, word by word: a word is a piece that the tokenizer cuts off before it looks at
    /// its vocabulary, a punctuation mark too.
    ///
    /// Errors: as [`Tokenizer::encode`].
    pub fn encode_words(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        self.check_growth(text)?;
        let words = contained(|| {
            let mut pieces = self.split(text, self.inner.get_normalizer(), self.inner.get_pre_tokenizer())?;
            pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
            let words = pieces.get_splits(OffsetReferential::Original, OffsetType::None).into_iter();
            Ok(words.map(|(_, _, tokens)| tokens.iter().flatten().map(|token| token.id).collect()).collect())
        });
        let mut words: Vec<Vec<u32>> = words.map_err(|e| self.cannot_encode(text, &*e))?;
        words.iter_mut().for_each(|ids| self.hide_special(ids));
        Ok(words)
    }

    fn cannot_encode(&self, text: &str, why: &dyn std::fmt::Display) -> Error {
        Error::file(&self.file, format!("the tokenizer cannot encode '{text}': {why}"))
    }

    fn check_growth(&self, text: &str) -> Result<()> {
        if self.growth.saturating_mul(text.len() as u64) <= LARGEST_TEXT {
            return Ok(());
        }
        let message = format!("its normalisers could make more than {LARGEST_TEXT} bytes of a text of {}", text.len());
        Err(Error::file(&self.file, message))
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

    /// What the tokenizer puts in front of every text, as `<s>`; often nothing.
    pub fn beginning(&self) -> &[u32] {
        &self.beginning
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

    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match (self.inner.get_model(), &self.kind) {
            (ModelWrapper::WordPiece(_), _) => "WordPiece",
            (ModelWrapper::BPE(_), Kind::ByteLevel { .. }) => "byte-level BPE",
            (ModelWrapper::BPE(_), _) => "BPE",
            (ModelWrapper::Unigram(_), _) => "Unigram",
            (ModelWrapper::WordLevel(_), _) => "word-level",
        }
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

    /// The tokens of a text for an error message, the first ones of a long text: `excellent, ##ly`.
    pub fn shown_tokens(&self, ids: &[u32]) -> String {
        let shown = ids.iter().take(MOST_SHOWN).map(|id| self.token(*id)).collect::<Vec<_>>().join(", ");
        if ids.len() > MOST_SHOWN { format!("{shown}, ...") } else { shown }
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

/// Why a directory without a tokenizer cannot be used, and what to do about it.
fn missing(model_dir: &Path) -> Error {
    let there = |name: &&str| model_dir.join(name).exists();
    let hint = match ["vocab.json", "merges.txt"].iter().find(|name| there(name)) {
        Some(&"vocab.json") => "vocab.json is there, but merges.txt, which belongs to it, is not".to_string(),
        Some(_) => "merges.txt is there, but vocab.json, which belongs to it, is not".to_string(),
        None => match ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"].iter().find(|name| there(name)) {
            Some(name) => format!(
                "{name} is there, but this release does not read it: transformers' \
                 AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json"
            ),
            None => "copy it from where the model came from".to_string(),
        },
    };
    let wanted = "the tokenizer is missing (tokenizer.json, or vocab.txt, or vocab.json with merges.txt)";
    Error::file(model_dir, format!("{wanted}; {hint}"))
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

#[cfg(test)]
mod tests;
