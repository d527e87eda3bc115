//! The classifier beside a naive twin, the choice beside a sort, and words that trained models of the tree must come to.

use std::fs;

use super::*;
use crate::predict::Predictor;
use crate::search::{Found, search};
use crate::tensor::Device;
use crate::train::RunConfig;

fn rows(count: usize, width: usize) -> Vec<f64> {
    (0..count * width).map(|i| f64::from((i as u32 * 7919 + 13) % 1013) / 300.0 - 1.7).collect()
}

/// The loss of the head of this file, word for word.
fn loss(answers: &Answers, at: &Classifier) -> f64 {
    let Answers { width, labels, .. } = *answers;
    let count = answers.gold.len() as f64;
    let row = |(h, gold): (&[f64], &usize)| {
        let score = |l: usize| (0..width).map(|i| at.v[l * width + i] * h[i]).sum::<f64>() + at.b[l];
        (0..labels).map(|l| score(l).exp()).sum::<f64>().ln() - score(*gold)
    };
    let rows = answers.rows.chunks_exact(width).zip(&answers.gold).map(row).sum::<f64>() / count;
    rows + width as f64 / (2.0 * count) * at.v.iter().map(|v| v * v).sum::<f64>()
}

#[test]
fn the_gradient_is_that_of_the_loss_and_the_classifier_its_least() {
    let answers = Answers::new(rows(11, 5), (0..11).map(|row| row * 5 % 3).collect(), 3);
    let mut at = Classifier { v: rows(3, 5).iter().map(|x| x / 9.0).collect(), b: vec![0.1, -0.3, 0.2] };
    let found = answers.gradient(&at);
    for i in 0..18 {
        let mut moved = |by: f64| {
            let x = if i < 15 { &mut at.v[i] } else { &mut at.b[i - 15] };
            *x += by;
            let loss = loss(&answers, &at);
            *if i < 15 { &mut at.v[i] } else { &mut at.b[i - 15] } -= by;
            loss
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let found = found.v.iter().chain(&found.b).nth(i).unwrap();
        assert!((found - expected).abs() < 1e-7, "{i}: {found} and {expected}");
    }
    let trained = answers.classifier();
    let left = answers.gradient(&trained);
    assert!(left.v.iter().chain(&left.b).all(|d| d.abs() < 1e-3), "{:?} {:?}", left.v, left.b);
    assert!(loss(&answers, &trained) < loss(&answers, &at));
}

#[test]
fn rows_are_brought_to_mean_0_and_mean_square_1() {
    let answers = Answers::new(rows(7, 3), vec![0; 7], 2);
    for column in 0..3 {
        let mean: f64 = answers.rows.iter().skip(column).step_by(3).sum();
        assert!(mean.abs() < 1e-12, "{mean}");
    }
    let square = answers.rows.iter().map(|x| x * x).sum::<f64>() / 21.0;
    assert!((square - 1.0).abs() < 1e-12, "{square}");
    assert!(Answers::new(vec![2.0; 6], vec![0; 3], 2).rows.iter().all(|x| *x == 0.0), "rows alike are no NaN");
}

/// Beside the definition: p of every word for every label, sorted.
#[test]
fn the_best_words_are_those_of_a_sort_by_probability() {
    let (labels, vocabulary) = (3, 40);
    let scores: Vec<f32> = (0..labels * vocabulary).map(|i| (i * i * 7919 % 10_007) as f32 / 2000.0).collect();
    let p = |label: usize, id: usize| {
        let sum: f64 = (0..labels).map(|l| f64::from(scores[l * vocabulary + id]).exp()).sum();
        f64::from(scores[label * vocabulary + id]).exp() / sum
    };
    let word = |id: u32| (!id.is_multiple_of(3)).then(|| id.to_string());
    let found = best_words(&scores, labels, 4, word);
    for (label, found) in found.iter().enumerate() {
        let mut ids: Vec<usize> = (0..vocabulary).filter(|id| !id.is_multiple_of(3)).collect();
        ids.retain(|id| (0..labels).all(|l| l == label || p(label, *id) > p(l, *id)));
        ids.sort_by(|a, b| p(label, *b).total_cmp(&p(label, *a)));
        assert_eq!(*found, ids.iter().take(4).map(usize::to_string).collect::<Vec<_>>(), "{label}");
    }
    // Scores so large that every p is 1 still have an order.
    assert_eq!(
        best_words(&[900.0, 950.0, 0.0, 0.0, 0.0, 1.0], 2, 2, |id| Some(id.to_string())),
        [vec!["1", "0"], vec!["2"]]
    );
}

const RUN: &str = r#"
model = "world-mlm"
compute = "f32"
[data]
train = "train.jsonl"
dev = "dev.jsonl"
[task.verbalizer]
first = ["won"]
second = ["yen"]
third = ["Japan"]
[search]
label_words = 1
"#;

/// Countries of three continents with their names in both languages, and what the run file calls the continent.
fn countries() -> Vec<([String; 2], &'static str)> {
    let table = include_str!("../../../assets/world/countries.tsv");
    let label = |continent: &str| {
        [("Asia", "first"), ("Europe", "second"), ("Africa", "third")].iter().find(|(name, _)| *name == continent)
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        Some(([cells[0].to_owned(), cells[1].to_owned()], label(cells[4])?.1))
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// A search over the built-in model: which continent a country is on, though the run file's words know nothing of that.
fn continents(template: &str, language: usize, set: &[(&str, &str)]) -> (tempfile::TempDir, Found) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    let (top, rest) = RUN.split_once("[task").unwrap();
    fs::write(&file, format!("{top}[task]\ntemplate = '{template}'\n[task{rest}")).unwrap();
    for (name, other) in [("train.jsonl", 0), ("dev.jsonl", 1)] {
        let half = countries().into_iter().skip(other).step_by(2);
        let row =
            |(names, label): ([String; 2], &str)| format!("{{\"x\": {:?}, \"label\": {label:?}}}\n", names[language]);
        fs::write(directory.path().join(name), half.map(row).collect::<String>()).unwrap();
    }
    let set: Vec<_> = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let config = RunConfig::read(&file, &set).unwrap();
    let out = directory.path().join("out");
    let found = search(&config, &file, &out, &Device::processor(Some(2)), None, &mut |_| {}).unwrap();
    (directory, found)
}

fn first(found: &Found) -> Vec<&str> {
    found.labels.iter().map(|(_, words)| words[0].as_str()).collect()
}

/// The model was trained on continents, and no row says their names.
#[test]
fn a_trained_model_says_the_words_that_the_labels_mean() {
    for (template, language, pool, expected) in [
        ("{x} is located in [MASK].", 0, "100", ["Asia", "Europe", "Africa"]),
        ("{x} [P*2] in [MASK].", 0, "100", ["Asia", "Europe", "Africa"]),
        ("{x} 의 대륙은 [MASK] 입니다.", 1, "30", ["아시아", "유럽", "아프리카"]),
    ] {
        let set = [("search.label_pool", pool), ("search.steps", "2"), ("search.batch_size", "6")];
        let (directory, found) = continents(template, language, &set);
        assert_eq!(first(&found), expected, "{template}: {:?}", found.labels);
        assert!(found.labels.iter().all(|(_, words)| words.len() == 1), "{:?}", found.labels);
        // The adapter and the run file have the words, and answer with them.
        let out = directory.path().join("out");
        let predictor =
            Predictor::open(&out.join("adapter"), None, &Device::processor(Some(1)), &mut |_, _| {}).unwrap();
        let evaluated = predictor.evaluate(&directory.path().join("dev.jsonl"), &mut |_, _| {}).unwrap();
        assert_eq!(Some(&evaluated.metrics), found.summary.dev.as_ref());
        let written = RunConfig::read(&out.join("run.toml"), &[]).unwrap();
        assert_eq!(written.task.verbalizer, found.labels);
        if template.contains("located") {
            assert_eq!((found.words.as_str(), found.tokens.len()), (template, 0));
            assert!(evaluated.metrics.get("accuracy") >= Some(0.9), "{:?}", evaluated.metrics);
        } else if template.contains("[P*2]") {
            assert_eq!(found.tokens.len(), 2);
            assert!(!found.tokens.iter().any(|token| expected.contains(&token.as_str())), "{:?}", found.tokens);
        }
    }
}

/// Among all words, as the authors have it, the right ones are the first but for a stray one.
#[test]
fn the_whole_vocabulary_has_the_right_words_among_its_first() {
    let set = [("search.label_pool", "0"), ("search.label_words", "3")];
    let (_, found) = continents("{x} is located in [MASK].", 0, &set);
    for ((_, words), right) in found.labels.iter().zip(["Asia", "Europe", "Africa"]) {
        assert!(words.iter().any(|word| word == right), "{:?}", found.labels);
    }
}

#[test]
fn the_pool_has_the_likeliest_words_of_each_label() {
    let likely = [0.1, 0.5, 0.3, 0.1, 0.0, 0.2, 0.2, 0.6];
    let pool = |count| likeliest(&likely, 2, count, |id| (id != 1).then(String::new)).into_iter().collect::<Vec<_>>();
    assert_eq!(pool(1), [2, 3]);
    assert_eq!(pool(2), [0, 2, 3], "of equal ones the first, and a word counts once");
    assert_eq!(pool(9), [0, 2, 3], "a token that is no word is not there");
}
