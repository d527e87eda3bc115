//! The same run gives the same bytes, again and with any number of threads.

use crate::scene::Scene;

#[test]
fn twice_and_with_one_to_three_threads() {
    for scene in [Scene::new(), Scene::probing()] {
        let run = |out: &str, threads: &str| {
            scene.run(&["train", "run.toml", "--out", out, "--threads", threads]).done();
            scene.written(out)
        };
        let first = run("one", "1");
        assert!(first.keys().any(|name| name.ends_with("prompt.safetensors")), "{:?}", first.keys());
        for (out, threads) in [("again", "1"), ("two", "2"), ("three", "3")] {
            assert!(run(out, threads) == first, "{threads} threads gave other bytes");
        }
    }
}

/// The threads of the process show that the key counts: results cannot.
#[test]
#[cfg(target_os = "linux")]
fn the_run_file_may_set_the_threads() {
    let scene = Scene::new();
    scene.edit("run.toml", "seed = 3", "seed = 3\nthreads = 3");
    // A pipe that nobody writes to holds the run while it reads its data.
    scene.remove("train.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(scene.path("train.jsonl")).status().unwrap().success());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ptune"));
    let mut child = command.args(["train", "run.toml", "--out", "out"]).current_dir(scene.path("")).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let three = || std::fs::read_to_string(&status).unwrap().contains("Threads:\t3\n");
    let found = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        three()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found, "threads = 3 was not heeded");
}

#[test]
fn the_resolved_run_file_repeats_the_run() {
    let scene = Scene::new();
    scene.edit("run.toml", "seed = 3", "seed = 3\nthreads = 2");
    scene.run(&["train", "run.toml", "--out", "first"]).done();
    scene.run(&["train", "first/run.toml", "--out", "second"]).done();
    assert!(scene.written("first") == scene.written("second"));
}

#[test]
fn another_seed_gives_another_prompt() {
    // Without this, a run that ignores its seed would pass the tests above.
    let scene = Scene::new().trained();
    scene.run(&["train", "run.toml", "--out", "other", "--set", "seed=4"]).done();
    let prompt = |out: &str| std::fs::read(scene.path(out).join("adapter/prompt.safetensors")).unwrap();
    assert_ne!(prompt("out"), prompt("other"));
}
