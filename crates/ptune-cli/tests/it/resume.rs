//! Interrupted runs as people meet them: killed at random moments, stopped by a signal, continued with a change.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{Said, Scene, list};

/// Enough steps that most moments are inside the training.
const LONG: [&str; 8] = [
    "train",
    "run.toml",
    "--set",
    "train.steps=200",
    "--set",
    "train.eval_every=10",
    "--set",
    "train.learning_rate=0.02",
];

/// A run that no test waits for; with a state as soon as there is a step.
const ENDLESS: [&str; 8] =
    ["train", "run.toml", "--set", "train.steps=900000000", "--set", "train.save_every=1", "--out", "out"];

pub(crate) fn start(scene: &Scene, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptune"));
    command.args(arguments).current_dir(scene.path("")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the child said on standard error, and how it ended.
pub(crate) fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until a file is there.
pub(crate) fn wait_for(path: &Path) {
    for _ in 0..60_000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} does not come", path.display());
}

/// The bytes that must not depend on interruptions: `metrics.jsonl` and `adapter/`.
fn results(scene: &Scene, out: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = std::collections::BTreeMap::new();
    list(&scene.path(out).join("adapter"), &mut found);
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = found.iter().map(|(path, bytes)| (name(path), bytes.clone())).collect();
    files.push(("metrics.jsonl".into(), fs::read(scene.path(out).join("metrics.jsonl")).unwrap()));
    files
}

/// After any kill: the adapter, if there is one yet, answers; every line of the log is whole.
pub(crate) fn nothing_is_damaged(scene: &Scene, out: &str) {
    if scene.path(out).join("adapter/adapter.toml").exists() {
        scene.run(&["eval", &format!("{out}/adapter"), "--data", "test.jsonl"]).done();
    }
    let log = fs::read_to_string(scene.path(out).join("metrics.jsonl")).unwrap_or_default();
    assert!(log.is_empty() || log.ends_with('\n'), "{log}");
    log.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
}

/// Numbers from 0 to 1, the same in every run of the test.
fn moments() -> impl Iterator<Item = f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// Kills a command `kills` times at random moments, and resumes it. `runs` are its run directories, below `--out`.
fn killed(kills: usize, command: &[&str], runs: &[&str]) {
    let scene = Scene::new();
    let results = |out: &str| runs.iter().map(|run| results(&scene, &format!("{out}/{run}"))).collect::<Vec<_>>();
    let begin = Instant::now();
    scene.run(&[command, &["--out", "whole"]].concat()).done();
    let (time, expected) = (begin.elapsed(), results("whole"));
    // Saved after every step, a good part of the moments falls into a save; seldom saved, much is done again.
    let save_every = ["train.save_every=1", "train.save_every=7", "train.save_every=50"];
    let (mut moments, mut done, mut commands) = (moments(), 0, 0);
    while done < kills {
        commands += 1;
        let out = format!("killed-{commands}");
        // A command is killed and resumed until it ends before its moment comes, or there were enough kills.
        loop {
            let save_every = save_every[done % save_every.len()];
            let resume = [command, &["--out", &out, "--set", save_every, "--resume"]].concat();
            if done == kills {
                scene.run(&resume).done();
                break;
            }
            let mut child = start(&scene, &resume);
            std::thread::sleep(time.mul_f64(moments.next().unwrap()));
            child.kill().unwrap();
            let (status, err) = end(child);
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "{err}");
            done += 1;
            runs.iter().for_each(|run| nothing_is_damaged(&scene, &format!("{out}/{run}")));
        }
        assert!(results(&out) == expected, "after {done} kills, {out} differs");
        let left: Vec<_> = scene.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn killed_at_twenty_random_moments_it_comes_to_the_same_bytes() {
    killed(20, &LONG, &[""]);
}

/// A kill may fall between the saves of two seeds: they then go on from different steps.
#[test]
fn killed_at_random_moments_several_seeds_come_to_the_same_bytes() {
    killed(8, &[&LONG[..], &["--seeds", "0,1"]].concat(), &["seed-0", "seed-1"]);
}

#[test]
fn a_signal_saves_the_run_and_says_how_to_go_on() {
    for name in ["INT", "TERM"] {
        let scene = Scene::new();
        let child = start(&scene, &ENDLESS);
        wait_for(&scene.path("out/state/state.safetensors"));
        signal(&child, name);
        let (status, err) = end(child);
        assert_eq!(status.code(), Some(1), "{err}");
        let last = err.lines().last().unwrap();
        let command = "go on with: ptune train run.toml --out out --set train.steps=900000000 --set \
                       train.save_every=1 --resume";
        assert!(last.starts_with("ptune: stopped after step ") && last.ends_with(command), "{err}");
        nothing_is_damaged(&scene, "out");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let scene = Scene::new();
    // One thread takes one signal after the other.
    let child = start(&scene, &[&ENDLESS[..], &["--threads", "1"]].concat());
    wait_for(&scene.path("out/metrics.jsonl"));
    // Both wait for a process that is asleep.
    for name in ["STOP", "INT", "TERM", "CONT"] {
        signal(&child, name);
    }
    let (status, err) = end(child);
    assert!(status.code() == Some(1) && !err.contains("go on with"), "{status}: {err}");
}

#[test]
fn a_signal_while_files_are_read_ends_it_at_once() {
    let scene = Scene::new();
    // A pipe that nobody writes to holds the run while it reads its data.
    scene.remove("train.jsonl");
    assert!(Command::new("mkfifo").arg(scene.path("train.jsonl")).status().unwrap().success());
    let child = start(&scene, &ENDLESS);
    // It may come before the process listens; then too it must end.
    signal(&child, "TERM");
    assert!(!end(child).0.success());
    assert!(!scene.path("out").exists());
}

#[test]
fn what_has_changed_is_named() {
    let scene = Scene::new().trained();
    let resume = |more: &[&str], says: &[&str]| {
        scene.refused(&[&["train", "run.toml", "--out", "out", "--resume"], more].concat(), says);
    };
    resume(&["--set", "train.steps=9"], &["out: this run cannot go on", "train.steps was 4 and is 9", "--out"]);
    resume(&["--set", "seed=9", "--set", "data.max_tokens=39"], &["seed was 3 and is 9", "data.max_tokens was 40"]);
    resume(&["--set", "task.verbalizer.entailment=[\"yes\"]"], &["task.verbalizer was {", "\"true\"", "and is {"]);
    resume(&["--set", "data.test=dev.jsonl"], &["data.test was", "test.jsonl", "and is", "dev.jsonl"]);
    scene.edit("dev.jsonl", "red room", "room");
    resume(&[], &["the contents of data.dev have changed"]);
    scene.edit("dev.jsonl", "the room", "the red room");
    scene.first_value("bert.embeddings.word_embeddings.weight", 0.5);
    resume(&[], &["the model's files have changed"]);
}

#[test]
fn what_changes_no_result_may_change() {
    let scene = Scene::new().trained();
    let free = ["--set", "threads=2", "--set", "train.save_every=1", "--threads", "1"];
    let said = scene.run(&[&["train", "run.toml", "--out", "out", "--resume", "--json"][..], &free].concat());
    assert!(said.err.contains("out: this run is finished"), "{}", said.err);
    assert_eq!(said.object()["steps"], 4);
}

#[test]
fn without_resume_a_run_is_never_touched_and_the_way_on_is_shown() {
    let scene = Scene::new().trained();
    scene.refused(&["train", "run.toml", "--out", "out"], &["holds a run already", "--resume", "--out"]);
}

#[test]
fn with_nothing_saved_yet_it_begins_from_the_start() {
    let scene = Scene::new().trained();
    let expected = results(&scene, "out");
    let resume = |out: &str| -> Said { scene.run(&["train", "run.toml", "--out", out, "--resume"]) };
    // No directory at all; an empty one; one that was left right after it was made.
    fs::create_dir_all(scene.path("empty")).unwrap();
    fs::create_dir_all(scene.path("begun/state")).unwrap();
    fs::copy(scene.path("out/run.toml"), scene.path("begun/run.toml")).unwrap();
    for out in ["new", "empty", "begun"] {
        resume(out).done();
        assert!(results(&scene, out) == expected, "{out}");
    }
    // One of another run, or with an adapter alone, is not taken for this one.
    fs::create_dir_all(scene.path("other")).unwrap();
    scene.write("other/run.toml", scene.read("out/run.toml").replace("steps = 4", "steps = 5"));
    scene.refused(&["train", "run.toml", "--out", "other", "--resume"], &["train.steps was 5 and is 4"]);
    fs::create_dir_all(scene.path("bare/adapter")).unwrap();
    scene.refused(&["train", "run.toml", "--out", "bare", "--resume"], &["no run.toml"]);
}

#[test]
fn without_out_the_last_run_goes_on() {
    let scene = Scene::new();
    let default = |said: Said| said.object()["out"].as_str().unwrap().to_owned();
    let first = default(scene.run(&["train", "run.toml", "--json"]));
    let second = default(scene.run(&["train", "run.toml", "--json"]));
    assert_eq!(second, format!("{first}-2"));
    let said = scene.run(&["train", "run.toml", "--json", "--resume"]);
    assert!(said.err.contains("this run is finished"), "{}", said.err);
    assert_eq!(default(said), second);
}

#[test]
fn a_damaged_state_is_refused() {
    let scene = Scene::new().trained();
    let file = scene.path("out/state/state.safetensors");
    let whole = fs::read(&file).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..100], b"", b"not a state at all"] {
        fs::write(&file, bytes).unwrap();
        let says = ["out/state/state.safetensors: the saved state cannot be used", "remove this file"];
        scene.refused(&["train", "run.toml", "--out", "out", "--resume"], &says);
    }
    // As the message says.
    let expected = results(&scene, "out");
    fs::remove_file(&file).unwrap();
    scene.run(&["train", "run.toml", "--out", "out", "--resume"]).done();
    assert!(results(&scene, "out") == expected);
}

#[test]
fn two_processes_do_not_share_a_run() {
    let scene = Scene::new();
    let mut child = start(&scene, &ENDLESS);
    wait_for(&scene.path("out/metrics.jsonl"));
    let said = scene.run(&[&ENDLESS[..], &["--resume"]].concat());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said.status, Some(2), "{}", said.err);
    assert!(said.err.contains("another process is at work on this run"), "{}", said.err);
}
