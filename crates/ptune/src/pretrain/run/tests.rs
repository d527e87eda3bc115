//! Whole runs of tiny models: they learn, repeat to the bit, go on after a stop, and what they save is what they trained.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use half::bf16;
use tempfile::TempDir;

use super::*;
use crate::checkpoint::Weights;
use crate::model::Inject;
use crate::pretrain::batch::Batch;
use crate::rng::{Purpose, Rng};

/// Sentences that follow simple rules, in two languages.
fn text() -> String {
    let subjects = ["cat", "dog", "bird", "고양이", "강아지", "새"];
    let verbs = ["sleeps", "runs", "flies", "잡니다", "달립니다", "납니다"];
    let line = |i: usize| {
        let (which, when) = (i % 6, i / 6 % 5);
        match which {
            0..3 => format!("The {} {} on day {when}.", subjects[which], verbs[which]),
            _ => format!("{when}번 날에 {}는 {}.", subjects[which], verbs[which]),
        }
    };
    (0..240).map(|i| line(i * 7) + "\n").collect()
}

/// A directory with a run file and its text.
struct Scene {
    directory: TempDir,
}

impl Scene {
    fn new(layout: &str) -> Scene {
        let scene = Scene { directory: tempfile::tempdir().unwrap() };
        fs::write(scene.path("text.txt"), text()).unwrap();
        fs::write(scene.path("words.txt"), "cat\n강아지\n").unwrap();
        let run = format!(
            "seed = 5\n[data]\ntext = [\"text.txt\"]\nheld_out = 0.1\nmax_tokens = 24\n\
             [tokenizer]\nvocabulary = 330\nwords = \"words.txt\"\n\
             [model]\nlayout = \"{layout}\"\nlayers = 2\nhidden = 32\nheads = 2\npositions = 24\n\
             [train]\nsteps = 6\nbatch_tokens = 200\nlearning_rate = 5e-3\nwarmup_steps = 2\neval_every = 2\n\
             save_every = 2\n"
        );
        fs::write(scene.path("run.toml"), run).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self, overrides: &[(&str, &str)]) -> PretrainConfig {
        let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        PretrainConfig::read(&self.path("run.toml"), &overrides).unwrap()
    }

    fn run(&self, out: &str, threads: usize, overrides: &[(&str, &str)]) -> Result<Summary> {
        self.run_with(out, threads, overrides, Options::default(), &mut |_| {})
    }

    fn run_with(
        &self,
        out: &str,
        threads: usize,
        overrides: &[(&str, &str)],
        options: Options<'_>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Summary> {
        let device = Device::processor(Some(threads));
        run(&self.config(overrides), &self.path("run.toml"), &self.path(out), &device, options, observe)
    }

    /// What must be the same in every repetition of a run.
    fn results(&self, out: &str) -> Vec<(&'static str, Vec<u8>)> {
        let names = [
            "initial/model.safetensors",
            "initial/tokenizer.json",
            "metrics.jsonl",
            "model/config.json",
            "model/model.safetensors",
            "model/tokenizer.json",
            "model/tokenizer_config.json",
        ];
        names.map(|name| (name, fs::read(self.path(out).join(name)).unwrap())).into()
    }
}

#[test]
fn a_model_learns_its_text() {
    for layout in ["bert", "gpt2"] {
        let scene = Scene::new(layout);
        let mut perplexities = Vec::new();
        let overrides = [("train.steps", "120"), ("train.eval_every", "60"), ("train.save_every", "1000")];
        let summary = scene.run_with("out", 1, &overrides, Options::default(), &mut |event| {
            if let Event::Evaluated { perplexity, .. } = event {
                perplexities.push(perplexity);
            }
        });
        let summary = summary.unwrap();
        assert_eq!(perplexities.len(), 3);
        assert!(perplexities[0] > 50.0, "{layout}: random weights know nothing, {perplexities:?}");
        assert!(perplexities[2] < perplexities[0] / 8.0, "{layout}: {perplexities:?}");
        assert_eq!(summary.perplexity, Some(perplexities[2]));
        let (trained, saved) = (perplexities[2], summary.saved_perplexity.unwrap());
        assert!((saved / trained - 1.0).abs() < 0.02, "{layout}: {trained} as trained, {saved} as saved");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes_with_any_threads() {
    for layout in ["bert", "gpt2"] {
        let scene = Scene::new(layout);
        scene.run("one", 1, &[]).unwrap();
        for (out, threads) in [("again", 1), ("two", 2)] {
            scene.run(out, threads, &[]).unwrap();
            assert!(scene.results(out) == scene.results("one"), "{layout} with {threads} threads");
        }
        scene.run("other", 1, &[("seed", "6")]).unwrap();
        assert_ne!(scene.results("other")[0], scene.results("one")[0]);
    }
}

#[test]
fn stopped_at_any_event_and_resumed_it_comes_to_the_same() {
    for layout in ["bert", "gpt2"] {
        let scene = Scene::new(layout);
        // With 4 steps between saves, some stops lie behind the last one.
        scene.run("whole", 1, &[("train.save_every", "4")]).unwrap();
        for stop in 1.. {
            let out = format!("stopped-{stop}");
            let (flag, mut seen) = (AtomicBool::new(false), 0);
            let options = Options { stop: Some(&flag), ..Options::default() };
            let ended = scene.run_with(&out, 1, &[("train.save_every", "4")], options, &mut |event| {
                if !matches!(event, Event::Note(_) | Event::Working { what: "loading" | "tokenizing", .. }) {
                    seen += 1;
                    flag.store(seen >= stop, Ordering::Relaxed);
                }
            });
            match ended {
                Err(Error::Stopped { step }) => assert!(step <= 6),
                Err(other) => panic!("{layout} stopped at {stop}: {other}"),
                Ok(_) => {
                    assert!(stop > 10, "only {stop} events");
                    break;
                }
            }
            let options = Options { resume: true, ..Options::default() };
            scene.run_with(&out, 2, &[("train.save_every", "3")], options, &mut |_| {}).unwrap();
            assert!(scene.results(&out) == scene.results("whole"), "{layout} stopped at event {stop}");
        }
    }
}

/// A killed process has saved nothing since its last state: what it wrote after that is written again.
#[test]
fn killed_behind_a_save_it_comes_to_the_same() {
    let scene = Scene::new("bert");
    scene.run("whole", 1, &[]).unwrap();
    let flag = AtomicBool::new(false);
    let options = Options { stop: Some(&flag), ..Options::default() };
    let mut state = None;
    let file = scene.path("out/state/state.safetensors");
    let ended = scene.run_with("out", 1, &[], options, &mut |event| {
        if let Event::Step { step, .. } = event {
            if step == 3 {
                state = fs::read(&file).ok();
            }
            flag.store(step == 5, Ordering::Relaxed);
        }
    });
    assert!(matches!(ended, Err(Error::Stopped { step: 5 })));
    fs::write(&file, state.unwrap()).unwrap();
    let mut first = None;
    let options = Options { resume: true, ..Options::default() };
    let done = scene.run_with("out", 1, &[], options, &mut |event| {
        if let Event::Step { step, .. } = event {
            first.get_or_insert(step);
        }
    });
    done.unwrap();
    assert_eq!(first, Some(3), "it went on from the state of step 2");
    assert!(scene.results("out") == scene.results("whole"));
}

#[test]
fn another_text_or_run_file_is_refused_on_resume() {
    let scene = Scene::new("bert");
    let flag = AtomicBool::new(true);
    let stopped = Options { stop: Some(&flag), ..Options::default() };
    scene.run_with("out", 1, &[], stopped, &mut |_| {}).unwrap_err();
    let says = |overrides: &[(&str, &str)], resume: bool, part: &str| {
        let options = Options { resume, ..Options::default() };
        let message = scene.run_with("out", 1, overrides, options, &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    says(&[], false, "holds a run already");
    says(&[("train.learning_rate", "0.1")], true, "train.learning_rate was 0.005 and is 0.1");
    fs::write(scene.path("text.txt"), text() + "one more line\n").unwrap();
    // Nothing but the run file was there to compare with; a saved state knows its text.
    fs::write(scene.path("text.txt"), text()).unwrap();
    scene.run("done", 1, &[]).unwrap();
    fs::write(scene.path("text.txt"), text() + "one more line\n").unwrap();
    let options = Options { resume: true, ..Options::default() };
    let message = scene.run_with("done", 1, &[], options, &mut |_| {}).unwrap_err().to_string();
    assert!(message.contains("the contents of data.text have changed"), "{message}");
}

/// Logits of a model's directory for some rows of text, every row's where the model is causal.
fn logits(directory: &Path) -> Vec<f32> {
    let directory = ModelDirectory::open(directory).unwrap();
    let (device, spec) = (Device::processor(Some(1)), ModelSpec::read(&directory).unwrap());
    let tokenizer = open_tokenizer(&directory, &spec).unwrap();
    let rows = Form::of(&spec, &tokenizer, 24).unwrap().rows(&tokenizer, "The cat sleeps on day 3.").unwrap();
    let config = PretrainConfig { train: super::super::config::TrainConfig::default(), ..PretrainConfig::default() };
    let goal = goal(&config, Path::new("run.toml"), &spec, &tokenizer).unwrap();
    let Batch { layout, .. } = goal.batch(&rows, &mut Rng::new(0, Purpose::Masking(0)));
    let model = Model::load(&directory, &[], &device, Gradients::None, &mut |_, _| {}).unwrap();
    let (logits, _) = model.forward(&layout, &Inject::default(), &model.columns(None, false));
    logits.read().to_vec()
}

/// The same token stands in front in `ptune train` and in `ptune generate`: a model trained on rows without it would not
/// know what it is asked.
#[test]
fn rows_begin_as_their_family_begins_a_text() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (case, begins) in [("llama_embedding", true), ("opt_mlp", true), ("qwen2_embedding", false)] {
        let directory = ModelDirectory::open(&golden.join(case).join("model")).unwrap();
        let (spec, tokenizer) = (ModelSpec::read(&directory).unwrap(), Tokenizer::open(directory.path()).unwrap());
        assert_eq!(tokenizer.beginning().len(), usize::from(begins), "{case}");
        let line = "The good film was slow, the story was short.";
        let rows = Form::of(&spec, &tokenizer, 12).unwrap().rows(&tokenizer, line).unwrap();
        assert!(rows.len() > 1 && rows.iter().all(|row| row.ids.len() <= 12), "{case}: cut to fit");
        assert!(rows.iter().all(|row| row.ids.starts_with(tokenizer.beginning())), "{case}");
        let ends: Vec<bool> = rows.iter().map(|row| row.ids.last().copied() == tokenizer.special().eos).collect();
        assert!(ends.iter().rev().skip(1).all(|end| !end) && ends.ends_with(&[true]), "{case}: {ends:?}");
        let text = rows.iter().flat_map(|row| &row.ids[usize::from(begins)..]).copied().collect::<Vec<_>>();
        assert_eq!(tokenizer.decode(&text), line, "{case}: nothing is lost at the cuts");
        let message = Form::of(&spec, &tokenizer, 1).err().unwrap().to_string();
        assert!(message.contains("rows have 1 tokens"), "{message}");
    }
}

#[test]
fn what_is_saved_is_what_was_trained_in_either_precision() {
    for layout in ["bert", "gpt2"] {
        let scene = Scene::new(layout);
        scene.run("bf16", 1, &[]).unwrap();
        scene.run("f32", 1, &[("model.dtype", "f32")]).unwrap();
        let open = |out: &str| ModelDirectory::open(&scene.path(out).join("model")).unwrap();
        let [exact, rounded] = ["f32", "bf16"].map(open);
        let mut names: Vec<&str> = exact.weights().names().collect();
        names.sort();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for name in names {
            let read = |weights: &Weights, out: &mut Vec<f32>| {
                weights.read_into(name, exact.weights().shape(name).unwrap(), out).unwrap();
            };
            read(exact.weights(), &mut a);
            read(rounded.weights(), &mut b);
            let nearest: Vec<f32> = a.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            assert_eq!(b, nearest, "{layout}: {name}");
        }
        let (exact, rounded) = (logits(&scene.path("f32/model")), logits(&scene.path("bf16/model")));
        let largest = exact.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let difference = exact.iter().zip(&rounded).fold(0.0, |max: f32, (x, y)| max.max((x - y).abs()));
        assert!(difference > 0.0 && difference < 0.03 * largest, "{layout}: {difference} of {largest}");
    }
}

#[test]
fn training_goes_on_from_a_checkpoint() {
    for layout in ["bert", "gpt2"] {
        let scene = Scene::new(layout);
        let steps = ("train.steps", "60");
        let first = scene.run("first", 1, &[steps, ("model.dtype", "f32")]).unwrap();
        let run = fs::read_to_string(scene.path("run.toml")).unwrap();
        let (before, rest) = run.split_once("[tokenizer]").unwrap();
        let (_, train) = rest.split_once("[train]").unwrap();
        let checkpoint = "[model]\ncheckpoint = \"first/model\"\n[train]";
        fs::write(scene.path("run.toml"), format!("{before}{checkpoint}{train}")).unwrap();
        let mut at_first = None;
        let second = scene.run_with("second", 1, &[steps], Options::default(), &mut |event| {
            if let Event::Evaluated { step: 0, perplexity, .. } = event {
                at_first = Some(perplexity);
            }
        });
        let (first, second) = (first.perplexity.unwrap(), second.unwrap().perplexity.unwrap());
        assert!((at_first.unwrap() / first - 1.0).abs() < 1e-5, "{layout}: it begins where the other ended");
        assert!(second < first, "{layout}: {first}, then {second}");
        assert!(!scene.path("second/initial").exists());
        let tokenizer = |out: &str| fs::read(scene.path(out).join("model/tokenizer.json")).unwrap();
        assert!(tokenizer("first") == tokenizer("second"));
    }
}

#[test]
fn a_causal_model_of_words_and_a_masked_one_of_bytes_train_too() {
    for (layout, kind) in [("gpt2", "wordpiece"), ("bert", "bpe")] {
        let summary = Scene::new(layout).run("out", 1, &[("tokenizer.kind", kind)]).unwrap();
        assert!(summary.perplexity.unwrap().is_finite());
    }
}
