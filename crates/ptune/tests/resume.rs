//! A run that is stopped and resumed gives the bytes of one that never stopped, wherever it was stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::train::{Event, Options, RunConfig, Summary, run, run_with};
use ptune::{Device, Error, Result};
use tempfile::TempDir;

/// A short run of the tree's small model: evaluations of several packs, a best that is not the last, dev ties.
const OVERRIDES: [(&str, &str); 5] = [
    ("train.steps", "5"),
    ("train.eval_every", "2"),
    ("train.batch_size", "8"),
    ("train.learning_rate", "0.02"),
    ("train.schedule", "linear"),
];

/// The run file with few rows in `directory`: two packs for dev, one for test.
fn config(directory: &Path, more: &[(&str, &str)]) -> (RunConfig, PathBuf) {
    config_of("run.toml", directory, more)
}

fn config_of(name: &str, directory: &Path, more: &[(&str, &str)]) -> (RunConfig, PathBuf) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment").join(name);
    let mut pairs: Vec<(String, String)> =
        OVERRIDES.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let rows = fs::read_to_string(file.with_file_name("test.jsonl")).unwrap();
    for (key, count) in [("dev", 90), ("test", 10)] {
        let path = directory.join(format!("{key}.jsonl"));
        fs::write(&path, rows.lines().take(count).collect::<Vec<_>>().join("\n")).unwrap();
        pairs.push((format!("data.{key}"), path.to_string_lossy().into_owned()));
    }
    (RunConfig::read(&file, &pairs).expect("a good run file"), file)
}

/// The bytes that must be the same: the log and the adapter's files.
fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(out.join("adapter")).unwrap().map(|e| e.unwrap().path()).collect();
    files.push(out.join("metrics.jsonl"));
    files.sort();
    let name = |path: &PathBuf| path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Resumes, or begins, a run in `out` that is told to stop at its `stop`-th event after the model was read. How it ended,
/// and whether it heard that many events.
fn until_event(config: &RunConfig, file: &Path, out: &Path, threads: usize, stop: usize) -> (Result<Summary>, bool) {
    let (flag, mut seen) = (AtomicBool::new(false), 0);
    let options = Options { resume: true, stop: Some(&flag) };
    let ended = run_with(config, file, out, &Device::processor(Some(threads)), options, &mut |event| {
        if !matches!(event, Event::Loading { .. } | Event::Note(_)) {
            seen += 1;
            flag.store(seen >= stop, Ordering::Relaxed);
        }
    });
    (ended, seen >= stop)
}

/// A run's directory, its run file, and what it comes to without a stop.
struct Whole {
    directory: TempDir,
    config: RunConfig,
    file: PathBuf,
    results: Vec<(String, Vec<u8>)>,
}

impl Whole {
    fn new(more: &[(&str, &str)]) -> Whole {
        Whole::of("run.toml", more)
    }

    fn of(name: &str, more: &[(&str, &str)]) -> Whole {
        let directory = tempfile::tempdir().unwrap();
        let (config, file) = config_of(name, directory.path(), more);
        let out = directory.path().join("whole");
        run(&config, &file, &out, &Device::processor(Some(1)), &mut |_| {}).unwrap();
        Whole { results: results(&out), directory, config, file }
    }

    /// For the events of the run from the first on, `stride` apart: a run that stops there, and goes on to the end.
    fn stopped_once(&self, stride: usize) {
        for stop in (1..).step_by(stride) {
            let out = self.directory.path().join(format!("stopped-{stop}"));
            let (ended, reached) = until_event(&self.config, &self.file, &out, 1, stop);
            if !reached {
                assert!(stop > 8, "only {stop} events: this test does not stop where it should");
                break;
            }
            match ended {
                Err(Error::Stopped { step }) => assert!(step <= 5),
                Err(other) => panic!("stopped at event {stop}: {other}"),
                Ok(_) => {} // the last event: nothing was left to do
            }
            // Another number of threads now and then; not always, because two are slow on a busy machine.
            let threads = if stop < 4 { 2 } else { 1 };
            until_event(&self.config, &self.file, &out, threads, usize::MAX).0.unwrap();
            assert!(results(&out) == self.results, "stopped at event {stop}, the results differ");
        }
    }

    /// A run that stops after every few events. Five are enough to get through an evaluation, which is done in one go.
    fn stopped_again_and_again(&self) {
        let (out, mut parts) = (self.directory.path().join("again"), 0);
        while let Err(error) = until_event(&self.config, &self.file, &out, 1, 5).0 {
            assert!(matches!(error, Error::Stopped { .. }), "{error}");
            parts += 1;
            assert!(parts < 50, "the run does not get on");
        }
        assert!(results(&out) == self.results && parts > 1, "in {parts} parts");
    }
}

#[test]
fn stopped_anywhere_it_comes_to_the_same() {
    Whole::new(&[("train.save_every", "3")]).stopped_once(2);
}

#[test]
fn stopped_again_and_again_it_comes_to_the_same() {
    let adam = [("train.optimizer", "adam"), ("train.weight_decay", "0.01"), ("prompt.encoder", "mlp")];
    let patient = [("train.patience", "2"), ("prompt.encoder", "embedding"), ("data.shuffle", "false")];
    for more in [adam, patient] {
        Whole::new(&more).stopped_again_and_again();
    }
}

/// Weights, packed copies of them and masks of dropout have to come back as well; a manual template has no prompt.
#[test]
fn a_tuned_backbone_goes_on_too() {
    let full = [("backbone.mode", "full"), ("backbone.dropout", "0.1"), ("train.backbone_learning_rate", "1e-3")];
    Whole::new(&[&full[..], &[("train.save_every", "2")]].concat()).stopped_once(9);
    Whole::new(&[&full[..], &[("task.template", "{text} it was [MASK]")]].concat()).stopped_again_and_again();
}

/// What is added to a frozen model comes back too, and is tested as it was at the best step.
#[test]
fn low_rank_additions_go_on_too() {
    let lora = [("backbone.mode", "lora"), ("backbone.lora_rank", "2"), ("train.backbone_learning_rate", "2e-3")];
    Whole::new(&[&lora[..], &[("train.save_every", "2")]].concat()).stopped_once(9);
    Whole::new(&[&lora[..], &[("task.template", "{text} it was [MASK]")]].concat()).stopped_again_and_again();
}

/// A prefix is state as the rows of pseudo tokens are, plain or projected, with them or without.
#[test]
fn a_prefix_goes_on_too() {
    let projected = [("prompt.prefix_tokens", "3"), ("prompt.prefix_hidden_size", "5")];
    Whole::new(&[&projected[..], &[("train.save_every", "2")]].concat()).stopped_once(9);
    let alone = [("prompt.prefix_tokens", "4"), ("task.template", "{text} it was [MASK]")];
    Whole::new(&alone).stopped_again_and_again();
}

/// So is a classifier, alone, beside a prefix, and over a model that is trained too.
#[test]
fn a_classifier_goes_on_too() {
    let with = |more: &[(&str, &str)]| Whole::of("classifier.toml", &[&[("train.save_every", "2")], more].concat());
    with(&[]).stopped_again_and_again();
    with(&[("prompt.prefix_tokens", "3")]).stopped_once(9);
    with(&[("backbone.mode", "full")]).stopped_again_and_again();
}

#[test]
fn a_finished_run_says_what_it_came_to_and_leaves_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = config(directory.path(), &[]);
    let (device, out) = (Device::processor(None), directory.path().join("run"));
    let first = run(&config, &file, &out, &device, &mut |_| {}).unwrap();
    let before = (results(&out), fs::read(out.join("state/state.safetensors")).unwrap());
    let mut notes = Vec::new();
    let options = Options { resume: true, stop: None };
    let again = run_with(&config, &file, &out, &device, options, &mut |event| match event {
        Event::Note(text) => notes.push(text.to_owned()),
        _ => panic!("a finished run works"),
    });
    assert_eq!(format!("{:?}", again.unwrap()), format!("{first:?}"));
    assert!(notes.iter().any(|note| note.contains("finished")), "{notes:?}");
    assert!(before == (results(&out), fs::read(out.join("state/state.safetensors")).unwrap()));
}

#[test]
fn another_instruction_set_is_refused_by_name() {
    use ptune_kernels::{Context, Isa};
    let directory = tempfile::tempdir().unwrap();
    let (config, file) = config(directory.path(), &[]);
    let out = directory.path().join("run");
    let isas = Isa::available();
    let run_on = |isa: Isa| {
        let options = Options { resume: true, stop: None };
        run_with(&config, &file, &out, &Device::with_context(Context::new(isa, 1)), options, &mut |_| {})
    };
    run_on(isas[0]).unwrap();
    let Some(other) = isas.get(1) else { return }; // this processor has only the portable one
    let error = run_on(*other).unwrap_err();
    let (then, now) = (isas[0].name(), other.name());
    let expected = format!("the instruction set was {then} and is {now}");
    assert!(error.is_request() && error.to_string().contains(&expected), "{error}");
}
