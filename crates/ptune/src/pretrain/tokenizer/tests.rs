//! Trained tokenizers: words that must be single tokens are, the same text gives the same bytes, Korean stays whole.

use super::*;
use crate::checkpoint::{Glue, Tokenizer};

/// English and Korean lines; the numbers make many pairs equally frequent, so that ties decide.
fn lines() -> Vec<String> {
    let (cities, countries) = (["Paris", "London", "Seoul", "Rome"], ["France", "Britain", "Korea", "Italy"]);
    let (korean, places) = (["파리", "런던", "서울", "로마"], ["프랑스", "영국", "한국", "이탈리아"]);
    (0..160)
        .map(|i| match i % 4 {
            0 => format!("The capital of {} is {} .", countries[i / 4 % 4], cities[i / 4 % 4]),
            1 => format!("{}의 수도는 {} 입니다.", places[i / 4 % 4], korean[i / 4 % 4]),
            2 => format!("{} lies in {}, as entry {} says.", cities[i / 4 % 4], countries[i / 4 % 4], i * 7919 % 1000),
            _ => format!("{}에는 {}라는 도시가 있습니다.", places[i / 4 % 4], korean[i / 4 % 4]),
        })
        .collect()
}

const WORDS: [&str; 6] = ["Paris", "Reykjavik", "서울", "영국", "hydrogen", "Paris"];

fn trained(kind: TokenizerKind, vocabulary: usize, words: &[&str]) -> Result<TrainedTokenizer> {
    let config = TokenizerConfig { kind: Some(kind), vocabulary, ..TokenizerConfig::default() };
    let layout = if kind == TokenizerKind::Bpe { Layout::Gpt2 } else { Layout::Bert };
    let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    train(Path::new("run.toml"), &config, layout, &lines(), &words)
}

/// The tokenizer as it reads back from its files.
fn opened(trained: &TrainedTokenizer) -> Tokenizer {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &trained.files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    Tokenizer::open(directory.path()).unwrap()
}

const KINDS: [TokenizerKind; 2] = [TokenizerKind::WordPiece, TokenizerKind::Bpe];

#[test]
fn given_words_are_single_tokens_even_where_the_text_never_says_them() {
    for kind in KINDS {
        for vocabulary in [300, 400] {
            let trained = trained(kind, vocabulary, &WORDS).unwrap();
            assert!(trained.size <= vocabulary);
            let tokenizer = opened(&trained);
            assert_eq!(tokenizer.vocab_size(), trained.size);
            for word in WORDS {
                assert!(tokenizer.single_token(word, Glue::Space).unwrap().is_some(), "{kind:?} {vocabulary}: {word}");
            }
        }
        // Without being asked, it would not be one: the words above are not there by chance.
        assert_eq!(opened(&trained(kind, 300, &[]).unwrap()).single_token("Reykjavik", Glue::Space).unwrap(), None);
    }
}

/// The tokenizers library goes through hash tables, each with another order.
#[test]
fn the_same_text_gives_the_same_bytes_every_time() {
    for kind in KINDS {
        let first = trained(kind, 350, &WORDS).unwrap().files;
        for _ in 0..8 {
            assert!(trained(kind, 350, &WORDS).unwrap().files == first, "{kind:?}");
        }
    }
}

/// No text has its first word, so that it is several tokens.
const SENTENCE: &str = "영국라는 수도는 런던 입니다.";

#[test]
fn a_word_keeps_its_tokens_together_in_korean_too() {
    let tokenizer = opened(&trained(TokenizerKind::WordPiece, 300, &["영국"]).unwrap());
    let words = tokenizer.encode_words(SENTENCE).unwrap();
    let shown: Vec<String> = words
        .iter()
        .map(|ids| ids.iter().map(|id| tokenizer.token(*id)).collect::<Vec<_>>().join("").replace("##", ""))
        .collect();
    assert_eq!(shown, ["영국라는", "수도는", "런던", "입니다", "."]);
    assert!(words[0].len() > 1, "영국 is a token, and what follows continues the word");
    // Decomposed Hangul, as some systems write it, is the same text.
    let decomposed = "\u{110b}\u{1167}\u{11bc}\u{1100}\u{116e}\u{11a8}";
    assert_eq!(tokenizer.encode_words(decomposed).unwrap(), tokenizer.encode_words("영국").unwrap());
    let bpe = opened(&trained(TokenizerKind::Bpe, 350, &["영국"]).unwrap());
    assert_eq!(bpe.encode_words(SENTENCE).unwrap().len(), 5);
}

#[test]
fn a_word_has_one_form_wherever_it_stands() {
    let tokenizer = opened(&trained(TokenizerKind::Bpe, 350, &["Paris"]).unwrap());
    let first = tokenizer.encode("Paris", Glue::Start).unwrap();
    assert_eq!(first, tokenizer.encode("Paris", Glue::Space).unwrap());
    assert_eq!(first.len(), 1);
}

#[test]
fn what_cannot_be_is_told() {
    for kind in KINDS {
        let message = trained(kind, 100, &WORDS).err().unwrap().to_string();
        assert!(message.contains("tokenizer.vocabulary: 100: too small"), "{message}");
        let message = trained(kind, 400, &["New York"]).err().unwrap().to_string();
        assert!(message.contains("tokenizer.words: 'New York' is 2 words"), "{message}");
    }
}
