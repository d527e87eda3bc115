//! Runs of several seeds over one model: those of each seed alone, wherever they were stopped, and where one ends before
//! the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ptune::train::{Event, Options, RunConfig, Summary, run, run_seeds, run_with, seed_directory};
use ptune::{Device, Error, Result};
use tempfile::TempDir;

const SEEDS: [u64; 3] = [3, 0, 12];
/// Steps of each: the patience of two ends first.
const STEPS: [usize; 3] = [8, 12, 10];

const OVERRIDES: [(&str, &str); 5] = [
    ("train.steps", "12"),
    ("train.eval_every", "2"),
    ("train.save_every", "3"),
    ("train.learning_rate", "0.01"),
    ("train.patience", "2"),
];

const LORA: [(&str, &str); 3] =
    [("backbone.mode", "lora"), ("backbone.lora_rank", "2"), ("train.backbone_learning_rate", "2e-3")];

/// Runs of the tree's small model, each alone, in `alone/`.
struct Alone {
    directory: TempDir,
    config: RunConfig,
    file: PathBuf,
    results: Vec<Vec<(String, Vec<u8>)>>,
    steps: Vec<usize>,
}

impl Alone {
    fn new(settings: &[(&str, &str)]) -> Alone {
        let directory = tempfile::tempdir().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sentiment/run.toml");
        let rows = fs::read_to_string(file.with_file_name("dev.jsonl")).unwrap();
        let few = directory.path().join("few.jsonl");
        fs::write(&few, rows.lines().take(40).collect::<Vec<_>>().join("\n")).unwrap();
        let settings = OVERRIDES.iter().chain(settings);
        let mut pairs: Vec<(String, String)> = settings.map(|(key, value)| ((*key).into(), (*value).into())).collect();
        pairs.extend(["data.dev", "data.test"].map(|key| (key.into(), few.to_string_lossy().into_owned())));
        let config = RunConfig::read(&file, &pairs).unwrap();
        let mut alone = Alone { directory, config, file, results: Vec::new(), steps: Vec::new() };
        let out = alone.out("alone");
        let summaries = SEEDS.map(|seed| {
            let config = RunConfig { seed, ..alone.config.clone() };
            run(&config, &alone.file, &seed_directory(&out, seed), &Device::processor(Some(1)), &mut |_| {}).unwrap()
        });
        alone.steps = summaries.map(|summary| summary.steps).into();
        alone.results = alone.results(&out);
        alone
    }

    fn out(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The bytes that must be the same: the log and the adapter's files of each seed.
    fn results(&self, out: &Path) -> Vec<Vec<(String, Vec<u8>)>> {
        let of = |seed| {
            let out = seed_directory(out, seed);
            let mut files: Vec<PathBuf> =
                fs::read_dir(out.join("adapter")).unwrap().map(|e| e.unwrap().path()).collect();
            files.push(out.join("metrics.jsonl"));
            files.sort();
            let name = |path: &PathBuf| path.strip_prefix(&out).unwrap().to_string_lossy().into_owned();
            files.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
        };
        SEEDS.map(of).to_vec()
    }

    /// Resumes, or begins, the runs in `out`, told to stop at the `stop`-th event after the model was read. How it ended,
    /// and whether it heard that many events.
    fn until_event(&self, out: &Path, threads: usize, stop: usize) -> (Result<Vec<Summary>>, bool) {
        let (flag, mut seen) = (AtomicBool::new(false), 0);
        let options = Options { resume: true, stop: Some(&flag) };
        let device = Device::processor(Some(threads));
        let ended = run_seeds(&self.config, &self.file, out, &SEEDS, &device, options, &mut |event| {
            if !matches!(event, Event::Loading { .. } | Event::Note(_)) {
                seen += 1;
                flag.store(seen >= stop, Ordering::Relaxed);
            }
        });
        (ended, seen >= stop)
    }
}

#[test]
fn each_seed_comes_to_what_it_comes_to_alone() {
    let alone = Alone::new(&[]);
    assert_eq!(alone.steps, STEPS, "they must not end together");
    // Uninterrupted; and stopped at moments from the first evaluation to the last test rows, some in an evaluation of the
    // second seed, when the first has done its own.
    for (i, stop) in [usize::MAX, 9, 38].into_iter().enumerate() {
        let out = alone.out(&format!("stopped-{stop}"));
        let (ended, reached) = alone.until_event(&out, 1 + i % 2, stop);
        assert_eq!(reached, stop < usize::MAX, "fewer than {stop} events");
        match ended {
            Ok(summaries) => assert_eq!(summaries.iter().map(|s| s.steps).collect::<Vec<_>>(), alone.steps),
            Err(error) => {
                assert!(matches!(error, Error::Stopped { .. }), "{error}");
                alone.until_event(&out, 1, usize::MAX).0.unwrap();
            }
        }
        assert!(alone.results(&out) == alone.results, "stopped at event {stop}, the results differ");
    }
}

#[test]
fn a_seed_that_was_trained_alone_for_a_while_is_ahead_and_comes_to_the_same() {
    let alone = Alone::new(&[]);
    let (out, flag) = (alone.out("ahead"), AtomicBool::new(false));
    let config = RunConfig { seed: SEEDS[1], ..alone.config.clone() };
    let options = Options { resume: false, stop: Some(&flag) };
    let device = Device::processor(Some(1));
    let stopped = run_with(&config, &alone.file, &seed_directory(&out, SEEDS[1]), &device, options, &mut |event| {
        flag.store(matches!(event, Event::Step { step: 7, .. }), Ordering::Relaxed);
    });
    assert!(matches!(stopped, Err(Error::Stopped { step: 7 })), "{stopped:?}");
    alone.until_event(&out, 1, usize::MAX).0.unwrap();
    assert!(alone.results(&out) == alone.results);
}

/// Each has its own additions to the one model; one of them is stopped and goes on.
#[test]
fn low_rank_additions_of_each_seed_come_to_what_they_come_to_alone() {
    let alone = Alone::new(&LORA);
    for stop in [usize::MAX, 38] {
        let out = alone.out(&format!("stopped-{stop}"));
        if let Err(error) = alone.until_event(&out, 2, stop).0 {
            assert!(matches!(error, Error::Stopped { .. }), "{error}");
            alone.until_event(&out, 1, usize::MAX).0.unwrap();
        }
        assert!(alone.results(&out) == alone.results, "stopped at event {stop}, the results differ");
    }
}
