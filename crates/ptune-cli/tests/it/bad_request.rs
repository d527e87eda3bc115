//! Bad run files, templates, verbalizers and data: each refused with a sentence, before anything is written.

use crate::scene::Scene;

/// A test for each kind: change a good scene, train, and expect the words.
macro_rules! train_refuses {
    ($($name:ident($scene:expr): $change:expr => $says:expr;)*) => {$(
        #[test]
        fn $name() {
            let scene = $scene;
            let change: fn(&Scene) = $change;
            change(&scene);
            scene.refused(&["train", "run.toml", "--out", "out", "--json"], &$says);
        }
    )*};
}

train_refuses! {
    // The run file.
    unknown_key(Scene::new()): |s| s.edit("run.toml", "batch_size", "bath_size")
        => ["run.toml:", "unknown key 'train.bath_size'", "did you mean 'train.batch_size'?"];
    key_of_a_later_release(Scene::new()): |s| s.edit("run.toml", "seed = 3", "backbone.lora_dropout = 0.1")
        => ["run.toml:2: backbone.lora_dropout: dropout of what LoRA reads comes with a later release; remove the key"];
    target_that_the_model_does_not_have(Scene::new()): |s| s.edit("run.toml", "seed = 3", "backbone = { mode = \"lora\", lora_targets = [\"gate\"] }")
        => ["run.toml: backbone.lora_targets: this model (bert) has no 'gate' in its blocks"];
    steps_and_epochs(Scene::new()): |s| s.edit("run.toml", "steps = 4", "steps = 4\nepochs = 1")
        => ["run.toml: train.steps: and train.epochs are both there; keep one of them"];
    neither_steps_nor_epochs(Scene::new()): |s| s.edit("run.toml", "steps = 4", "") => ["train.steps: is missing"];
    patience_without_dev(Scene::new()): |s| { s.edit("run.toml", "dev = \"dev.jsonl\"", ""); s.edit("run.toml", "steps = 4", "steps = 4\npatience = 1"); }
        => ["train.patience: stops on the dev examples; give data.dev or remove the key"];
    vocabulary_beside_a_verbalizer(Scene::new()): |s| s.edit("run.toml", "[task]", "[task]\nvocabulary = 'train.jsonl'")
        => ["task.vocabulary: is for probing, where there is no verbalizer"];
    metric_of_the_other_kind(Scene::new()): |s| s.edit("run.toml", "steps = 4", "steps = 4\nselect = \"mrr\"")
        => ["train.select", "accuracy, macro_f1"];
    value_of_the_wrong_type(Scene::new()): |s| s.edit("run.toml", "steps = 4", "steps = \"four\"")
        => ["run.toml:18: train.steps: ", "expected a whole number"];
    rate_that_is_no_number(Scene::new()): |s| s.edit("run.toml", "steps = 4", "steps = 4\nlearning_rate = nan")
        => ["train.learning_rate: NaN: must be above 0"];
    absurd_number(Scene::new()): |s| s.edit("run.toml", "steps = 4", "steps = 4000000000")
        => ["train.steps: 4000000000: must be from 1 to 1000000000"];
    run_file_that_is_no_toml(Scene::new()): |s| s.edit("run.toml", "seed = 3", "seed 3") => ["run.toml:2: not valid TOML"];
    run_file_nested_without_end(Scene::new()): |s| s.write("run.toml", format!("a = {}", "[".repeat(100_000)))
        => ["run.toml:1: not valid TOML"];
    empty_run_file(Scene::new()): |s| s.write("run.toml", "") => ["run.toml: model: is missing"];
    max_tokens_beyond_the_positions(Scene::new()): |s| s.edit("run.toml", "max_tokens = 40", "max_tokens = 49")
        => ["run.toml: data.max_tokens: 49 is more than the 48 positions of this model"];

    // The template; the caret stands under the offending character.
    unknown_field(Scene::new()): |s| s.template("{premiss} [MASK]")
        => ["no field 'premiss'", "'premise', 'hypothesis' and 'label'", "  {premiss} [MASK]\n  ^\n"];
    unclosed_bracket(Scene::new()): |s| s.template("{premise} [P*2 [MASK]")
        => ["this '[' is not closed", "  {premise} [P*2 [MASK]\n            ^\n"];
    absurd_count(Scene::new()): |s| s.template("[P*1001] [MASK]")
        => ["the count should be 1 to 1000", "  [P*1001] [MASK]\n     ^\n"];
    no_mask(Scene::new()): |s| s.template("{premise} yes") => ["has no [MASK]", "  {premise} yes\n               ^\n"];
    caret_behind_wide_characters(Scene::new()): |s| s.template("수도 [MASK] [MASK]")
        => ["this is the second", "  수도 [MASK] [MASK]\n              ^\n"];
    caret_behind_a_line_end(Scene::new()): |s| s.edit("run.toml", "\"[P*2] {", "\"a\\n\\u001bb\\t[P*2 {")
        => ["this '[' is not closed", "  a  b [P*2 {premise", "\n       ^\n"];
    initial_words_of_another_count(Scene::new()): |s| s.template("[P*3 \"the capital\"] [MASK]")
        => ["should be [P*2], not 3", "\n  ^\n"];
    causal_tail_of_a_masked_model(Scene::new()): |s| s.edit("run.toml", "[task]", "[task]\ncausal_tail = \"drop\"")
        => ["task.causal_tail: \"drop\" is for causal models; this one (bert) sees what stands behind [MASK]"];

    // The verbalizer.
    label_word_of_unknown_parts(Scene::new()): |s| s.edit("run.toml", "[\"no\"]", "[\"slow 아니요\"]")
        => ["task.verbalizer.not_entailment: a part of the label word 'slow 아니요' is unknown"];
    label_words_of_the_same_tokens(Scene::new()): |s| s.edit("run.toml", "[\"no\"]", "[\"slowness\", \"Slowness\"]")
        => ["'Slowness' makes the same tokens as 'slowness' of the label 'not_entailment'"];
    label_word_that_is_unknown(Scene::new()): |s| s.edit("run.toml", "[\"no\"]", "[\"아니요\"]")
        => ["task.verbalizer.not_entailment: the label word '아니요' is unknown"];
    two_labels_with_one_word(Scene::new()): |s| s.edit("run.toml", "[\"no\"]", "[\"YES\"]")
        => ["'YES' is the same token as 'yes' of the label 'entailment'"];
    one_label(Scene::new()): |s| s.edit("run.toml", "not_entailment = [\"no\"]", "") => ["task.verbalizer: has one label"];
    label_missing_from_the_verbalizer(Scene::new()): |s| s.edit("test.jsonl", "not_entailment", "neutral")
        => ["test.jsonl:2: the label 'neutral' is missing from the verbalizer", "'entailment' and 'not_entailment'"];

    // Data.
    malformed_json(Scene::new()): |s| s.edit("train.jsonl", "\"He", "He") => ["train.jsonl:2: malformed JSON at character 13"];
    line_that_is_no_object(Scene::new()): |s| s.write("dev.jsonl", "[1]\n") => ["dev.jsonl:1: a line should be a JSON object"];
    line_that_is_no_utf8(Scene::new()): |s| s.write("dev.jsonl", b"\xff\n") => ["dev.jsonl:1: this is not UTF-8"];
    line_nested_without_end(Scene::new()): |s| s.write("dev.jsonl", "[".repeat(100_000)) => ["dev.jsonl:1: malformed JSON"];
    empty_file(Scene::new()): |s| s.write("dev.jsonl", "\n\n") => ["dev.jsonl: the file has no rows"];
    missing_file(Scene::new()): |s| s.remove("test.jsonl") => ["cannot read ", "test.jsonl: No such file"];
    directory_for_a_file(Scene::new()): |s| s.edit("run.toml", "test.jsonl", "model") => ["cannot read ", "model: Is a directory"];
    line_without_a_field(Scene::new()): |s| s.edit("dev.jsonl", "{\"premise\": \"Soup\", ", "{")
        => ["dev.jsonl:3: the field 'premise' is missing; the fields here are 'hypothesis' and 'label'"];
    line_without_the_target(Scene::new()): |s| s.edit("dev.jsonl", ", \"label\": \"not_entailment\"", "")
        => ["dev.jsonl:2: the field 'label' is missing"];
    field_that_has_no_text(Scene::new()): |s| s.edit("dev.jsonl", "\"Soup\"", "null")
        => ["dev.jsonl:3: the field 'premise' should be text, a number or true/false, not null"];
    row_that_cannot_be_shortened(Scene::new()): |s| s.edit("dev.jsonl", "Tea", &"tea ".repeat(60))
        => ["dev.jsonl:3: this row has ", "max_tokens is 40, and cutting its shorten fields away leaves ", "raise max_tokens"];
    row_in_which_nothing_may_be_cut(Scene::new()): |s| { s.template("{premise} [MASK]"); s.edit("dev.jsonl", "Soup", &"tea ".repeat(60)); }
        => ["dev.jsonl:3: ", "mark one with {field|shorten}"];

    // Probing.
    dev_without_rows_in_the_vocabulary(Scene::probing()): |s| s.write("dev.jsonl", "{\"subject\": \"a\", \"object\": \"great\"}\n")
        => ["dev.jsonl: none of its 1 rows has an answer in the vocabulary"];
    vocabulary_without_a_token(Scene::probing()): |s| s.write("words.json", "[\"two words\"]")
        => ["words.json: none of its 1 words is one token"];
    vocabulary_that_is_no_json(Scene::probing()): |s| s.write("words.json", "[paris") => ["words.json: this is not valid JSON"];
    missing_vocabulary(Scene::probing()): |s| s.remove("words.json") => ["cannot read ", "words.json: No such file"];
    vocabulary_key_that_is_not_there(Scene::probing()): |s| { s.write("words.json", "{\"a\": [\"paris\"], \"b\": []}"); s.edit("run.toml", "[task]", "[task]\nvocabulary_key = \"c\""); }
        => ["words.json: there is no list 'c'; its lists are 'a' and 'b'"];
    vocabulary_of_lists_without_a_key(Scene::probing()): |s| s.write("words.json", "{\"a\": [\"paris\"], \"b\": []}")
        => ["vocabulary_key should be one of 'a' and 'b'"];
    answer_of_several_tokens(Scene::probing()): |s| { s.edit("run.toml", "vocabulary = \"words.json\"", ""); s.edit("train.jsonl", "oslo", "osloed"); }
        => ["train.jsonl:3: the answer 'osloed' is not one token of this model (oslo, ##ed)"];
}

#[test]
fn overrides_are_checked_like_the_file() {
    let scene = Scene::new();
    for (set, says) in [
        (
            "train.bath_size=2",
            "--set train.bath_size=2: unknown key 'train.bath_size'; did you mean 'train.batch_size'?",
        ),
        ("train.steps=many", "--set train.steps=many: invalid type: string \"many\", expected a whole number"),
        ("train=1", "expected a table of keys"),
        ("steps", "write KEY=VALUE"),
        ("train.learning_rate=inf", "train.learning_rate: inf: must be above 0"),
        ("task.template={premise} [MASK", "this '[' is not closed"),
    ] {
        scene.refused(&["train", "run.toml", "--out", "out", "--set", set], &[says]);
    }
}

#[test]
fn a_run_is_never_written_over() {
    let scene = Scene::new().trained();
    scene.refused(
        &["train", "run.toml", "--out", "out"],
        &["out: holds a run already; go on with it with --resume, give another directory with --out"],
    );
    scene.refused(&["train", "run.toml", "--out", "run.toml"], &["run.toml: is a file; a run needs a directory"]);
    scene.refused(&["train", "run.toml", "--out", "run.toml/a/b"], &["run.toml: is a file; a run needs a directory"]);
}

#[test]
fn a_directory_that_cannot_be_named_in_toml_is_refused_before_anything_is_written() {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let scene = Scene::new();
        let odd = scene.path("").join(std::ffi::OsStr::from_bytes(b"\xff"));
        std::fs::create_dir(&odd).unwrap();
        std::fs::copy(scene.path("run.toml"), odd.join("run.toml")).unwrap();
        let before = scene.files();
        let said = scene.said(scene.ptune().arg("train").arg(odd.join("run.toml")).args(["--out", "out"]));
        assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{}", said.err);
        assert!(said.err.contains("invalid UTF-8"), "{}", said.err);
        assert!(scene.files() == before);
    }
}
