//! `predict`: where examples come from, order, bad lines in their place, pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use crate::scene::{Said, Scene};

fn from_stdin(scene: &Scene, lines: impl Into<Vec<u8>>) -> Said {
    scene.said(scene.ptune().args(["predict", "out/adapter", "--input", "-"]).write_stdin(lines))
}

fn parsed(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row(premise: &str) -> String {
    json!({"premise": premise, "hypothesis": "the dog sings"}).to_string()
}

#[test]
fn a_field_a_file_and_standard_input_give_the_same_answer() {
    let scene = Scene::new().trained();
    scene.write("one.jsonl", row("a = b"));
    let field = ["predict", "out/adapter", "--field", "premise=a = b", "--field", "hypothesis=the dog sings", "--json"];
    let by_field = scene.run(&field).done();
    assert_eq!(scene.run(&["predict", "out/adapter", "--input", "one.jsonl"]).done(), by_field);
    let piped =
        scene.ptune().args(["predict", "out/adapter", "--input", "-"]).write_stdin(row("a = b")).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), by_field);
    let people = scene.run(&field[..6]).done();
    assert!(people.lines().count() == 2 && people.contains(" %  entailment"), "{people}");
}

#[test]
fn order_is_kept_and_no_line_depends_on_its_neighbours() {
    let scene = Scene::new().trained();
    let words = ["cat", "dog", "tea", "soup", "film", "rain", "slow story", "red room in the city of oslo"];
    let rows: Vec<String> = (0..300).map(|i| row(&words[i % words.len()].repeat(1 + i % 3))).collect();
    let all = parsed(&from_stdin(&scene, rows.join("\n")).done());
    assert_eq!(all.len(), 300);
    let last = parsed(&from_stdin(&scene, rows[299].clone()).done());
    assert_eq!(all[299], last[0]);
    for i in 24..300 {
        assert_eq!(all[i], all[i - 24], "line {}", i + 1);
    }
    assert_ne!(all[0], all[1], "all answers are alike, so their order was not tested");
}

#[test]
fn bad_lines_are_answered_in_their_place_with_their_number() {
    let scene = Scene::new().trained();
    let bad = [
        "{\"premise\": ",
        "[]",
        r#"{"premise": "a"}"#,
        r#"{"premise": {}, "hypothesis": "a"}"#,
        &json!({"premise": "a", "hypothesis": "tea ".repeat(60)}).to_string(),
    ];
    let mut lines = vec![row("first")];
    for line in bad {
        lines.extend([line.to_string(), row("between")]);
    }
    let said = from_stdin(&scene, lines.join("\n"));
    assert_eq!((said.status, said.err.as_str()), (Some(2), ""));
    let answers = parsed(&said.out);
    assert_eq!(answers.len(), 11);
    for (i, answer) in answers.iter().enumerate() {
        let keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        if i % 2 == 0 {
            assert_eq!(keys, ["label", "probabilities"]);
        } else {
            assert_eq!(keys, ["line", "error"]);
            assert_eq!(answer["line"], i + 1);
            assert!(answer["error"].as_str().unwrap().len() > 20, "{answer}");
        }
    }
    assert_eq!(answers[2], answers[4], "a bad line moved the answers behind it");
}

#[test]
fn bytes_that_are_no_utf8_and_an_endless_line_do_not_stop_the_stream() {
    let scene = Scene::new().trained();
    let mut input = b"{\"premise\": \"\xff\"}\n".to_vec();
    input.extend(vec![b'x'; 17 << 20]);
    input.extend(format!("\n{}\n", row("behind")).bytes());
    let said = from_stdin(&scene, input);
    assert_eq!(said.status, Some(2));
    let answers = parsed(&said.out);
    assert_eq!((&answers[0]["line"], &answers[1]["line"]), (&json!(1), &json!(2)));
    assert!(answers[1]["error"].as_str().unwrap().contains("longer than"), "{}", answers[1]);
    assert!(answers[2]["label"].is_string());
}

#[test]
fn a_mark_line_ends_blank_lines_and_korean() {
    let scene = Scene::new().trained();
    let plain = from_stdin(&scene, format!("{}\n{}\n", row("soup"), row("수도는 서울입니다"))).done();
    let windows =
        from_stdin(&scene, format!("\u{feff}{}\r\n\r\n  \r\n{}\r\n", row("soup"), row("수도는 서울입니다"))).done();
    assert_eq!(plain, windows);
    assert_eq!(plain.lines().count(), 2);
    assert_eq!(from_stdin(&scene, "").done(), "", "no lines, no answers");
}

#[test]
fn control_characters_in_a_field_stay_inside_json() {
    let scene = Scene::new().trained();
    let said = from_stdin(&scene, json!({"premise": "\u{1b}[31m\n\0", "hypothesis": "a", "\u{1b}": 1}).to_string());
    assert_eq!(parsed(&said.done()).len(), 1);
    // In a sentence for a terminal they are shown, not sent.
    let said = scene.run(&["eval", "out/\u{1b}[31m\u{7}", "--data", "test.jsonl"]);
    assert!(said.status == Some(2) && said.err.contains("out/\\u{1b}[31m\\u{7}: "), "{}", said.err);
}

#[test]
fn wrong_flags() {
    let scene = Scene::new().trained();
    let adapter = ["predict", "out/adapter"];
    for (rest, says) in [
        (&[][..], "--field <NAME=TEXT>|--input <FILE|->"),
        (&["--field", "a=b", "--input", "x"][..], "cannot be used with"),
        (&["--field", "premise"][..], "--field premise: write NAME=TEXT"),
        (&["--field", "premise=a", "--field", "premise=b"][..], "--field premise is given twice"),
        (&["--field", "premise=a"][..], "the field 'hypothesis' is missing; the fields here are 'premise'"),
        (&["--field", "premise=a", "--top", "0"][..], "--top"),
        (&["--field", "premise=a", "--threads", "0"][..], "--threads"),
        (&["--input", "nowhere.jsonl"][..], "cannot read nowhere.jsonl"),
        (&["--input", "model"][..], "cannot read model: Is a directory"),
    ] {
        let arguments = [&adapter[..], rest].concat();
        scene.refused(&arguments, &[says]);
    }
}

/// The binary reading from a pipe that stays open.
fn piped(scene: &Scene) -> (Child, ChildStdin) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptune"));
    command.args(["predict", "out/adapter", "--input", "-"]).current_dir(scene.path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

#[test]
fn a_slow_pipe_is_answered_line_by_line() {
    let scene = Scene::new().trained();
    let (mut child, mut input) = piped(&scene);
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for premise in ["soup", "tea", "rain"] {
        writeln!(input, "{}", row(premise)).unwrap();
        // Were answers held back until the pipe closes, this would wait for ever.
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert!(answer["label"].is_string());
    }
    drop(input);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let scene = Scene::new().trained();
    let (mut child, mut input) = piped(&scene);
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "{}", row("soup")).unwrap();
    answers.read_line(&mut String::new()).unwrap();
    drop(answers);
    // As `yes | ptune | head -1`: writing goes on until the program is gone.
    while writeln!(input, "{}", row("soup")).is_ok() {}
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), &b""[..]));
}
