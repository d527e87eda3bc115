//! `ptune adapter bundle`: adapters in one file, asked by `BUNDLE#NAME`, verified against what they answered.

use std::fs;

use crate::scene::Scene;

fn bundled() -> Scene {
    let scene = Scene::new().trained();
    let add = ["adapter", "bundle", "add", "tasks.ptune", "out/adapter"];
    scene.run(&add).done();
    scene.run(&[&add[..], &["--name", "감성", "--data", "dev.jsonl"]].concat()).done();
    scene
}

#[test]
fn adapters_of_a_bundle_answer_as_their_directories() {
    let scene = bundled();
    let listed = scene.run(&["adapter", "bundle", "list", "tasks.ptune", "--json"]).object();
    let adapters = listed["adapters"].as_array().unwrap();
    let names: Vec<&str> = adapters.iter().map(|adapter| adapter["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["out", "감성"]);
    assert_eq!(adapters[0]["sha256"], adapters[1]["sha256"]);
    assert_eq!((adapters[0]["golden_rows"].as_u64(), adapters[1]["golden_rows"].as_u64()), (Some(3), Some(3)));
    for arguments in [
        &["eval", "ADAPTER", "--data", "dev.jsonl"][..],
        &["predict", "ADAPTER", "--json", "--field", "premise=Soup", "--field", "hypothesis=Tea"],
    ] {
        let with = |adapter| arguments.iter().map(move |word| if *word == "ADAPTER" { adapter } else { *word });
        let run = |adapter| scene.run(&with(adapter).collect::<Vec<_>>()).done();
        let answer = |text: String| text.lines().last().unwrap().to_owned();
        assert_eq!(answer(run("tasks.ptune#감성")), answer(run("out/adapter")));
    }
    scene.refused(&["eval", "tasks.ptune#nobody", "--data", "dev.jsonl"], &["has no adapter 'nobody'", "'out'"]);
    scene.run(&["adapter", "bundle", "extract", "tasks.ptune", "out", "--out", "again"]).done();
    let file = |directory: &str| fs::read(scene.path(directory).join("prompt.safetensors")).unwrap();
    assert_eq!(file("again"), file("out/adapter"));
    scene.run(&["adapter", "bundle", "remove", "tasks.ptune", "out"]).done();
    let verified = scene.run(&["adapter", "bundle", "verify", "tasks.ptune", "--json"]).object();
    assert_eq!(verified["adapters"].as_array().unwrap().len(), 1);
    let difference = verified["adapters"][0]["difference"].as_f64();
    assert_eq!(difference, Some(0.0), "the same processor gives the same bits");
}

#[test]
fn verify_tells_damage_and_a_changed_model_by_the_adapters_name() {
    let scene = bundled();
    // The last byte is one of 감성; the model's MLP is no part of the fingerprint, but of every answer.
    let whole = fs::read(scene.path("tasks.ptune")).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    scene.write("tasks.ptune", &bytes);
    let said = scene.run(&["adapter", "bundle", "verify", "tasks.ptune", "--hashes"]);
    assert_eq!((said.status, said.out.lines().count()), (Some(2), 2), "{}", said.err);
    assert!(said.out.contains("out: whole") && said.out.contains("adapter '감성' is damaged"), "{}", said.out);
    scene.refused(&["eval", "tasks.ptune#감성", "--data", "dev.jsonl"], &["adapter '감성' is damaged"]);

    scene.write("tasks.ptune", &whole);
    scene.first_value("bert.encoder.layer.0.intermediate.dense.weight", 1e5);
    let said = scene.run(&["adapter", "bundle", "verify", "tasks.ptune"]);
    assert_eq!(said.status, Some(2), "{}{}", said.out, said.err);
    assert!(
        said.out.contains("out: its files are whole") && said.out.contains("was the model changed?"),
        "{}",
        said.out
    );
    let said = scene.run(&["adapter", "bundle", "verify", "tasks.ptune", "--hashes"]);
    assert_eq!(said.status, Some(0), "{}", said.out);
}

/// Masked and causal, labels and texts, and a model that was trained along: each over its own base.
#[test]
fn a_bundle_holds_adapters_of_several_bases_and_texts_have_golden_rows_too() {
    let (scene, other) = (bundled(), Scene::text().trained());
    let texts = other.path("out/adapter");
    let add = |adapter: &str, name: &str| {
        scene.run(&["adapter", "bundle", "add", "tasks.ptune", adapter, "--name", name]).done();
    };
    // Between the names of the other base.
    add(texts.to_str().unwrap(), "p");
    scene.run(&["train", "run.toml", "--out", "full", "--set", "backbone.mode=full"]).done();
    add("full/adapter", "a");
    let verified = scene.run(&["adapter", "bundle", "verify", "tasks.ptune", "--json"]).object();
    let adapters = verified["adapters"].as_array().unwrap();
    let names: Vec<&str> = adapters.iter().map(|adapter| adapter["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "out", "p", "감성"]);
    for adapter in adapters {
        assert_eq!((&adapter["golden_rows"], &adapter["difference"]), (&3.into(), &0.0.into()), "{adapter}");
    }
    let field = ["--field", "premise=Soup"];
    let of = |adapter: &str| scene.run(&[&["generate", adapter][..], &field].concat()).done();
    assert_eq!(of("tasks.ptune#p"), of(texts.to_str().unwrap()));
    assert!(scene.run(&["inspect", "tasks.ptune#p"]).done().contains("any text"));
    scene.run(&["adapter", "merge", "tasks.ptune#a", "--out", "merged"]).done();
    scene
        .refused(&["predict", "tasks.ptune", "--field", "premise=a"], &["is a bundle of 4 adapters", "tasks.ptune#a "]);
    // The text's model changes behind its fingerprint: only its adapter says so.
    other.first_value("transformer.h.0.mlp.c_fc.weight", 1e5);
    let said = scene.run(&["adapter", "bundle", "verify", "tasks.ptune"]);
    let wrong: Vec<&str> = said.out.lines().filter(|line| !line.contains("whole;")).collect();
    assert!(wrong.len() == 1 && wrong[0].starts_with("p: its files are whole, but"), "{}", said.out);
}

/// A process that dies while it writes (its file may not grow further, and that signal ends it) leaves the bundle as it was.
#[cfg(unix)]
#[test]
fn who_is_killed_while_adding_or_removing_leaves_the_old_bundle() {
    let scene = bundled();
    let whole = fs::read(scene.path("tasks.ptune")).unwrap();
    for change in ["add tasks.ptune out/adapter --name third", "remove tasks.ptune out"] {
        // In blocks of 512 bytes or 1 KB: less than either bundle.
        let binary = env!("CARGO_BIN_EXE_ptune");
        let script = format!("ulimit -f 2; '{binary}' adapter bundle {change}; test $? -gt 128");
        let mut shell = assert_cmd::Command::new("sh");
        let said = scene.said(shell.arg("-c").arg(script).current_dir(scene.path("")));
        assert_eq!(said.status, Some(0), "it was not killed: {}{}", said.out, said.err);
        assert!(fs::read(scene.path("tasks.ptune")).unwrap() == whole);
    }
    let temporaries = || scene.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".tmp")).count();
    assert!(temporaries() > 0, "it was killed before it wrote");
    scene.run(&["adapter", "bundle", "remove", "tasks.ptune", "out"]).done();
    assert_eq!(temporaries(), 0, "the next one takes away what was left");
}

#[test]
fn processes_that_add_at_once_lose_nothing() {
    let scene = bundled();
    let names: Vec<String> = (0..6).map(|i| format!("n{i}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let scene = &scene;
            scope.spawn(move || {
                scene.run(&["adapter", "bundle", "add", "tasks.ptune", "out/adapter", "--name", name]).done()
            });
        }
    });
    let listed = scene.run(&["adapter", "bundle", "list", "tasks.ptune", "--json"]).object();
    assert_eq!(listed["adapters"].as_array().unwrap().len(), 8);
    assert_eq!(listed["adapters"][0]["base"], "model");
}
