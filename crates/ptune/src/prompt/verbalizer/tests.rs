//! Label words, label scores and their gradient.

use super::*;
use std::path::PathBuf;

fn tokenizer() -> Tokenizer {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    Tokenizer::open(&fixtures.join("wordpiece-uncased")).unwrap()
}

fn labels(labels: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    labels.iter().map(|(name, words)| (name.to_string(), words.iter().map(|word| word.to_string()).collect())).collect()
}

fn verbalizer(list: &[(&str, &[&str])], glue: Glue) -> Result<Verbalizer> {
    Verbalizer::new(Path::new("run.toml"), &labels(list), &tokenizer(), glue, false)
}

#[test]
fn the_score_of_a_label_is_the_mean_over_its_words() {
    let found = verbalizer(&[("1", &["good", "great"]), ("0", &["bad"])], Glue::Space).unwrap();
    let columns = found.columns().expect("words of one token need their columns only");
    assert_eq!((columns.len(), found.form().rows()), (3, 1));
    assert_eq!(found.labels()[0].words[1].tokens, [columns[1]]);
    let mut scores = [0.0; 4];
    found.label_scores(&mut scores, &[1.0, 3.0, 5.0, -1.0, 0.0, 0.5]);
    assert_eq!(scores, [2.0, 5.0, -0.5, 0.5]);
    // Backward: d_score / words; checked against the forward, which is linear: <score(x), d> = <x, backward(d)>.
    let (d, x) = ([0.25, -1.0, 2.0, 0.5], [1.0, 3.0, 5.0, -1.0, 0.0, 0.5]);
    let mut d_logits = [f32::NAN; 6];
    found.label_scores_backward(&mut d_logits, &d);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert_eq!(dot(&scores, &d), dot(&x, &d_logits));
    assert_eq!(d_logits, [0.125, 0.125, -1.0, 1.0, 1.0, 0.5]);
}

#[test]
fn a_word_of_several_tokens_adds_them_up_and_counts_as_one_word() {
    let found = verbalizer(&[("1", &["good", "capitaling"]), ("0", &["bad"])], Glue::Space).unwrap();
    assert_eq!(found.columns(), None, "log-probabilities need every column");
    assert_eq!(*found.form(), AnswerForm::Masks(vec![1, 2]));
    let id = |token: &str| tokenizer().encode(token, Glue::Space).unwrap()[0];
    let ing = found.labels()[0].words[1].tokens[1];
    let read = |row, token| Read { row, token };
    assert_eq!(found.reads(), [read(0, id("good")), read(1, id("capital")), read(2, ing), read(0, id("bad"))]);
    let mut scores = [0.0; 2];
    found.label_scores(&mut scores, &[-1.0, -2.0, -4.0, -3.0]);
    assert_eq!(scores, [-3.5, -3.0]);
    let mut d_read = [f32::NAN; 4];
    found.label_scores_backward(&mut d_read, &[1.0, -1.0]);
    assert_eq!(d_read, [0.5, 0.5, 0.5, -1.0]);
}

#[test]
fn a_target_is_the_label_whose_name_is_the_text_of_the_value() {
    let found = verbalizer(&[("true", &["yes"]), ("0", &["no"])], Glue::Space).unwrap();
    assert_eq!(found.target("true"), Ok(0));
    assert_eq!(found.target("0"), Ok(1));
    let message = found.target("maybe").unwrap_err();
    assert_eq!(message, "the label 'maybe' is missing from the verbalizer, which has 'true' and '0'");
}

#[test]
fn words_that_cannot_be_used_are_named() {
    let error = |list: &[(&str, &[&str])], glue| verbalizer(list, glue).unwrap_err().to_string();
    let message = error(&[("pos", &["good ☃"]), ("neg", &["bad"])], Glue::Space);
    let says = "run.toml: task.verbalizer.pos: a part of the label word 'good ☃' is unknown to this tokenizer (good, ";
    assert!(message.starts_with(says), "{message}");
    let message = error(&[("pos", &["capital ing", "Capital Ing"]), ("neg", &["bad"])], Glue::Space);
    assert!(message.contains("'Capital Ing' makes the same tokens as 'capital ing' of the label 'pos'"), "{message}");
    assert!(error(&[("pos", &["☃"]), ("neg", &["bad"])], Glue::Space).contains("'☃' is unknown to this tokenizer"));
    assert!(error(&[("pos", &[" "]), ("neg", &["bad"])], Glue::Space).contains("makes no token"));
    let message = error(&[("pos", &["japan"]), ("neg", &["bad"])], Glue::JOINED);
    assert!(message.contains("put a space before [MASK]"), "{message}");
    let message = error(&[("pos", &["good"]), ("neg", &["bad", "Good"])], Glue::Space);
    assert!(
        message.contains("task.verbalizer.neg: 'Good' is the same token as 'good' of the label 'pos'"),
        "{message}"
    );
    assert!(error(&[("pos", &["good", "Good"]), ("neg", &["bad"])], Glue::Space).contains("the same token as 'good'"));
    assert!(error(&[("pos", &["good"])], Glue::Space).contains("at least two labels"));
    assert!(
        error(&[("pos", &["good"]), ("neg", &[])], Glue::Space).contains("task.verbalizer.neg: this label has no word")
    );
    assert!(error(&[("a", &["good"]), ("a", &["bad"])], Glue::Space).contains("second time"));
}
