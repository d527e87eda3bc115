//! A full disk: status 1, a sentence, and what was saved before is whole.
//!
//! The disk is a limit on the size of a file (`ulimit -f`, in blocks of 512 bytes or 1 KB) with its signal ignored, so
//! that writes fail as they do on a full disk; and `/dev/full` for standard output.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::process::Stdio;

use assert_cmd::Command;

use crate::scene::{Said, Scene};

/// Runs the binary with no file longer than `blocks`.
fn limited(scene: &Scene, blocks: usize, arguments: &str) -> Said {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{}' {arguments}", env!("CARGO_BIN_EXE_ptune"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).current_dir(scene.path("")).env("RUST_BACKTRACE", "0");
    scene.said(&mut shell)
}

/// Runs the binary with a full disk behind its standard output; status and standard error.
fn into_full(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ptune"));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done =
        command.args(arguments).current_dir(scene.path("")).stdout(full).stderr(Stdio::piped()).output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn from_the_start_nothing_half_written_stays() {
    let scene = Scene::new();
    let said = limited(&scene, 0, "train run.toml --out out --json");
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""), "{}", said.err);
    assert!(said.err.contains("cannot write out/run.toml: "), "{}", said.err);
    // Only the empty directory and lock of the state.
    let left: Vec<_> = std::fs::read_dir(scene.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["state"]);
    assert_eq!(std::fs::read_dir(scene.path("out/state")).unwrap().count(), 1);
}

#[test]
fn in_the_middle_the_last_good_adapter_is_whole() {
    let scene = Scene::new();
    // The event file grows with every evaluation and is the first over the limit.
    let run = "train run.toml --out out --set train.steps=40 --set train.eval_every=1 --set train.learning_rate=0.02";
    let said = limited(&scene, 4, run);
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""), "{}", said.err);
    assert!(said.err.contains("cannot write out/events.out.tfevents.ptune: File too large"), "{}", said.err);
    let log = scene.read("out/metrics.jsonl");
    assert!(log.lines().count() > 2 && log.ends_with('\n'), "{log}");
    log.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    scene.run(&["eval", "out/adapter", "--data", "test.jsonl"]).done();
    let left: Vec<_> = scene.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_state_that_does_not_fit_leaves_a_run_that_goes_on_later() {
    let scene = Scene::new();
    let run = "train run.toml --out out --set train.steps=40 --set train.save_every=10";
    scene.run(&run.replace("--out out", "--out whole").split(' ').collect::<Vec<_>>()).done();
    // The state, with its 200 KB, is the first file over the limit: at its first save, and after a larger disk at a later.
    let says = |said: &Said| {
        assert_eq!((said.status, said.out.as_str()), (Some(1), ""), "{}", said.err);
        assert!(said.err.contains("cannot write out/state/state.safetensors: File too large"), "{}", said.err);
    };
    let said = limited(&scene, 16, run);
    says(&said);
    assert!(!scene.path("out/state/state.safetensors").exists());
    assert!(said.err.contains("go on with: ptune train run.toml --out out"), "{}", said.err);
    scene.run(&["eval", "out/adapter", "--data", "test.jsonl"]).done();
    scene.run(&format!("{run} --resume").split(' ').collect::<Vec<_>>()).done();
    for name in ["metrics.jsonl", "adapter/adapter.toml", "adapter/prompt.safetensors"] {
        assert!(
            std::fs::read(scene.path("out").join(name)).unwrap()
                == std::fs::read(scene.path("whole").join(name)).unwrap()
        );
    }
    let left: Vec<_> = scene.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn standard_output() {
    let scene = Scene::new().trained();
    for arguments in [
        &["eval", "out/adapter", "--data", "test.jsonl", "--json"][..],
        &["predict", "out/adapter", "--input", "test.jsonl"],
        &["predict", "out/adapter", "--field", "premise=a", "--field", "hypothesis=b", "--json"],
        &["train", "run.toml", "--out", "other", "--json"],
    ] {
        let (status, err) = into_full(&scene, arguments);
        assert_eq!(status, Some(1), "{err}");
        assert!(err.contains("ptune: cannot write to standard output: No space left on device"), "{err}");
    }
    // The run itself is saved all the same.
    scene.run(&["eval", "other/adapter", "--data", "test.jsonl"]).done();
}
