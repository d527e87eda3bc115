//! Models by their name in the Hugging Face cache: trained on, pinned to a commit, found again after the cache moved.

#![cfg(unix)] // the files of a snapshot are links

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use assert_cmd::Command;

use crate::scene::{Said, Scene};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "klue/roberta-base";

/// The scene with its model moved into a cache, as the hub's Python library lays it out.
fn cached(cache: &str) -> Scene {
    let scene = Scene::new();
    let model = scene.path(cache).join("models--klue--roberta-base");
    let snapshot = model.join("snapshots").join(COMMIT);
    for directory in ["blobs", "refs"] {
        fs::create_dir_all(model.join(directory)).unwrap();
    }
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    for (number, entry) in fs::read_dir(scene.path("model")).unwrap().enumerate() {
        let file = entry.unwrap().path();
        let blob = format!("{number:040x}");
        fs::rename(&file, model.join("blobs").join(&blob)).unwrap();
        symlink(Path::new("../../blobs").join(blob), snapshot.join(file.file_name().unwrap())).unwrap();
    }
    fs::remove_dir(scene.path("model")).unwrap();
    scene.edit("run.toml", "\"model\"", &format!("{NAME:?}"));
    scene
}

/// The command with one variable of the cache, and none of the others.
fn command(scene: &Scene, variable: &str, place: &str) -> Command {
    let mut command = scene.ptune();
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command.env("HOME", scene.path("nobody")).env(variable, scene.path(place));
    command
}

fn run(scene: &Scene, (variable, place): (&str, &str), arguments: &[&str]) -> Said {
    scene.said(command(scene, variable, place).args(arguments))
}

#[test]
fn a_name_is_found_in_the_cache_and_pinned_to_its_commit() {
    let scene = cached("hf/hub");
    run(&scene, ("HF_HOME", "hf"), &["train", "run.toml", "--out", "out"]).done();
    assert!(scene.read("out/run.toml").contains(&format!("model = \"{NAME}@{COMMIT}\"")));
    let eval = ["eval", "out/adapter", "--data", "test.jsonl", "--json"];
    let before = run(&scene, ("HOME", "nobody"), &eval).object();

    // The cache moves and `main` goes on; the adapter finds its model by name and commit, and gives the same numbers.
    fs::rename(scene.path("hf"), scene.path("moved")).unwrap();
    scene.write("moved/hub/models--klue--roberta-base/refs/main", "f".repeat(40));
    let after = run(&scene, ("HF_HUB_CACHE", "moved/hub"), &eval).object();
    assert_eq!(before["metrics"], after["metrics"]);
    let said = run(&scene, ("HF_HUB_CACHE", "nobody"), &eval);
    assert_eq!(said.status, Some(2));
    assert!(said.err.contains("its model 'klue/roberta-base@01234567"), "{}", said.err);
    let name = format!("{NAME}@{COMMIT}");
    let named = [&eval[..], &["--model", &name]].concat();
    run(&scene, ("HF_HUB_CACHE", "moved/hub"), &named).done();

    // The resolved run file names the commit, so it repeats the run.
    run(&scene, ("HF_HUB_CACHE", "moved/hub"), &["train", "out/run.toml", "--out", "again"]).done();
    assert_eq!(scene.read("out/metrics.jsonl"), scene.read("again/metrics.jsonl"));
    // A run that tunes the model opens it a second time, for the kept weights.
    let tuned = ["train", "out/run.toml", "--out", "tuned", "--set", "backbone.mode=full", "--set", "compute=f32"];
    run(&scene, ("HF_HUB_CACHE", "moved/hub"), &tuned).done();
}

#[test]
fn a_name_that_is_nowhere_says_where_was_looked_and_how_to_get_it() {
    let scene = cached("hub");
    scene.edit("run.toml", NAME, "klue/bert-base");
    let said = run(&scene, ("HUGGINGFACE_HUB_CACHE", "hub"), &["train", "run.toml", "--out", "out"]);
    assert_eq!(said.status, Some(2));
    let (here, cache) = (scene.path("klue/bert-base"), scene.path("hub"));
    for words in [here.to_str().unwrap(), "no such directory", cache.to_str().unwrap(), "hf download klue/bert-base"] {
        assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err);
    }
    assert!(!scene.path("out").exists());
}
