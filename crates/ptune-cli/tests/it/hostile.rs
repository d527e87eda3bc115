//! Hostile files: one folder of `crates/ptune/tests/hostile/files` for each threat, laid over a good scene, and one test
//! of its name. What cannot be a file of the repository (pipes, devices, links, gigabytes) is made here.
//!
//! Every one is refused: a sentence, status 2, nothing written, no panic, within a gigabyte of address space and twenty
//! seconds of processor time. Damaged files that no enemy is behind are in `bad_model.rs`, `bad_request.rs` and
//! `bad_adapter.rs`, the library's own threats beside its readers (`weights/tests.rs`, `adapter/tests.rs`).
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

use crate::scene::{Said, Scene};

const WEIGHTS: &str = "model/model.safetensors";
const CONFIG: &str = "model/config.json";

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ptune/tests/hostile/files")
}

/// A good scene under the files of a threat.
fn scene(threat: &str) -> Scene {
    let scene = Scene::new();
    let folder = files().join(threat);
    if folder.join("model/model.safetensors.index.json").exists() {
        scene.remove(WEIGHTS);
    }
    lay_over(&folder, &scene.path(""));
    scene
}

fn lay_over(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => lay_over(&path, &target),
            false => fs::write(target, fs::read(&path).unwrap()).unwrap(),
        }
    }
}

/// Runs the binary with a gigabyte of address space (in KB) and twenty seconds of processor time.
fn limited(scene: &Scene, arguments: &[&str]) -> Said {
    let mut shell = Command::new("sh");
    let script = "ulimit -v 1048576; ulimit -t 20; exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_ptune")]).args(arguments).args(["--threads", "2"]);
    shell.current_dir(scene.path("")).env("RUST_BACKTRACE", "0").timeout(std::time::Duration::from_secs(120));
    scene.said(&mut shell)
}

#[track_caller]
fn refused(scene: &Scene, arguments: &[&str], says: &[&str]) {
    let before = scene.files();
    let said = limited(scene, arguments);
    assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{}", said.err);
    for words in says {
        assert!(said.err.contains(words), "'{words}' is not in:\n{}", said.err);
    }
    assert!(said.err.len() < 8 << 10, "a refusal of {} bytes", said.err.len());
    let hidden =
        |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    assert!(!said.err.contains(hidden), "characters that act on a terminal: {:?}", said.err);
    assert!(scene.files() == before, "something was written");
}

const TRAIN: [&str; 4] = ["train", "run.toml", "--out", "out"];

macro_rules! threats {
    ($($threat:ident $arguments:expr => $says:expr;)*) => {
        $(#[test]
        fn $threat() {
            refused(&scene(stringify!($threat)), &$arguments, &$says);
        })*

        #[test]
        fn every_folder_of_hostile_files_has_its_test() {
            let folders: BTreeSet<String> = fs::read_dir(files())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let survived = ["tokenizer_whose_pattern_never_ends"].map(str::to_owned);
            assert_eq!(folders, survived.into_iter().chain([$(stringify!($threat).to_owned()),*]).collect());
        }
    };
}

const ADAPTER: [&str; 6] = ["eval", "adapter", "--data", "test.jsonl", "--model", "model"];

threats! {
    header_of_2_to_63_bytes TRAIN => ["model.safetensors: the header should be 9223372036854775808 bytes long but only 2 follow"];
    header_nested_10_000_deep TRAIN => ["model.safetensors: the safetensors header cannot be believed"];
    tensors_that_overlap TRAIN => ["model.safetensors: the safetensors header cannot be believed"];
    tensor_past_the_end TRAIN => ["model.safetensors: the header describes 4398046511104 bytes of tensors but 8 are there"];
    shape_that_overflows TRAIN => ["model.safetensors: the safetensors header cannot be believed"];
    dtype_that_lies TRAIN => ["model.safetensors: the safetensors header cannot be believed"];
    index_that_climbs_out TRAIN => ["weight_map.a: \"../../../etc/passwd\" is not the plain name of a .safetensors file"];
    index_with_an_absolute_path TRAIN => ["weight_map.a: \"/etc/hostile.safetensors\" is not the plain name"];
    index_that_names_a_pickle TRAIN => ["weight_map.a: \"pytorch_model.bin\" is not the plain name of a .safetensors file"];

    config_of_2_to_40_words TRAIN => ["config.json: vocab_size: 1099511627776 is not a whole number from 1 to 16777216"];
    config_of_the_largest_sizes TRAIN => ["has shape [2, 32]; the configuration makes it [2, 16777216]"];
    config_with_a_number_beyond_f64 TRAIN => ["config.json:23: not valid JSON: number out of range"];
    config_with_a_key_given_twice TRAIN => ["the configuration makes it [2, 16777216]"];

    tokenizer_whose_pattern_is_nested TRAIN => ["tokenizer.json: this is not a tokenizer", "too deeply nested"];
    tokenizer_whose_pattern_is_huge TRAIN => ["tokenizer.json: this is not a tokenizer"];
    tokenizer_that_multiplies_texts TRAIN => ["tokenizer.json: its normalisers could make more than 1073741824 bytes of a text of "];
    tokenizer_whose_charsmap_claims_gigabytes TRAIN => ["precompiled_charsmap: its table should have 4294967292 bytes but 8 follow"];
    tokenizer_with_a_piece_without_end TRAIN => ["a piece of its vocabulary is 20000 bytes long, and at most 1000 can be"];
    tokenizer_with_words_without_end TRAIN => ["max_input_chars_per_word is 1000000000000, and at most 256 can be"];
    tokenizer_with_the_largest_id TRAIN => ["the tokenizer has 4294967296 tokens, but config.json says vocab_size 139"];
    tokenizer_nested_1_000_deep TRAIN => ["tokenizer.json: this is not a tokenizer", "recursion limit"];

    template_of_a_billion_pseudo_tokens TRAIN => ["the count should be 1 to 1000"];
    template_of_many_thousands_of_pseudo_tokens TRAIN => ["all pseudo tokens together are more than 65536, the longest row"];
    template_of_nested_brackets TRAIN => ["train.jsonl:1: this row has 7503 tokens"];
    template_that_repeats_a_field TRAIN => ["train.jsonl:1: the template makes more than 8388608 bytes of this row's fields"];
    run_file_with_a_key_of_10_000_parts TRAIN => ["run.toml:1: not valid TOML: "];
    run_file_with_a_table_of_10_000_parts TRAIN => ["run.toml:1: not valid TOML: "];
    run_file_of_nested_tables TRAIN => ["run.toml:1: not valid TOML: "];
    run_file_with_escapes_for_the_terminal TRAIN => ["unknown key '\\u{1b}[2J\\u{9b}31m\\u{202e}evil\\u{2066}'"];
    labels_with_escapes_for_the_terminal TRAIN => ["the label 'entailment' is missing", "'\\u{1b}[2J\\u{9b}31m\\u{202e}good'"];

    data_with_escapes_for_the_terminal TRAIN => ["train.jsonl:1: the label '\\u{1b}]0;evil\\u{7}\\u{9b}2J\\u{202e}yes' is missing"];
    data_of_zeros TRAIN => ["train.jsonl:1: malformed JSON at character 1"];
    data_in_utf_16 TRAIN => ["train.jsonl:1: this is not UTF-8 text: byte 1 of the line is wrong"];
    data_with_half_a_character TRAIN => ["train.jsonl:1: malformed JSON at character "];
    data_with_a_number_beyond_f64 TRAIN => ["train.jsonl:1: malformed JSON at character ", "number out of range"];

    adapter_that_claims_gigabytes ADAPTER => ["prompt.rows: 65536 rows of width 65536 are more than 67108864 numbers"];
    adapter_with_escapes_for_the_terminal ADAPTER => ["task.labels.\\u{1b}[2J\\u{9b}31m\\u{202e}: needs at least one word"];
    adapter_on_a_device ADAPTER[..4] => ["adapter: its model 'model' is not at /dev/zero any more"];
}

/// The library gives such a pattern up after a million steps and goes on as if it had not matched.
#[test]
fn tokenizer_whose_pattern_never_ends() {
    limited(&scene("tokenizer_whose_pattern_never_ends"), &TRAIN).done();
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// To open a pipe that nobody writes to would wait for ever.
#[test]
fn pipes_in_place_of_files() {
    let says = "is a pipe or a device; a file was expected";
    for name in ["run.toml", CONFIG, "model/tokenizer.json", "model/tokenizer_config.json"] {
        let scene = Scene::new();
        scene.remove(name);
        pipe(&scene.path(name));
        refused(&scene, &TRAIN, &[name, says]);
    }
    let scene = Scene::probing();
    scene.remove("words.json");
    pipe(&scene.path("words.json"));
    refused(&scene, &TRAIN, &["words.json", says]);
    let scene = scene_with_adapter();
    for name in ["out/adapter/prompt.safetensors", "out/adapter/adapter.toml"] {
        scene.remove(name);
        pipe(&scene.path(name));
        refused(&scene, &["eval", "out/adapter", "--data", "test.jsonl"], &[name, says]);
    }
}

fn scene_with_adapter() -> Scene {
    Scene::new().trained()
}

#[test]
fn pipes_and_devices_in_place_of_tuned_weights() {
    let scene = Scene::new();
    scene.run(&["train", "run.toml", "--out", "out", "--set", "backbone.mode=full"]).done();
    let name = "out/adapter/backbone.safetensors";
    scene.remove(name);
    refused(&scene, &["eval", "out/adapter", "--data", "test.jsonl"], &[name, "is missing"]);
    pipe(&scene.path(name));
    refused(&scene, &["eval", "out/adapter", "--data", "test.jsonl"], &[name, "does not have the SHA-256"]);
    scene.remove(name);
    symlink("/dev/zero", scene.path(name)).unwrap();
    refused(&scene, &["eval", "out/adapter", "--data", "test.jsonl"], &[name, "does not have the SHA-256"]);
}

#[test]
fn devices_without_end() {
    let scene = Scene::new();
    refused(&scene, &["train", "/dev/zero", "--out", "out"], &["/dev/zero: is a pipe or a device"]);
    refused(
        &scene,
        &["train", "run.toml", "--out", "out", "--set", "data.train=/dev/zero"],
        &["/dev/zero:1: ", "longer than"],
    );
    refused(
        &scene,
        &["train", "run.toml", "--out", "out", "--set", "model=/dev/zero"],
        &["/dev/zero: is not a directory"],
    );
    for name in [WEIGHTS, CONFIG, "model/tokenizer.json"] {
        let scene = Scene::new();
        scene.remove(name);
        symlink("/dev/zero", scene.path(name)).unwrap();
        refused(&scene, &TRAIN, &[name, "file"]);
    }
}

#[test]
fn links_in_a_circle() {
    for (name, says) in [
        (CONFIG, "holds no config.json"),
        (WEIGHTS, "holds no weights"),
        ("model/tokenizer.json", "the tokenizer is missing"),
    ] {
        let scene = Scene::new();
        scene.remove(name);
        symlink(scene.path(name), scene.path(name)).unwrap();
        refused(&scene, &TRAIN, &[says]);
    }
}

/// Links out of a directory are followed, because the cache of the Hub is made of them; what they lead to is not told.
#[test]
fn links_to_a_secret() {
    for name in [CONFIG, WEIGHTS, "model/tokenizer.json", "run.toml", "train.jsonl"] {
        let scene = Scene::new();
        scene.write("secret", "password = swordfish swordfish");
        scene.remove(name);
        symlink(scene.path("secret"), scene.path(name)).unwrap();
        let said = limited(&scene, &TRAIN);
        assert_eq!(said.status, Some(2), "{}", said.err);
        assert!(!said.err.contains("swordfish"), "{}", said.err);
    }
}

/// A pickle can run code, so none is ever opened: the pipe in its place would hold the run for ever.
#[test]
fn pickles() {
    let scene = Scene::new();
    for name in ["model/pytorch_model.bin", "model/training_args.bin", "model/model.pt"] {
        pipe(&scene.path(name));
    }
    scene.run(&TRAIN).done();
    scene.remove(WEIGHTS);
    fs::remove_dir_all(scene.path("out")).unwrap();
    refused(&scene, &TRAIN, &["has only pickled weights (pytorch_model.bin), which can run code and are not read"]);
}

/// A line of a gigabyte, a tokenizer of a gigabyte, a run file of a gigabyte: sparse, so that they take no disk here.
#[test]
fn gigabytes() {
    let scene = Scene::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let huge = elsewhere.path().join("huge");
    File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    let huge = huge.to_str().unwrap();
    refused(&scene, &["train", huge, "--out", "out"], &["huge: longer than"]);
    let data = format!("data.train={huge}");
    refused(&scene, &["train", "run.toml", "--out", "out", "--set", &data], &["huge:1: this line is longer than"]);
    for (name, says) in [
        (CONFIG, "config.json: longer than"),
        (WEIGHTS, "model.safetensors: the safetensors header cannot be believed"),
        ("model/tokenizer.json", "tokenizer.json: longer than"),
        ("model/tokenizer_config.json", "tokenizer_config.json: longer than"),
    ] {
        let scene = Scene::new();
        scene.remove(name);
        symlink(huge, scene.path(name)).unwrap();
        // The directory is not listed before and after: that would read the gigabyte.
        let said = limited(&scene, &TRAIN);
        assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{}", said.err);
        assert!(said.err.contains(says) && !scene.path("out").exists(), "{}", said.err);
    }
}

/// The sentence is told, not the megabyte.
#[test]
fn a_key_of_a_megabyte() {
    let scene = Scene::new();
    scene.write("run.toml", format!("{} = 1\n", "a".repeat(1 << 20)));
    refused(&scene, &TRAIN, &["run.toml:1: unknown key 'aaaa", "more characters)"]);
}

#[test]
fn a_template_longer_than_any_row() {
    let scene = Scene::new();
    scene.template(&format!("{} [MASK]", "x".repeat(70_000)));
    refused(&scene, &TRAIN, &["the template is 70007 bytes long; at most 65536 can make a row"]);
}

#[test]
fn an_index_of_thousands_of_shards() {
    let scene = Scene::new();
    scene.remove(WEIGHTS);
    let shards: Vec<String> = (0..2000).map(|i| format!("\"t{i}\":\"{i}.safetensors\"")).collect();
    scene.write("model/model.safetensors.index.json", format!("{{\"weight_map\":{{{}}}}}", shards.join(",")));
    refused(&scene, &TRAIN, &["weight_map: names 2000 files; at most 512 can be open at once"]);
}

#[test]
fn a_line_with_a_hundred_thousand_fields() {
    let scene = Scene::new();
    let fields: Vec<String> = (0..100_000).map(|i| format!("\"field{i}\": 1")).collect();
    scene.write("train.jsonl", format!("{{{}}}\n", fields.join(",")));
    refused(&scene, &TRAIN, &["the data has no field 'premise'; its fields are 'field0', 'field1'", "more"]);
}

/// Nearly the longest line there can be, as one text: its tokens fit into the gigabyte.
#[test]
fn a_text_of_megabytes() {
    let scene = Scene::new();
    let text = "tea ".repeat((4 << 20) / 4 - 100);
    scene.write(
        "train.jsonl",
        format!("{{\"premise\": \"{text}\", \"hypothesis\": \"a\", \"label\": \"entailment\"}}\n"),
    );
    scene.template("{premise} [MASK]");
    refused(&scene, &TRAIN, &["train.jsonl:1: "]);
}
