//! Examples as rows: pieces, modifiers, shortening, glue.

use super::*;
use crate::data::Dataset;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> Tokenizer {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    Tokenizer::open(&fixtures.join(name)).unwrap()
}

fn masked(max_tokens: usize, start: &[u32], end: &[u32]) -> RowForm {
    RowForm { max_tokens, start: start.to_vec(), end: end.to_vec(), answer: AnswerForm::one_token(false) }
}

fn causal(max_tokens: usize, start: &[u32]) -> RowForm {
    RowForm { max_tokens, start: start.to_vec(), end: vec![3], answer: AnswerForm::one_token(true) }
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
        let encoder = Encoder::new(&template, &tokenizer, masked(max_tokens, &[2], &[3])).unwrap();
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
    let encoder = |max_tokens| Encoder::new(&template, &tokenizer, masked(max_tokens, &[], &[])).unwrap();
    let fields = [("a", "the film was good"), ("b", "a good city")];
    let example = Example::from_fields(fields.map(|(name, text)| (name.to_string(), text.to_string())));
    let whole = encoder(8).encode(&example).unwrap();
    assert_eq!((whole.tokens.len(), whole.answers[0]), (8, 4));
    let lengths: Vec<_> = (1..8).map(|max| encoder(max).encode(&example).unwrap().answers[0]).collect();
    // Tokens left of 'a' for rows of 1 to 7 tokens: 3+3 of 7, then b 2, a 2, b 1, a 1, b 0, a 0.
    assert_eq!(lengths, [0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_model_without_the_token_gets_a_caret() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("vocab.txt"), "[UNK]\n[MASK]\n").unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    let template = Template::parse("[MASK] [SEP] x").unwrap();
    let message = Encoder::new(&template, &tokenizer, masked(9, &[], &[])).unwrap_err().to_string();
    assert_eq!(message, "this model's tokenizer has no separator token\n  [MASK] [SEP] x\n         ^");
}

/// `[CLS] text [SEP]`, as transformers' tokenizers make it for a classifier.
#[test]
fn the_row_of_a_classifier_ends_with_the_separator() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse_whole("{text|shorten}").unwrap();
    let form = |max_tokens| RowForm { answer: AnswerForm::First, ..masked(max_tokens, &[2], &[3]) };
    let whole = Encoder::new(&template, &tokenizer, form(9)).unwrap().encode(&example("the film was good")).unwrap();
    let ids = |row: &Encoded| (row.tokens.len(), row.tokens.first().cloned(), row.tokens.last().cloned());
    assert_eq!((ids(&whole), whole.answers), ((6, Some(Token::Id(2)), Some(Token::Id(3))), vec![0]));
    let cut = Encoder::new(&template, &tokenizer, form(4)).unwrap().encode(&example("the film was good")).unwrap();
    assert_eq!(ids(&cut), (4, Some(Token::Id(2)), Some(Token::Id(3))));
}

#[test]
fn a_causal_row_ends_before_its_answer() {
    let tokenizer = fixture("byte-level");
    let ids = |text: &str, glue| tokenizer.encode(text, glue).unwrap().into_iter().map(Token::Id).collect::<Vec<_>>();
    let row = |template: &str, start: &[u32], text: &str| {
        let template = Template::parse(template).unwrap();
        Encoder::new(&template, &tokenizer, causal(9, start)).unwrap().encode(&example(text)).map_err(|e| e.to_string())
    };
    // No mask token, no end token, no token for the space before the answer: that is the label word's.
    let want: Vec<Token> = [vec![Token::Pseudo(0)], ids("the", Glue::Space), ids("is", Glue::Space)].concat();
    for template in ["[P*1] {text} is [MASK]", "[P*1] {text} is[MASK]"] {
        let found = row(template, &[], "the").unwrap();
        assert_eq!(found, Encoded { leading: 1, ..Encoded::row(want.clone(), want.len() - 1) });
    }
    // The last row may be a pseudo token, a field or the family's start token.
    assert_eq!(row("{text} [P*2] [MASK]", &[], "the").unwrap().tokens.last(), Some(&Token::Pseudo(1)));
    assert_eq!(row("{text} [MASK]", &[7], "").unwrap(), Encoded::row(vec![Token::Id(7)], 0));
    let message = row("{text} [MASK]", &[], " ").unwrap_err();
    assert_eq!(message, "no token of this row stands before [MASK], so nothing can predict the answer");
}

#[test]
fn label_words_of_several_tokens_get_masks_of_their_own() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse("{text|shorten} [MASK] . [P*1]").unwrap();
    let form = |max_tokens| RowForm { answer: AnswerForm::Masks(vec![1, 3]), ..masked(max_tokens, &[2], &[3]) };
    let encode = |max| Encoder::new(&template, &tokenizer, form(max)).unwrap().encode(&example("the film was good"));
    let found = encode(12).unwrap();
    let spans: Vec<_> = found.spans.iter().map(|s| (s.rows.clone(), s.parent, s.first_position)).collect();
    assert_eq!(spans, [(0..9, None, 0), (9..20, None, 0)]);
    assert_eq!(found.answers, [5, 14, 15, 16]);
    // All but the masks is the same in both; the longest row decides what is cut, and all are cut alike.
    assert_eq!((&found.tokens[..6], &found.tokens[6..9]), (&found.tokens[9..15], &found.tokens[17..]));
    let cut = encode(9).unwrap();
    assert_eq!((cut.spans[0].rows.len(), cut.spans[1].rows.len()), (7, 9));
    assert_eq!((&cut.tokens[..3], &cut.tokens[7..10]), (&found.tokens[..3], &found.tokens[..3]));
    let message = encode(6).unwrap_err().to_string();
    assert!(message.starts_with("this row has 11 tokens, max_tokens is 6, and cutting its shorten"), "{message}");
}

#[test]
fn causal_label_words_of_several_tokens_go_on_behind_the_row() {
    let tokenizer = fixture("byte-level");
    let template = Template::parse("[P*2] {text|shorten} is [MASK]").unwrap();
    let form = |max| RowForm { answer: AnswerForm::Continuations(vec![vec![7, 8], vec![9]]), ..causal(max, &[]) };
    let encode = |max| Encoder::new(&template, &tokenizer, form(max)).unwrap().encode(&example("the city of the"));
    let found = encode(9).unwrap();
    let spans: Vec<_> = found.spans.iter().map(|s| (s.rows.clone(), s.parent, s.first_position)).collect();
    assert_eq!(spans, [(0..7, None, 0), (7..9, Some(0), 7), (9..10, Some(0), 7)]);
    assert_eq!((&found.answers, &found.tokens[7..]), (&vec![6, 7, 8, 9], &[7, 8, 9].map(Token::Id)[..]));
    // The longest word counts: of 8 tokens, 2 are its own.
    let cut = encode(8).unwrap();
    assert_eq!((cut.spans[0].rows.clone(), cut.spans[1].first_position), (0..6, 6));
}

#[test]
fn a_causal_model_needs_no_mask_token_and_refuses_what_it_cannot_see() {
    // As GPT-2 has it: bytes, and no mask token.
    let dir = tempfile::tempdir().unwrap();
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    std::fs::copy(fixtures.join("byte-level/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"mask_token": "none", "sep_token": "</s>"}"#).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    assert_eq!(tokenizer.special().mask, None);
    let made = |template: &str, start: &[u32]| {
        let template = Template::parse(template).unwrap();
        Encoder::new(&template, &tokenizer, causal(9, start)).map(drop).map_err(|e| e.to_string())
    };
    for template in ["{text} [MASK]", "[P*2][MASK]", "한국의 수도는 [MASK]"] {
        assert_eq!(made(template, &[]), Ok(()), "{template}");
    }
    assert_eq!(made("[MASK]", &[1]), Ok(()));
    let message = made(" [MASK]", &[]).unwrap_err();
    assert!(message.contains("no start token of its own") && message.ends_with("\n   [MASK]\n   ^"), "{message}");
    for tail in [".", "[P*1]", "{text}", "[SEP]", "입니다"] {
        let message = made(&format!("{{text}} [MASK] {tail}"), &[1]).unwrap_err();
        assert!(message.contains("task.causal_tail"), "{message}");
        assert!(message.ends_with(&format!("[MASK] {tail}\n                ^")), "{message}");
    }
}

#[test]
fn a_causal_row_knows_what_the_template_alone_decides() {
    let tokenizer = fixture("byte-level");
    let encode = |template: &str, text: &str, form: RowForm| {
        let template = Template::parse(template).unwrap();
        Encoder::new(&template, &tokenizer, form).unwrap().encode(&example(text)).unwrap()
    };
    let count = |text: &str, glue| tokenizer.encode(text, glue).unwrap().len();
    let (the, film, first_film) = (count("the", Glue::Start), count("film", Glue::Space), count("film", Glue::Start));
    for (template, leading, before_pseudo) in [
        ("[P*3] {text} [MASK]", 3, 0),
        ("[P*1] the [P*2] {text} [P*1] [MASK]", 4, 0),
        ("the [P*2] is {text} [P*1] [MASK]", the + 3, the),
        ("the {text} [P*2] [MASK]", the, the + film),
        ("{text} [P*2] [MASK]", 0, first_film),
    ] {
        let found = encode(template, "film", causal(9, &[]));
        assert_eq!((found.leading, found.before_pseudo()), (leading, before_pseudo), "{template}");
    }
    // The family's start token is in front of all; a cut field changes nothing.
    assert_eq!(encode("[P*3] {text|shorten} [MASK]", "the film is the film", causal(6, &[7])).leading, 4);
    // An example without a token of its own would have its answer row among those of the others.
    assert_eq!(encode("[P*3] {text} [MASK]", "", causal(9, &[])).leading, 0);
    assert_eq!(encode("[P*3] {text} [P*1] [MASK]", "", causal(9, &[])).leading, 3);
    // In a masked model the first row sees the last.
    assert_eq!(encode("[P*3] {text} [MASK]", "film", masked(9, &[2], &[3])).leading, 0);
}

#[test]
fn a_template_without_its_tail_keeps_the_rows_of_its_pseudo_tokens() {
    let whole = Template::parse("[P*2 @a] {a} [P*1] [MASK] [P*2 @a] {b} [P*4]").unwrap();
    let cut = whole.clone().without_tail();
    assert_eq!((whole.pseudo_rows(), cut.pseudo_rows()), (7, 3));
    assert_eq!((cut.fields(), cut.pieces()), (vec!["a"], &whole.pieces()[..4]));
    assert_eq!(cut.clone().without_tail(), cut);
    assert_eq!(cut.answer_glue(), whole.answer_glue());
}

#[test]
fn initial_words_are_the_tokens_of_their_rows() {
    let tokenizer = fixture("byte-level");
    let template = Template::parse("[P*2 \"the capital\" @a] [P*1] [MASK] [P*2 @a]").unwrap();
    let encoder = Encoder::new(&template, &tokenizer, masked(9, &[], &[])).unwrap();
    let token = |word| tokenizer.single_token(word, Glue::Space).unwrap();
    assert!(token("capital").is_some());
    assert_eq!(encoder.initial_words().unwrap(), [token("the"), token("capital"), None]);
    let template = Template::parse("x [P*3 \"the capital\"] [MASK]").unwrap();
    let message =
        Encoder::new(&template, &tokenizer, masked(9, &[], &[])).unwrap().initial_words().unwrap_err().to_string();
    let expected = "the initial words are 2 tokens here (the, capital), so the count should be [P*2], not 3";
    assert!(message.starts_with(expected), "{message}");
    assert!(message.ends_with("\n    ^"), "{message}");
}

#[test]
fn a_text_goes_on_behind_its_question_which_leaves_room_for_the_longest() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse("[P*2] {text|shorten} [MASK]").unwrap();
    let form = RowForm { answer: AnswerForm::Text { longest: 3 }, ..causal(8, &[]) };
    let encoder = Encoder::new(&template, &tokenizer, form).unwrap();
    let asked = encoder.encode(&example("the film was good")).unwrap();
    assert_eq!((asked.tokens.len(), &asked.answers[..], asked.leading), (5, &[4][..], 2));
    // However short the answer, the question is the same.
    for targets in [&[9][..], &[8, 9], &[6, 7, 8, 9]] {
        let trained = encoder.encode_for(&example("the film was good"), targets).unwrap();
        assert_eq!(trained.tokens[..5], asked.tokens);
        let text: Vec<Token> = targets[..targets.len() - 1].iter().map(|id| Token::Id(*id)).collect();
        assert_eq!(trained.tokens[5..], text, "the end token is a target and no row");
        assert_eq!(trained.answers, (4..4 + targets.len()).collect::<Vec<_>>());
        assert_eq!((trained.spans.len(), trained.leading), (1, 2));
    }
    let template = Template::parse("{text} [MASK]").unwrap();
    let form = RowForm { answer: AnswerForm::Text { longest: 5 }, ..causal(8, &[]) };
    let encoder = Encoder::new(&template, &tokenizer, form).unwrap();
    let message = encoder.encode(&example("the film was good")).unwrap_err().to_string();
    assert!(message.starts_with("this row has 9 tokens with room for an answer of 5, max_tokens is 8"), "{message}");
}

#[test]
fn a_dataset_counts_what_it_keeps_and_drops() {
    let tokenizer = fixture("wordpiece-uncased");
    let template = Template::parse("{text} [MASK]").unwrap();
    let encoder = Encoder::new(&template, &tokenizer, masked(16, &[2], &[3])).unwrap();
    let gold = |text: &str| match text {
        "yes" => Ok(Some(vec![7])),
        "other" => Ok(None),
        _ => Err(format!("'{text}' is no label")),
    };
    let read = |rows: &str| {
        let (_dir, file) = file(rows);
        Dataset::read(&file, &encoder, "label", gold).map_err(|e| e.to_string())
    };
    let found = read("{\"text\": \"the\", \"label\": \"yes\"}\n{\"text\": \"a\", \"label\": \"other\"}").unwrap();
    assert_eq!((found.kept, found.dropped, found.examples.len(), &found.examples[0].targets[..]), (1, 1, 1, &[7][..]));
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
