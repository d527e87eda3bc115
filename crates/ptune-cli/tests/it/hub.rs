//! Models by name are downloaded from a hub, which a thread of the test plays (`hub/play.rs`).

#![cfg(unix)] // the files of a snapshot are links

mod play;

use std::fs;

use serde_json::{Value, json};

use self::play::{COMMIT, NAME, Play, hash_of};
use crate::scene::Scene;

#[test]
fn a_model_is_downloaded_once_and_only_what_is_needed() {
    let play = Play::new(Scene::new());
    play.train("out").done();
    let seen = play.seen();
    assert!(seen.iter().any(|line| line.starts_with(&format!("GET /{NAME}/resolve/{COMMIT}/config.json"))), "{seen:?}");
    for unwanted in ["README.md", "pytorch_model.bin", "onnx"] {
        assert!(!seen.iter().any(|line| line.contains(unwanted)), "{unwanted} was asked for");
    }
    assert_eq!(fs::read_to_string(play.cached("refs/main")).unwrap(), COMMIT);
    let weights = play.cached(&format!("snapshots/{COMMIT}/model.safetensors"));
    let (link, bytes) = (fs::read_link(&weights).unwrap(), fs::read(&weights).unwrap());
    assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", hash_of("model.safetensors", &bytes)));
    assert!(bytes == play.hub.lock().unwrap().files["model.safetensors"]);
    // It is there now: nobody is asked, and the run is the same.
    play.train("again").done();
    assert!(play.seen().is_empty());
    assert_eq!(play.scene.read("out/metrics.jsonl"), play.scene.read("again/metrics.jsonl"));
    // An adapter's model that has gone comes back, at its commit.
    fs::remove_dir_all(play.scene.path("hf")).unwrap();
    play.run(&["eval", "out/adapter", "--data", "dev.jsonl"]).done();
    assert!(play.seen()[0].starts_with(&format!("GET /api/models/{NAME}/revision/{COMMIT}")));
    // A file that is lost is replaced, the others stay.
    fs::remove_file(&weights).unwrap();
    play.run(&["eval", "out/adapter", "--data", "dev.jsonl", "--model", NAME]).done();
    assert!(!play.seen().iter().any(|line| line.starts_with("GET /klue")));
}

#[test]
fn shards_come_with_their_index() {
    let play = Play::new(Scene::new());
    play.set(|hub| {
        let weights = hub.files.remove("model.safetensors").unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
        let tensors = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
        let map: serde_json::Map<String, Value> =
            tensors.map(|name| (name.clone(), json!("one.safetensors"))).collect();
        let index = json!({"weight_map": map}).to_string();
        hub.files.insert("one.safetensors".into(), weights);
        hub.files.insert("model.safetensors.index.json".into(), index.into_bytes());
    });
    play.train("out").done();
}

#[test]
fn a_download_goes_on_where_the_line_broke() {
    let play = Play::new(Scene::new());
    let size = play.hub.lock().unwrap().files["model.safetensors"].len();
    play.set(|hub| hub.cut = Some(size / 3 + 1));
    play.train("out").done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 3 && parts[1].contains(&format!("bytes={}-", size / 3 + 1)), "{parts:?}");
    // What an earlier process left is not fetched again.
    let weights = play.hub.lock().unwrap().files["model.safetensors"].clone();
    let blob = play.cached("blobs").join(hash_of("model.safetensors", &weights));
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_extension("incomplete"), &weights[..size - 5]).unwrap();
    play.set(|hub| hub.cut = None);
    play.train("again").done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 1 && parts[0].contains(&format!("bytes={}-", size - 5)), "{parts:?}");
}

#[test]
fn a_dead_line_ends_the_work_and_leaves_no_model() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.cut = Some(0));
    let said = play.train("out");
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("broke again and again"), "{}", said.err);
    assert!(!play.cached("refs").exists() && !play.cached("snapshots").exists() && !play.scene.path("out").exists());
    play.set(|hub| hub.cut = None);
    play.train("out").done();
}

#[test]
fn bytes_of_another_hash_are_thrown_away() {
    for (name, damaged) in [("model.safetensors", "model.safetensors"), ("config.json", "config.json")] {
        let play = Play::new(Scene::new());
        play.set(|hub| hub.damaged = Some(damaged));
        let said = play.train("out");
        assert_eq!(said.status, Some(1), "{}", said.err);
        assert!(said.err.contains(name) && said.err.contains("does not have the hash"), "{}", said.err);
        assert!(!play.cached("refs").exists() && !play.scene.path("out").exists());
        let left = fs::read_dir(play.cached("blobs")).unwrap().flatten();
        assert!(!left.into_iter().any(|entry| entry.path().extension().is_some()), "an .incomplete file is left");
        play.set(|hub| hub.damaged = None);
        play.train("out").done();
    }
}

#[test]
fn what_the_hub_refuses_is_told_and_nothing_is_written() {
    let play = Play::new(Scene::new());
    let refused = |arguments: &[&str], variables: &[(&str, &str)], says: &[&str]| {
        let said = play.run_with(arguments, variables);
        assert_eq!(said.status, Some(2), "{}", said.err);
        says.iter().for_each(|words| assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err));
        assert!(!play.scene.path("hf").exists() && !play.scene.path("out").exists());
    };
    let train = ["train", "run.toml", "--out", "out"];
    let other = |model: &'static str| [&train[..], &["--set", model]].concat();
    refused(&other("model=klue/no-such"), &[], &["no such directory", "no such model either", "HF_TOKEN"]);
    refused(&other("model=klue/tiny@v2"), &[], &["not that revision"]);
    refused(&train, &[("HF_ENDPOINT", "http://127.0.0.1:9")], &["no such directory", "nor can the hub be asked"]);
    play.seen();
    refused(&train, &[("HF_HUB_OFFLINE", "1")], &["no such directory", "HF_HUB_OFFLINE"]);
    assert!(play.seen().is_empty());
    play.set(|hub| hub.files.remove("model.safetensors").map_or((), drop));
    refused(&train, &[], &["pickled weights can run code"]);
}

#[test]
fn a_gated_model_wants_a_token_which_goes_to_no_other_host() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.token = Some("secret"));
    let train = ["train", "run.toml", "--out", "out"];
    let (none, wrong): (&[(&str, &str)], _) = (&[], [("HF_TOKEN", "wrong")]);
    for (variables, says) in [(none, "log in with 'hf auth login'"), (&wrong, "the token of HF_TOKEN does not open it")]
    {
        let said = play.run_with(&train, variables);
        assert_eq!(said.status, Some(2));
        assert!(said.err.contains("gated") && said.err.contains(says), "{}", said.err);
        assert!(!said.err.contains("wrong "), "a token is shown: {}", said.err);
    }
    play.run_with(&train, &[("HF_TOKEN", "secret")]).done();
    let seen = play.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|line| line.contains("/cdn/")).collect();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|line| line.ends_with(" -")), "{elsewhere:?}");
}

#[test]
fn a_silent_line_is_left_and_the_download_goes_on() {
    let play = Play::new(Scene::new());
    let size = play.hub.lock().unwrap().files["model.safetensors"].len();
    let soon = [("HF_HUB_DOWNLOAD_TIMEOUT", "1")];
    play.set(|hub| hub.stall = Some(size / 2 + 1));
    play.run_with(&["train", "run.toml", "--out", "out"], &soon).done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 2 && parts[1].contains(&format!("bytes={}-", size / 2 + 1)), "{parts:?}");
    fs::remove_dir_all(play.scene.path("hf")).unwrap();
    play.set(|hub| hub.stall = Some(0));
    let said = play.run_with(&["train", "run.toml", "--out", "again"], &soon);
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("nothing came for 1 s") && said.err.contains("0.0 of 0.0 MB there"), "{}", said.err);
}

#[test]
fn a_busy_hub_and_an_address_that_has_run_out_are_asked_again() {
    let play = Play::new(Scene::new());
    play.set(|hub| (hub.busy, hub.forbidden) = (2, 1));
    play.train("out").done();
    let play = Play::new(Scene::new());
    play.set(|hub| hub.busy = 100);
    let said = play.train("out");
    assert_eq!(said.status, Some(2));
    assert!(said.err.contains("too many requests") && said.err.contains("hf auth login"), "{}", said.err);
}

#[test]
fn a_mirror_is_followed_without_the_token() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.mirror = true);
    play.run_with(&["train", "run.toml", "--out", "out"], &[("HF_TOKEN", "secret")]).done();
    // Each request comes twice: to the mirror with the token, then to the other host without.
    let seen = play.seen();
    let with = seen.iter().filter(|line| line.ends_with("bearer secret")).count();
    assert!(with > 3 && seen.len() >= 2 * with, "{seen:?}");
}

#[test]
fn the_token_comes_from_its_file_too() {
    let play = Play::new(Scene::new());
    play.set(|hub| hub.token = Some("secret"));
    fs::create_dir_all(play.scene.path("hf")).unwrap();
    let train = ["train", "run.toml", "--out", "out"];
    let refused = |variables: &[(&str, &str)], says: &[&str]| {
        let said = play.run_with(&train, variables);
        assert_eq!(said.status, Some(2), "{}", said.err);
        says.iter().for_each(|words| assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err));
        assert!(!said.err.contains("secret"), "a token is shown: {}", said.err);
    };
    play.scene.write("hf/token", "expired\n");
    refused(&[], &["does not accept the token of", "hf/token", "Invalid credentials", "needs none"]);
    play.scene.write("hf/token", "secret secret");
    refused(&[], &["hf/token holds more than a token"]);
    play.scene.write("elsewhere", "secret\n");
    refused(&[("HF_TOKEN_PATH", "elsewhere"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], &["gated", "hf auth login"]);
    play.run_with(&train, &[("HF_TOKEN_PATH", "elsewhere")]).done();
    // The variable goes before the file.
    fs::remove_dir_all(play.scene.path("hf/hub")).unwrap();
    play.scene.write("hf/token", "expired");
    play.run_with(&["train", "run.toml", "--out", "again"], &[("HF_TOKEN", "secret")]).done();
}

#[test]
fn what_is_wrong_with_the_run_is_found_before_the_download() {
    let play = Play::new(Scene::new());
    let refused = |says: &str| {
        let said = play.train("out");
        assert_eq!(said.status, Some(2), "{}", said.err);
        assert!(said.err.contains(says), "'{says}' is not in:\n{}", said.err);
        assert!(play.seen().is_empty(), "the hub was asked");
    };
    let rows = play.scene.read("dev.jsonl");
    play.scene
        .write("dev.jsonl", format!("{rows}{{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": \"perhaps\"}}\n"));
    refused("the label 'perhaps' is missing");
    play.scene.write("dev.jsonl", rows.replace("hypothesis", "hypothesys"));
    refused("has no field 'hypothesis'");
    play.scene.remove("dev.jsonl");
    refused("dev.jsonl");
    play.scene.write("dev.jsonl", &rows);
    fs::create_dir_all(play.scene.path("out/adapter")).unwrap();
    refused("holds a run already");
}

#[test]
fn every_command_takes_a_name() {
    let play = Play::new(Scene::new());
    play.scene.write("prompts.txt", "{premise} ? [MASK] , {hypothesis}\n{hypothesis} [MASK] {premise}\n");
    let commands = [
        "train run.toml --out out",
        "bench run.toml --epochs 1",
        "search run.toml --prompts prompts.txt --out found",
        "sensitivity run.toml --prompts prompts.txt --out sensed",
        "inspect klue/tiny",
        "eval out/adapter --data dev.jsonl",
        "predict out/adapter --input dev.jsonl",
        "eval out/adapter --data dev.jsonl --model klue/tiny",
        "adapter bundle add tasks.ptune out/adapter --name one",
        "eval tasks.ptune#one --data dev.jsonl",
    ];
    for command in commands {
        let _ = fs::remove_dir_all(play.scene.path("hf"));
        play.run(&command.split(' ').collect::<Vec<_>>()).done();
        assert!(play.seen().iter().any(|line| line.contains("/cdn/model.safetensors")), "{command}");
    }
}

#[test]
fn processes_at_once_download_each_file_once() {
    let play = Play::new(Scene::new());
    let runs = ["a", "b", "c"];
    std::thread::scope(|scope| runs.map(|out| scope.spawn(|| play.train(out).done())).map(|run| run.join().unwrap()));
    let seen = play.seen();
    let of = |name: &str| seen.iter().filter(|line| line.starts_with("GET") && line.contains(name)).count();
    assert_eq!([of("/cdn/model.safetensors"), of("/config.json")], [1, 1], "{seen:?}");
}

#[test]
fn another_process_at_work_is_waited_for() {
    let play = Play::new(Scene::new());
    let weights = play.hub.lock().unwrap().files["model.safetensors"].clone();
    let hash = hash_of("model.safetensors", &weights);
    // The lock and the place of the bytes are those of the hub's Python library.
    let locks = play.scene.path("hf/hub/.locks/models--klue--tiny");
    fs::create_dir_all(&locks).unwrap();
    fs::create_dir_all(play.cached("blobs")).unwrap();
    let lock = fs::File::create(locks.join(format!("{hash}.lock"))).unwrap();
    lock.lock().unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| play.train("out"));
        while !play.seen().iter().any(|line| line.contains("GET /klue/tiny/resolve")) {
            assert!(!run.is_finished(), "it did not wait");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        fs::write(play.cached("blobs").join(&hash), &weights).unwrap();
        lock.unlock().unwrap();
        run.join().unwrap().done();
    });
    assert!(!play.seen().iter().any(|line| line.contains("/cdn/")));
}

#[test]
fn a_full_disk_is_told_and_the_rest_comes_later() {
    let play = Play::new(Scene::new());
    let size = play.hub.lock().unwrap().files["model.safetensors"].len();
    // In blocks of 512 bytes or 1 KB: less than the weights either way.
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec '{}' train run.toml --out out",
        size / 2048,
        env!("CARGO_BIN_EXE_ptune")
    );
    let mut shell = assert_cmd::Command::new("sh");
    shell.arg("-c").arg(script).current_dir(play.scene.path(""));
    let said = play.scene.said(play.at_home(&mut shell));
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("cannot write") && said.err.contains(".incomplete"), "{}", said.err);
    assert!(!play.cached("snapshots").exists());
    play.seen();
    play.train("out").done();
    let parts: Vec<String> = play.seen().into_iter().filter(|line| line.contains("GET /cdn/")).collect();
    assert!(parts.len() == 1 && parts[0].contains("bytes="), "{parts:?}");
}
