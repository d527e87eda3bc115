//! Tokenizers of every kind: glue, special tokens, stored padding, damaged files.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name)
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn error(files: &[(&str, &str)]) -> String {
    Tokenizer::open(directory(files).path()).unwrap_err().to_string()
}

#[test]
fn the_stored_padding_and_truncation_are_off() {
    // The file pads every text to 128 tokens and cuts it at 12, as tokenizers found in the wild do: with either of them
    // on, prompts would stand among padding or texts would silently lose their end.
    let stored = std::fs::read_to_string(fixture("wordpiece-uncased").join("tokenizer.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["padding"]["strategy"]["Fixed"], 128);
    assert_eq!(stored["truncation"]["max_length"], 12);
    let tokenizer = Tokenizer::open(&fixture("wordpiece-uncased")).unwrap();
    assert_eq!(tokenizer.encode("the capital", Glue::Start).unwrap().len(), 2);
    assert_eq!(tokenizer.encode(&"the capital ".repeat(20), Glue::Start).unwrap().len(), 40);
}

#[test]
fn a_word_cut_at_any_of_its_token_boundaries_gives_the_same_tokens() {
    for name in ["wordpiece-cased", "wordpiece-uncased"] {
        let tokenizer = Tokenizer::open(&fixture(name)).unwrap();
        let mut checked = 0;
        // Uncased BERT takes syllables apart into letters, so only the cased one cuts Korean words at syllables.
        let korean = if name == "wordpiece-cased" { "수도입니다 서울입니다 영화입니다" } else { "" };
        let words = format!("capitaling filmed bridgeless questioned answering playinged {korean}");
        for word in words.split_whitespace() {
            let whole = tokenizer.encode(word, Glue::Start).unwrap();
            for cut in 1..whole.len() {
                let piece = |id: &u32| tokenizer.token(*id).trim_start_matches("##").chars().count();
                let at = whole[..cut].iter().map(piece).sum::<usize>();
                let (first, second): (String, String) =
                    (word.chars().take(at).collect(), word.chars().skip(at).collect());
                let mut found = tokenizer.encode(&first, Glue::Start).unwrap();
                found.extend(tokenizer.encode(&second, Glue::Joined(first.chars().last().unwrap())).unwrap());
                assert_eq!(found, whole, "{name}: {first}|{second}");
                checked += 1;
            }
        }
        assert!(checked > 5, "{name}: the words are whole tokens, nothing was checked");
    }
}

#[test]
fn special_names_in_a_text_are_text() {
    for (name, special) in [("wordpiece-uncased", "[MASK]"), ("byte-level", "<mask>"), ("unigram", "<mask>")] {
        let tokenizer = Tokenizer::open(&fixture(name)).unwrap();
        let ids = tokenizer.encode(&format!("the {special} and"), Glue::Start).unwrap();
        assert!(!ids.contains(&tokenizer.mask_id().unwrap()), "{name}: {ids:?}");
    }
}

#[test]
fn tokens_are_readable() {
    let shown = |name: &str, word: &str| {
        let tokenizer = Tokenizer::open(&fixture(name)).unwrap();
        let ids = tokenizer.encode(word, Glue::Space).unwrap();
        ids.iter().map(|id| tokenizer.token(*id)).collect::<String>()
    };
    for name in ["byte-level", "unigram", "unigram-old", "bpe-prepend"] {
        assert_eq!(shown(name, "capital"), "capital", "{name}");
        assert_eq!(shown(name, "수도는"), "수도는", "{name}");
    }
    let wordpiece = Tokenizer::open(&fixture("wordpiece-cased")).unwrap();
    assert_eq!(wordpiece.shown_tokens(&wordpiece.encode("capitaling", Glue::Start).unwrap()), "capital, ##ing");
    assert_eq!(wordpiece.token(999_999), "[id 999999]");
}

#[test]
fn vocab_txt_reads_the_settings_beside_it() {
    let vocab = "[PAD]\r\n[UNK]\r\n[MASK]\r\nthe\r\nThe\r\ncafe\r\nThé\r\n";
    let encoded = |settings: &str, text: &str| {
        let dir = directory(&[("vocab.txt", vocab), ("tokenizer_config.json", settings)]);
        Tokenizer::open(dir.path()).unwrap().encode(text, Glue::Start).unwrap()
    };
    assert_eq!(encoded("{}", "The CAFÉ"), [3, 5], "lower case and accents off by default");
    assert_eq!(encoded(r#"{"do_lower_case": false}"#, "The Thé"), [4, 6]);
    assert_eq!(encoded(r#"{"do_lower_case": false, "strip_accents": true}"#, "Thé"), [4]);
    assert_eq!(encoded(r#"{"strip_accents": null, "do_lower_case": null}"#, "THE"), [3]);
    assert_eq!(encoded("{}", "the中the"), [3, 1, 3], "Han characters are words of their own");
    assert_eq!(encoded(r#"{"tokenize_chinese_chars": false}"#, "the中the"), [1]);
}

#[test]
fn bad_directories_get_a_sentence() {
    assert!(error(&[]).contains("tokenizer.json, or vocab.txt, or vocab.json with merges.txt"));
    assert!(error(&[("tokenizer.model", "x")]).contains("save_pretrained"));
    assert!(error(&[("tokenizer.json", "{\"version\": ")]).contains("tokenizer.json: this is not a tokenizer"));
    assert!(error(&[("tokenizer.json", "[]")]).contains("tokenizer.json: this is not a tokenizer"));
    assert!(error(&[("vocab.txt", "a\nb\n")]).contains("lacks the unknown token '[UNK]'"));
    assert!(error(&[("vocab.txt", "")]).contains("lacks the unknown token"));
    let vocab = ("vocab.txt", "[UNK]\n");
    assert!(error(&[vocab, ("tokenizer_config.json", "{")]).contains("tokenizer_config.json: this is not valid JSON"));
    assert!(error(&[vocab, ("special_tokens_map.json", "3")]).contains("should be a JSON object"));
    let message = error(&[vocab, ("tokenizer_config.json", r#"{"do_lower_case": "yes"}"#)]);
    assert!(message.contains("tokenizer_config.json: do_lower_case: this should be true or false"), "{message}");
}

/// Bytes stand as characters, so a vocabulary of the letters of two words is enough.
const VOCAB_JSON: &str = r#"{"h": 0, "i": 1, "Ġ": 2, "hi": 3, "Ġhi": 4, "<|endoftext|>": 5}"#;

#[test]
fn vocab_json_and_merges_txt_are_byte_level_bpe() {
    let encoded = |settings: &str, glue| {
        let merges = "#version: 0.2\nh i\nĠ hi\n";
        let dir = directory(&[("vocab.json", VOCAB_JSON), ("merges.txt", merges), ("tokenizer_config.json", settings)]);
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        let special = *tokenizer.special();
        assert_eq!(
            (special.eos, special.bos, special.mask, special.cls, special.sep),
            (Some(5), Some(5), None, None, None)
        );
        tokenizer.encode("hi hi", glue).unwrap()
    };
    assert_eq!(encoded("{}", Glue::Start), [3, 4]);
    assert_eq!(encoded("{}", Glue::Space), [4, 4]);
    assert_eq!(encoded("{}", Glue::JOINED), [3, 4]);
    let prefix = r#"{"add_prefix_space": true}"#;
    assert_eq!(encoded(prefix, Glue::Start), [4, 4]);
    assert_eq!(encoded(prefix, Glue::JOINED), [3, 4]);
}

#[test]
fn bad_vocab_json_or_merges_txt_gets_a_sentence() {
    let both = |vocab: &str, merges: &str| error(&[("vocab.json", vocab), ("merges.txt", merges)]);
    assert!(error(&[("vocab.json", VOCAB_JSON)]).contains("merges.txt, which belongs to it, is not"));
    assert!(error(&[("merges.txt", "h i\n")]).contains("vocab.json, which belongs to it, is not"));
    assert!(both("[]", "").contains("vocab.json:1: an object from token to id was expected"));
    assert!(both("{", "").contains("vocab.json:1: an object from token to id was expected"));
    assert!(both(r#"{"h": -1}"#, "").contains("vocab.json: h: -1 is no token id"));
    assert!(both(r#"{"h": 4294967296}"#, "").contains("4294967296 is no token id"));
    assert!(both("{}", "").contains("the vocabulary is empty"));
    assert!(both(VOCAB_JSON, "#version: 0.2\nh i\nh h\n").contains("merges.txt:3: 'hh' is not in vocab.json"));
    assert!(both(VOCAB_JSON, "h x\n").contains("merges.txt:1: 'x' is not in vocab.json"));
    for line in ["hi", "h i h", "h ", " i"] {
        assert!(
            both(VOCAB_JSON, line).contains("merges.txt:1: two tokens with a space between were expected"),
            "{line}"
        );
    }
    let settings =
        [("vocab.json", VOCAB_JSON), ("merges.txt", ""), ("tokenizer_config.json", r#"{"add_prefix_space": 1}"#)];
    assert!(error(&settings).contains("tokenizer_config.json: add_prefix_space: this should be true or false"));
}

/// The small fixtures, whose every field can be changed without reading 700 kB a case.
fn small_fixture(which: usize) -> Value {
    let name = ["wordpiece-uncased", "byte-level", "unigram", "unigram-old", "bpe-prepend"][which];
    let text = std::fs::read_to_string(fixture(name).join("tokenizer.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Walks into the value by the numbers of `path` and puts `new` there.
fn mutate(value: &mut Value, path: &[usize], new: Value) {
    let child = match (value, path) {
        (Value::Object(map), [first, ..]) if !map.is_empty() => {
            let at = first % map.len();
            map.values_mut().nth(at)
        }
        (Value::Array(list), [first, ..]) if !list.is_empty() => {
            let at = first % list.len();
            list.get_mut(at)
        }
        (place, _) => {
            *place = new.clone();
            None
        }
    };
    if let Some(child) = child {
        mutate(child, &path[1..], new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A damaged tokenizer.json is refused or used, and neither opening nor encoding panics.
    #[test]
    fn a_damaged_file_never_panics(
        which in 0usize..5,
        path in prop::collection::vec(0usize..40, 1..6),
        new in prop_oneof![
            Just(Value::Null), Just(json!(-1)), Just(json!(0)), Just(json!(4_000_000_000u32)), Just(json!("")),
            Just(json!("x")), Just(json!([])), Just(json!({})), Just(json!(true)), Just(json!(1e300)),
            Just(json!({"type": "FixedLength", "length": 0})), Just(json!({"type": "Metaspace", "replacement": "ab"})),
            Just(json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
            Just(json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"})),
        ],
        text in "\\PC{0,12}",
    ) {
        let mut file = small_fixture(which);
        mutate(&mut file, &path, new);
        let dir = directory(&[("tokenizer.json", &file.to_string())]);
        if let Ok(tokenizer) = Tokenizer::open(dir.path()) {
            for glue in [Glue::Start, Glue::Space, Glue::Joined('a'), Glue::Joined('中')] {
                let _ = tokenizer.encode(&format!("the capital {text}"), glue);
            }
            let _ = tokenizer.token(3);
        }
    }

    /// Whatever the text: no panic, no special token, and only ids of the vocabulary.
    #[test]
    fn any_text_is_encoded(text in "(\\PC|[a-z ]|입니다|中|\u{301}){0,20}", before in any::<char>()) {
        for name in ["wordpiece-cased", "byte-level", "unigram-old", "bpe-prepend"] {
            let tokenizer = Tokenizer::open(&fixture(name)).unwrap();
            for glue in [Glue::Start, Glue::Space, Glue::Joined(before)] {
                let ids = tokenizer.encode(&text, glue).unwrap();
                prop_assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
                prop_assert!(!ids.contains(&tokenizer.mask_id().unwrap()));
            }
        }
    }
}
