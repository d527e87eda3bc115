//! Examples as rows: pieces, modifiers, shortening, glue.

use super::*;
use crate::data::Dataset;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> Tokenizer {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    Tokenizer::open(&fixtures.join(name)).unwrap()
}

fn example(text: &str) -> Example {
    Example::from_fields([("text".to_string(), text.to_string())])
}

fn file(rows: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.jsonl");
    std::fs::write(&file, rows).unwrap();
    (dir, file)
}

#[test]
fn rows_that_cannot_fit_say_why() {
    let tokenizer = fixture("wordpiece-uncased");
    let error = |template: &str, max_tokens| {
        let template = Template::parse(template).unwrap();
        let encoder = Encoder::new(&template, &tokenizer, max_tokens, &[2], &[3]).unwrap();
        encoder.encode(&example("the film was good")).unwrap_err().to_string()
    };
    assert_eq!(
        error("{text} [MASK]", 6),
        "this row has 7 tokens, max_tokens is 6, and no field of the template may be cut; \
         mark one with {field|shorten}, or raise max_tokens"
    );
    assert_eq!(
        error("[P*4] {text|shorten} [MASK]", 6),
        "this row has 11 tokens, max_tokens is 6, and cutting its shorten fields away leaves 7, or raise max_tokens"
    );
}

#[test]
fn the_longest_shorten_field_loses_first_and_of_equal_ones_the_last() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse("{a|shorten} [MASK] {b|shorten}").unwrap();
    let encoder = |max_tokens| Encoder::new(&template, &tokenizer, max_tokens, &[], &[]).unwrap();
    let fields = [("a", "the film was good"), ("b", "a good city")];
    let example = Example::from_fields(fields.map(|(name, text)| (name.to_string(), text.to_string())));
    let whole = encoder(8).encode(&example).unwrap();
    assert_eq!((whole.tokens.len(), whole.answer), (8, 4));
    let lengths: Vec<_> = (1..8).map(|max| encoder(max).encode(&example).unwrap().answer).collect();
    // Tokens left of 'a' for rows of 1 to 7 tokens: 3+3 of 7, then b 2, a 2, b 1, a 1, b 0, a 0.
    assert_eq!(lengths, [0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_model_without_the_token_gets_a_caret() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("vocab.txt"), "[UNK]\n[MASK]\n").unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    let template = Template::parse("[MASK] [SEP] x").unwrap();
    let message = Encoder::new(&template, &tokenizer, 9, &[], &[]).unwrap_err().to_string();
    assert_eq!(message, "this model's tokenizer has no separator token\n  [MASK] [SEP] x\n         ^");
}

#[test]
fn initial_words_are_the_tokens_of_their_rows() {
    let tokenizer = fixture("byte-level");
    let template = Template::parse("[P*2 \"the capital\" @a] [P*1] [MASK] [P*2 @a]").unwrap();
    let encoder = Encoder::new(&template, &tokenizer, 9, &[], &[]).unwrap();
    let token = |word| tokenizer.single_token(word, Glue::Space).unwrap();
    assert!(token("capital").is_some());
    assert_eq!(encoder.initial_words().unwrap(), [token("the"), token("capital"), None]);
    let template = Template::parse("x [P*3 \"the capital\"] [MASK]").unwrap();
    let message = Encoder::new(&template, &tokenizer, 9, &[], &[]).unwrap().initial_words().unwrap_err().to_string();
    let expected = "the initial words are 2 tokens here (the, capital), so the count should be [P*2], not 3";
    assert!(message.starts_with(expected), "{message}");
    assert!(message.ends_with("\n    ^"), "{message}");
}

#[test]
fn a_dataset_counts_what_it_keeps_and_drops() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse("{text} [MASK]").unwrap();
    let encoder = Encoder::new(&template, &tokenizer, 16, &[2], &[3]).unwrap();
    let gold = |text: &str| match text {
        "yes" => Ok(Some(7)),
        "other" => Ok(None),
        _ => Err(format!("'{text}' is no label")),
    };
    let read = |rows: &str| {
        let (_dir, file) = file(rows);
        Dataset::read(&file, &encoder, "label", gold).map_err(|e| e.to_string())
    };
    let found = read("{\"text\": \"the\", \"label\": \"yes\"}\n{\"text\": \"a\", \"label\": \"other\"}").unwrap();
    assert_eq!((found.kept, found.dropped, found.examples.len(), found.examples[0].target), (1, 1, 1, 7));
    let ends_with = |rows: &str, end: &str| {
        let message = read(rows).unwrap_err();
        assert!(message.contains(end), "{message}");
    };
    let good = "{\"text\": \"the\", \"label\": \"yes\"}\n";
    ends_with(&format!("{good}{{\"text\": \"the\", \"label\": \"no\"}}"), "rows.jsonl:2: 'no' is no label");
    ends_with(&format!("{good}{{\"label\": \"yes\"}}"), "rows.jsonl:2: the field 'text' is missing");
    ends_with(&format!("{good}{{\"text\": \"the\"}}"), "rows.jsonl:2: the field 'label' is missing");
    ends_with("{\"sentence\": \"the\", \"label\": \"yes\"}", "no field 'text'; its fields are 'sentence' and 'label'");
    ends_with("{\"text\": \"a\", \"label\": \"other\"}", "none of its 1 rows has an answer in the vocabulary");
    assert!(Dataset::read(Path::new("nowhere"), &encoder, "label", gold).is_err());
}
