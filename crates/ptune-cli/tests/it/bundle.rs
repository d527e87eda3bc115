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
