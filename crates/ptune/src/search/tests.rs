//! Searches over tiny models: the gradient tells the truth, found tokens are exact, threads change no bit.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::candidates::{changes, most_promising};
use super::*;
use crate::predict::Predictor;

const PROBING: &str = r#"
seed = 5
compute = "f32"
[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "dev.jsonl"
max_tokens = 24
[task]
template = "{subject} [P*2] is in [P*1 @a] [MASK] . [P*1 @a]"
target = "object"
[search]
steps = 8
batch_size = 3
candidates = 4
"#;

const FACTS: &str = r#"{"subject": "France", "object": "paris"}
{"subject": "Italy", "object": "rome"}
{"subject": "Norway", "object": "oslo"}
{"subject": "Spain", "object": "great"}
"#;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).join("model")
}

/// A directory with a run file over a model, with changes.
fn scene(model: &str, changes: &[(&str, &str)]) -> (TempDir, PathBuf, RunConfig) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.toml");
    fs::write(&file, format!("model = {:?}\n{PROBING}", golden(model))).unwrap();
    for name in ["train.jsonl", "dev.jsonl"] {
        fs::write(directory.path().join(name), FACTS).unwrap();
    }
    let set: Vec<_> = changes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let config = RunConfig::read(&file, &set).unwrap();
    (directory, file, config)
}

fn found(directory: &TempDir, file: &Path, config: &RunConfig, threads: usize) -> (PathBuf, Result<Found>) {
    let out = directory.path().join(format!("out-{threads}"));
    let found = search(config, file, &out, &Device::processor(Some(threads)), None, &mut |_| {});
    (out, found)
}

/// The first-order change that picks candidates is the derivative of the loss on the way from one word to another.
#[test]
fn the_predicted_change_is_the_slope_of_the_loss() {
    for model in ["mlp_probing", "lstm_one_row"] {
        let (directory, file, config) = scene(model, &[]);
        let (out, device) = (directory.path().join("out"), Device::processor(Some(1)));
        let (mut search, ..) = begin(&config, &file, &out, &device, None, &mut |_| {}).unwrap();
        let (now, rows) = ([20, 21, 22], [0, 1, 2, 3]);
        let (_, gradient) = search.gradient(&now, &rows);
        let (batch, targets) = search.batch(&rows);
        let width = search.model.embedding_width();
        for place in 0..3 {
            let of_place = device.gather_rows(&gradient, &[place as u32]);
            let all = changes(&device, &search.model, &of_place);
            for other in [5, 9, 17, 25] {
                // The loss with a little of the way to the other word gone, forwards and backwards.
                let loss = |share: f32| {
                    let mut vectors = search.vectors(&[&now]);
                    let words = search.model.word_table().read();
                    for (i, x) in vectors.data_mut()[place * width..][..width].iter_mut().enumerate() {
                        *x += share * (words[other * width + i] - words[now[place] as usize * width + i]);
                    }
                    let inject = Inject { prompt_embeds: Some(&vectors), ..Inject::default() };
                    let logits = search.model.logits(&batch, &inject, &search.columns);
                    search.task.head.loss(&device, &logits, &targets).mean
                };
                let slope = (loss(0.02) - loss(-0.02)) / 0.04;
                let predicted = f64::from(all.read()[other] - all.read()[now[place] as usize]);
                assert!((slope - predicted).abs() < 2e-3 + 0.02 * slope.abs(), "{model} {place}: {slope}, {predicted}");
            }
        }
    }
}

#[test]
fn the_most_promising_are_those_of_a_sort() {
    let changes: Vec<f32> = (0..50).map(|i| (i * 7919 % 31) as f32).collect();
    let allowed: Vec<bool> = (0..50).map(|i| i % 3 > 0).collect();
    let mut sorted: Vec<u32> = (0..50).filter(|id| allowed[*id as usize] && *id != 7).collect();
    sorted.sort_by(|a, b| changes[*a as usize].total_cmp(&changes[*b as usize]).then(a.cmp(b)));
    for count in [1, 4, 1000] {
        assert_eq!(most_promising(&changes, &allowed, 7, count), sorted[..count.min(sorted.len())]);
    }
}

/// Candidates compared together have the losses of each alone, so that a pass may take any number of them; and those of a
/// whole forward and backward of the one prompt, which shares nothing.
#[test]
fn losses_do_not_depend_on_the_other_candidates() {
    let long = ("task.verbalizer", "{yes = ['yes', 'yes yes no'], no = ['no no']}");
    for (model, template, shares, words) in [
        ("mlp_probing", "{subject} [P*2] [MASK] .", [false, false], None),
        ("gpt2_lstm", "[P*2] {subject} ? [MASK]", [false, false], None),
        ("gpt2_lstm", "{subject} [P*2] ? [MASK]", [true, true], None),
        ("gpt2_lstm", "{subject} [P*1 @b] and [P*1 @a] [P*1 @b] [MASK]", [true, true], None),
        ("gpt2_lstm", "[P*1] {subject} [P*1] [MASK]", [false, true], Some(long)),
    ] {
        let set: Vec<_> = [("task.template", template)].into_iter().chain(words).collect();
        let (directory, file, config) = scene(model, &set);
        let rows = FACTS.replace("paris", "yes").replace("rome", "no").replace("oslo", "yes").replace("great", "no");
        let rows = if model == "gpt2_lstm" { rows } else { FACTS.into() };
        for name in ["train.jsonl", "dev.jsonl"] {
            fs::write(directory.path().join(name), &rows).unwrap();
        }
        let out = directory.path().join("out");
        let device = Device::processor(Some(2));
        let (mut search, ..) = begin(&config, &file, &out, &device, None, &mut |_| {}).unwrap();
        for (place, shares) in shares.into_iter().enumerate() {
            let prompts: Vec<Vec<u32>> = [20, 23, 9]
                .map(|token| {
                    let mut prompt = vec![21, 22];
                    prompt[place] = token;
                    prompt
                })
                .into();
            let examples: Vec<_> = [0, 2, 3].map(|row: usize| &search.data.train.examples[row].encoded).into();
            let causal = model == "gpt2_lstm";
            assert_eq!(causal && compared::shared_rows(&examples, place) > 0, shares, "{template} {place}");
            let together = search.losses(&prompts, place, &[0, 2, 3]);
            for (prompt, together) in prompts.iter().zip(&together) {
                let alone = search.losses(std::slice::from_ref(prompt), place, &[0, 2, 3])[0];
                assert_eq!(*together, alone, "{template} {place}");
                let whole = search.gradient(prompt, &[0, 2, 3]).0;
                assert!((together - whole).abs() < 1e-5 * whole, "{template} {place}: {together} and {whole}");
            }
            assert_ne!(together[0], together[1], "{template} {place}");
        }
    }
}

#[test]
fn a_search_repeats_bit_for_bit_with_any_threads_and_its_adapter_answers_as_it_did() {
    let (directory, file, config) = scene("mlp_probing", &[]);
    let (first, found_first) = found(&directory, &file, &config, 1);
    let (second, _) = found(&directory, &file, &config, 3);
    let found = found_first.unwrap();
    for name in ["metrics.jsonl", "adapter/adapter.toml"] {
        assert_eq!(fs::read_to_string(first.join(name)).unwrap(), fs::read_to_string(second.join(name)).unwrap());
    }
    let adapter = Adapter::load(&first.join("adapter")).unwrap();
    assert_eq!((adapter.rows, adapter.description.discrete.tokens.len()), (0, 3));
    assert_eq!(found.tokens.len(), 3);
    let answers = ["paris", "rome", "oslo", "great", "[MASK]", "[CLS]"];
    assert!(found.tokens.iter().all(|token| !answers.contains(&token.as_str())), "{:?}", found.tokens);
    // A continuation is glued to what it continues, `is in` and `##a` to `is ina`, and a shared place is shown twice.
    assert!(found.words.starts_with("{subject}") && found.words.contains(" is in"), "{}", found.words);
    // The search asked with vectors, the adapter asks with the tokens themselves.
    let device = Device::processor(Some(1));
    let predictor = Predictor::open(&first.join("adapter"), None, &device, &mut |_, _| {}).unwrap();
    let evaluated = predictor.evaluate(&directory.path().join("dev.jsonl"), &mut |_, _| {}).unwrap();
    assert_eq!(Some(evaluated.metrics), found.summary.dev);
    assert_eq!(found.summary.dev, found.summary.test);
}

/// A run file that trains the model, or low-rank additions to it, serves a search as well: the same bytes as without.
#[test]
fn a_search_asks_the_model_as_it_is_whatever_a_training_would_change() {
    let (directory, file, config) = scene("mlp_probing", &[]);
    let (frozen, _) = found(&directory, &file, &config, 1);
    for mode in ["lora", "full"] {
        let (directory, file, config) = scene("mlp_probing", &[("backbone.mode", mode)]);
        let (out, mut notes) = (directory.path().join("out"), Vec::new());
        let observe = &mut |event: Event<'_>| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        };
        search(&config, &file, &out, &Device::processor(Some(1)), None, observe).unwrap();
        assert!(notes.iter().any(|note| note.contains(mode) && note.contains("the model as it is")), "{notes:?}");
        for name in ["metrics.jsonl", "adapter/adapter.toml"] {
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), fs::read_to_string(frozen.join(name)).unwrap());
        }
        assert_eq!(fs::read_dir(out.join("adapter")).unwrap().count(), 1, "no weights beside it");
        let written = RunConfig::read(&out.join("run.toml"), &[]).unwrap();
        assert_eq!(written.backbone, BackboneConfig::default());
    }
}

#[test]
fn too_few_steps_leave_no_prompt_with_masks() {
    let (directory, file, config) = scene("mlp_probing", &[("search.steps", "2")]);
    let error = found(&directory, &file, &config, 1).1.err().unwrap();
    assert!(error.to_string().contains("1 places"), "{error}");
}

#[test]
fn prompts_answer_together_as_the_weighted_sum_of_each() {
    let (directory, file, _) = scene("mlp_probing", &[]);
    let list = directory.path().join("prompts.txt");
    let lines =
        ["[X] is in [Y] .", "the capital of [X] is [Y] .", "{subject} , [MASK]", "[X] is in [Y] .", "[P*1] [Y]"];
    fs::write(&list, lines.join("\n")).unwrap();
    let set = |combine: &str| -> Vec<(String, String)> {
        [("search.prompts", "prompts.txt"), ("search.combine", combine)].map(|(k, v)| (k.into(), v.into())).into()
    };
    let device = Device::processor(Some(1));
    let mut answers = Vec::new();
    for combine in ["best", "mean", "weighted"] {
        let config = RunConfig::read(&file, &set(combine)).unwrap();
        let (out, mut notes) = (directory.path().join(combine), Vec::new());
        let observe = &mut |event: Event<'_>| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        };
        let found = search(&config, &file, &out, &device, None, observe).unwrap();
        assert!(notes.iter().any(|note| note.contains("prompts.txt:5: left out")), "{notes:?}");
        assert_eq!(found.tried.len(), 3, "one stands there twice");
        assert!((found.prompts.iter().map(|prompt| prompt.weight).sum::<f64>() - 1.0).abs() < 1e-9);
        let predictor = Predictor::open(&out.join("adapter"), None, &device, &mut |_, _| {}).unwrap();
        let evaluated = predictor.evaluate(&directory.path().join("dev.jsonl"), &mut |_, _| {}).unwrap();
        assert_eq!(Some(evaluated.metrics), found.summary.dev, "{combine}");
        answers.push(found);
    }
    assert_eq!(answers[0].prompts.len(), 1);
    assert_eq!(answers[0].tried[0].template, answers[0].prompts[0].template);
    // By hand: the mean of what each prompt gives.
    let config = RunConfig::read(&file, &set("mean")).unwrap();
    let out = directory.path().join("by-hand");
    let (search, listed, _) = begin(&config, &file, &out, &device, None, &mut |_| {}).unwrap();
    let prompts: Vec<(Template, f64)> = listed.unwrap().into_iter().map(|template| (template, 1.0 / 3.0)).collect();
    let scores = |prompts: &[(Template, f64)]| {
        let task = search.asked_by(prompts);
        let rows = task.dataset(&directory.path().join("dev.jsonl")).unwrap();
        let encoded: Vec<_> = rows.examples.iter().map(|row| &row.encoded).collect();
        let mut all = Vec::new();
        search
            .scorer(&task, &Injection::default())
            .score(&encoded, &mut |_, _| Ok(()), |_, row| all.extend_from_slice(row))
            .unwrap();
        all
    };
    let each: Vec<Vec<f32>> = prompts.iter().map(|prompt| scores(std::slice::from_ref(prompt))).collect();
    for (i, together) in scores(&prompts).into_iter().enumerate() {
        let expected = each.iter().map(|scores| scores[i]).sum::<f32>() / 3.0;
        assert!((together - expected).abs() < 1e-5, "{together} and {expected}");
    }
}

#[test]
fn wrong_requests_say_what_to_do() {
    for (key, value, part) in [
        ("task.template", "{subject} is in [MASK] .", "has no [P*n]"),
        ("search.label_words", "2", "names none; give them in [task.verbalizer]"),
        ("prompt.prefix_tokens", "3", "a prefix has no tokens"),
        ("search.prompts", "nowhere.txt", "nowhere.txt"),
    ] {
        let (directory, file, config) = scene("mlp_probing", &[(key, value)]);
        let error = found(&directory, &file, &config, 1).1.err().unwrap();
        assert!(error.is_request() && error.to_string().contains(part), "{error}");
        assert!(!directory.path().join("out-1").exists(), "nothing is written before all is checked");
    }
}
