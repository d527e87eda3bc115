//! Golden token ids of the template rules: six small tokenizers, English and Korean, against `reference/tokens.py`.
//!
//! A wrong id here means that a trained prompt stands in front of other tokens than PyTorch users would give it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ptune::checkpoint::{Glue, Tokenizer};
use ptune::data::{Encoder, Example, RowForm, Token};
use ptune::prompt::{AnswerForm, Template};
use serde_json::Value;

const TOKENIZERS: [&str; 6] =
    ["bpe-prepend", "byte-level", "unigram", "unigram-old", "wordpiece-cased", "wordpiece-uncased"];

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::open(&tests_dir().join("fixtures/tokenizers").join(name)).unwrap()
}

fn golden() -> Value {
    let text = std::fs::read_to_string(tests_dir().join("golden/tokens.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Token ids of the golden file; a pseudo token of prompt row k is -1 - k.
fn as_golden(tokens: &[Token]) -> Vec<i64> {
    let one = |token: &Token| match *token {
        Token::Id(id) => i64::from(id),
        Token::Pseudo(row) => -1 - i64::from(row),
    };
    tokens.iter().map(one).collect()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn rows_are_those_of_the_reference() {
    let (golden, file) = (golden(), Arc::from(Path::new("golden.jsonl")));
    let mut checked = 0;
    for name in TOKENIZERS {
        let tokenizer = open(name);
        let special = tokenizer.special();
        let (cls, sep) = (special.cls.unwrap(), special.sep.unwrap());
        for case in golden[name]["rows"].as_array().unwrap() {
            let template = Template::parse(case["template"].as_str().unwrap()).unwrap();
            let max_tokens = case["max_tokens"].as_u64().unwrap() as usize;
            let answer = AnswerForm::one_token(false);
            let form = RowForm { max_tokens, start: vec![cls], end: vec![sep], answer };
            let encoder = Encoder::new(&template, &tokenizer, form).unwrap();
            let example = Example::parse(case["fields"].to_string().as_bytes(), &file, 7).unwrap();
            match encoder.encode(&example) {
                Ok(row) => {
                    assert_eq!(as_golden(&row.tokens), ids(&case["ids"]), "{name}: {case}");
                    assert_eq!(Some(row.answers[0] as u64), case["answer"].as_u64(), "{name}: {case}");
                }
                Err(e) => {
                    assert_eq!(case["error"], true, "{name}: {case}: {e}");
                    assert!(e.to_string().starts_with("golden.jsonl:7: this row has "), "{e}");
                }
            }
            checked += 1;
        }
    }
    assert!(checked > 200, "only {checked} rows in the golden file");
}

#[test]
fn label_words_are_the_token_that_stands_at_the_answer() {
    let golden = golden();
    for name in TOKENIZERS {
        let tokenizer = open(name);
        for case in golden[name]["answers"].as_array().unwrap() {
            let glue = Template::parse(case["template"].as_str().unwrap()).unwrap().answer_glue();
            let found = tokenizer.single_token(case["word"].as_str().unwrap(), glue).unwrap();
            assert_eq!(found.map(u64::from), case["token"].as_u64(), "{name}: {case}");
        }
    }
}

#[test]
fn a_text_is_encoded_by_what_stands_before_it() {
    let golden = golden();
    for name in TOKENIZERS {
        let tokenizer = open(name);
        for case in golden[name]["texts"].as_array().unwrap() {
            let glue = match case["before"].as_str() {
                None => Glue::Start,
                Some(" ") => Glue::Space,
                Some(before) => Glue::Joined(before.chars().next().unwrap()),
            };
            let found: Vec<i64> =
                tokenizer.encode(case["text"].as_str().unwrap(), glue).unwrap().into_iter().map(i64::from).collect();
            assert_eq!(found, ids(&case["ids"]), "{name}: {case}");
        }
    }
}

#[test]
fn special_tokens_are_found_by_their_usual_and_by_their_configured_names() {
    let golden = golden();
    for name in TOKENIZERS {
        let (tokenizer, expected) = (open(name), &golden[name]["special"]);
        let special = tokenizer.special();
        let found = [("cls", special.cls), ("sep", special.sep), ("mask", special.mask), ("unk", special.unk)];
        for (role, id) in found {
            assert_eq!(id.map(u64::from), expected[role].as_u64(), "{name}: {role}");
        }
        assert_eq!(tokenizer.vocab_size() as u64, golden[name]["vocab_size"].as_u64().unwrap(), "{name}");
    }
}
