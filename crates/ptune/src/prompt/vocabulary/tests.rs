//! Vocabulary files and gold answers.

use super::*;
use std::path::PathBuf;

fn tokenizer() -> Tokenizer {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    Tokenizer::open(&fixtures.join("wordpiece-uncased")).unwrap()
}

fn read_as(name: &str, content: &[u8], key: Option<&str>) -> Result<Vocabulary> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    std::fs::write(&file, content).unwrap();
    Vocabulary::read(&file, key, &tokenizer(), Glue::Space)
}

#[test]
fn the_three_forms_of_a_file_give_the_same_vocabulary() {
    let list = br#"["Paris", "capitaling", "the", "paris", "good"]"#;
    let expected = read_as("v.json", list, None).unwrap();
    assert_eq!((expected.tokens().len(), expected.dropped, expected.merged), (3, 1, 1));
    assert!(expected.tokens().is_sorted());
    let text = "\u{feff}Paris\r\ncapitaling\n\n the \nparis\ngood".as_bytes();
    assert_eq!(read_as("v.txt", text, None).unwrap(), expected);
    let object = [b"{\"other\": [\"x\"], \"mine\": ", &list[..], b"}"].concat();
    assert_eq!(read_as("v.json", &object, Some("mine")).unwrap(), expected);
    assert_eq!(read_as("v.vocab", list, None).unwrap(), expected);
    // A word list whose first word is a bracket is no JSON.
    assert_eq!(read_as("v.txt", b"[\nparis\nthe\n", None).unwrap().dropped, 1);
    assert_eq!(expected.column(expected.tokens()[2]), Some(2));
    assert_eq!(expected.column(0), None);
}

#[test]
fn files_that_cannot_be_used_get_a_sentence() {
    let error = |name, content, key| read_as(name, content, key).unwrap_err().to_string();
    assert!(error("v.json", b"[\"a\", ", None).contains("v.json: this is not valid JSON"));
    assert!(error("v.json", b"3", None).contains("a JSON list of words"));
    assert!(error("v.json", b"[\"the\", 3]", None).contains("entry 2 of the list should be a word, not 3"));
    assert!(error("v.json", b"{\"a\": [], \"b\": []}", None).contains("vocabulary_key should be one of 'a' and 'b'"));
    assert!(error("v.json", b"{\"a\": []}", Some("c")).contains("no list 'c'; its lists are 'a'"));
    assert!(error("v.json", b"{\"a\": 3}", Some("a")).contains("a list of words"));
    assert!(error("v.json", b"[\"the\"]", Some("a")).contains("leave it out"));
    assert!(error("v.txt", b"the\n", Some("a")).contains("leave it out"));
    assert!(error("v.txt", b"capitaling\n", None).contains("none of its 1 words"));
    assert!(error("v.txt", b"", None).contains("none of its 0 words"));
    assert!(error("v.txt", b"\xff\xfe", None).contains("not UTF-8"));
    let missing = Vocabulary::read(Path::new("nowhere.json"), None, &tokenizer(), Glue::Space).unwrap_err();
    assert!(missing.to_string().contains("cannot read nowhere.json"));
}

#[test]
fn an_answer_outside_the_vocabulary_is_dropped_and_without_one_it_is_an_error() {
    let tokenizer = tokenizer();
    let paris = tokenizer.single_token("Paris", Glue::Space).unwrap();
    let vocabulary = Vocabulary::from_words(["paris"], &tokenizer, Glue::Space).unwrap();
    let gold = |vocabulary, answer| gold_token(vocabulary, &tokenizer, Glue::Space, answer);
    assert_eq!(gold(Some(&vocabulary), "Paris"), Ok(paris));
    assert_eq!(gold(Some(&vocabulary), "the"), Ok(None));
    assert_eq!(gold(Some(&vocabulary), "capitaling"), Ok(None));
    assert_eq!(gold(None, "Paris"), Ok(paris));
    let message = gold(None, "capitaling").unwrap_err();
    assert!(
        message.starts_with("the answer 'capitaling' is not one token of this model (capital, ##ing)"),
        "{message}"
    );
}
