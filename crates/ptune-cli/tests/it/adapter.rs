//! `ptune adapter`: out to PEFT's files and back, by the commands that people type.

use crate::scene::Scene;

/// A GPT-2 with its pseudo tokens before the text.
fn trained() -> Scene {
    let scene = Scene::gpt2();
    scene.template("[P*3] {premise|shorten} {hypothesis|shorten} ? [MASK]");
    scene.trained()
}

#[test]
fn an_adapter_goes_to_peft_and_comes_back_with_the_same_answers() {
    let scene = trained();
    let export = ["adapter", "export", "out/adapter", "--format", "peft", "--out", "peft", "--json"];
    let said = scene.run(&export).object();
    assert_eq!((said["method"].as_str(), said["virtual_tokens"].as_u64()), (Some("P_TUNING"), Some(3)));
    assert!(scene.run(&export).err.contains("is there already and not empty"));
    scene.run(&["adapter", "import", "peft", "--out", "again"]).done();
    let eval =
        |adapter: &str| scene.run(&["eval", adapter, "--data", "dev.jsonl", "--json"]).object()["metrics"].clone();
    assert_eq!(eval("again"), eval("out/adapter"));

    // What PEFT alone wrote has no task: it comes from the arguments, or from the run file.
    scene.remove("peft/ptune.json");
    scene.refused(&["adapter", "import", "peft", "--out", "theirs", "--model", "model"], &["--template"]);
    let template = "[P*3] {premise|shorten} {hypothesis|shorten} ? [MASK]";
    let labels = ["--label", "entailment=yes", "--label", "not_entailment=no"];
    let import = ["adapter", "import", "peft", "--model", "model", "--template", template, "--out", "theirs"];
    scene.run(&[&import[..], &labels].concat()).done();
    assert_eq!(eval("theirs"), eval("out/adapter"));
    scene.run(&["adapter", "import", "peft", "--run", "run.toml", "--out", "by-run"]).done();
    assert_eq!(eval("by-run"), eval("out/adapter"));
}

#[test]
fn what_has_no_peft_form_is_refused_and_nothing_is_written() {
    let export = ["adapter", "export", "out/adapter", "--format", "peft", "--out", "peft"];
    Scene::gpt2().trained().refused(&export, &["PEFT puts all virtual tokens before the text", "^"]);
    Scene::new().trained().refused(&export, &["no task type for a masked model (bert)"]);
}
