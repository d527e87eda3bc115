//! What the program tells about itself: help, versions, progress without a terminal.

use crate::scene::Scene;

#[test]
fn help_teaches_the_commands_by_example() {
    let scene = Scene::new();
    let help = scene.run(&["--help"]).done();
    for words in ["ptune train run.toml", "ptune eval", "ptune predict", "Exit status: 0 done", "[P*3] {text}"] {
        assert!(help.contains(words), "'{words}' is not in:\n{help}");
    }
    for command in ["train", "eval", "predict", "world"] {
        let help = scene.run(&[command, "--help"]).done();
        assert!(help.contains("Example") && help.contains(&format!("ptune {command}")), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
    }
}

/// The run file in the help of `train` is one that `train` takes.
#[test]
fn the_run_file_in_the_help_works() {
    let scene = Scene::new();
    let help = scene.run(&["train", "--help"]).done();
    let begin = help.find("  model = ").unwrap();
    let end = help.find("Examples:").unwrap();
    scene.write("run.toml", &help[begin..end]);
    scene.edit("run.toml", "models/bert-base-cased", "model");
    scene.edit("run.toml", "\"terrible\"", "\"poor\""); // a word that the tiny model has
    for name in ["train.jsonl", "dev.jsonl"] {
        scene.write(
            name,
            "{\"text\": \"a fine film\", \"label\": \"good\"}\n{\"text\": \"rain\", \"label\": \"bad\"}\n",
        );
    }
    let tiny = ["--set", "data.max_tokens=40", "--set", "train.steps=2"];
    scene.run(&[&["train", "run.toml", "--out", "out"][..], &tiny].concat()).done();
}

#[test]
fn without_a_command_help_comes_and_the_request_was_wrong() {
    let said = Scene::new().run(&[]);
    assert_eq!((said.status, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("Usage: ptune"), "{}", said.err);
    let version = Scene::new().run(&["--version"]).done();
    assert_eq!(version.trim(), concat!("ptune ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn progress_goes_to_standard_error_as_plain_lines() {
    let said = Scene::new().run(&["train", "run.toml", "--out", "out"]);
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", said.err);
    for (line, step) in lines.iter().zip(["step     0  dev  accuracy ", "step     2  ", "step     4  "]) {
        assert!(line.starts_with(step), "{line}");
    }
    assert!(said.out.contains("adapter: out/adapter ("), "{}", said.out);
}

#[test]
fn without_out_a_run_gets_a_name_of_its_own() {
    let scene = Scene::new();
    for out in ["runs/run", "runs/run-2"] {
        scene.run(&["train", "run.toml"]).done();
        assert!(scene.path(out).join("adapter/adapter.toml").exists());
    }
}

#[test]
fn a_rate_that_blows_up_ends_as_failed_work() {
    let scene = Scene::new();
    let blow = ["--set", "train.learning_rate=1000", "--set", "train.steps=300", "--set", "prompt.encoder=embedding"];
    let wild = ["--set", "train.weight_decay=1000", "--set", "train.optimizer=adamw"];
    let said = scene.run(&[&["train", "run.toml", "--out", "out"][..], &blow, &wild].concat());
    assert_eq!(said.status, Some(1), "{}", said.err);
    assert!(said.err.contains("try a smaller train.learning_rate"), "{}", said.err);
}
