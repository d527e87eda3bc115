//! JSON-lines files, good and bad.

use super::*;
use proptest::prelude::*;

fn read_bytes(bytes: &[u8]) -> Result<Vec<Example>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.jsonl");
    std::fs::write(&file, bytes).unwrap();
    read(&file)
}

fn error(bytes: &[u8]) -> String {
    let message = read_bytes(bytes).unwrap_err().to_string();
    message[message.find("rows.jsonl").unwrap()..].to_string()
}

#[test]
fn blank_lines_a_mark_and_both_line_ends_are_read_and_lines_are_counted() {
    let rows = read_bytes("\u{feff}{\"a\": \"x\"}\r\n\r\n  \n{\"a\": \"수도\", \"b\": 0}".as_bytes()).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].line(), Some(1));
    assert_eq!(rows[1].line(), Some(4));
    assert_eq!(rows[1].field_names(), ["a", "b"]);
    assert_eq!(rows[1].text("a").unwrap(), "수도");
}

#[test]
fn the_text_of_a_value_is_its_json_text() {
    let rows = read_bytes(br#"{"a": "tr\"ue", "b": true, "c": 0, "d": 1.5, "e": -3, "f": ""}"#).unwrap();
    let texts: Vec<_> = rows[0].field_names().iter().map(|name| rows[0].text(name).unwrap().into_owned()).collect();
    assert_eq!(texts, ["tr\"ue", "true", "0", "1.5", "-3", ""]);
}

#[test]
fn an_endless_line_is_an_error_and_the_lines_behind_it_are_read() {
    // A line must not be taken into memory just because no end of it is in sight.
    let long = format!("{{\"a\": \"{}\"}}\n{{\"a\": \"y\"}}\n", "x".repeat(2 * LONGEST_LINE as usize));
    let lines: Vec<_> = Lines::new(long.as_bytes(), Path::new("rows.jsonl")).collect();
    assert!(matches!(&lines[0], Err(Error::Line { line: 1, message, .. }) if message.contains("longer than")));
    assert_eq!(lines[1].as_ref().unwrap().line(), Some(2));
    assert_eq!(lines.len(), 2);
    let endless = Lines::new(BufReader::new(std::io::repeat(b'x')), Path::new("rows.jsonl")).next();
    assert!(matches!(endless, Some(Err(Error::Line { line: 1, .. }))));
}

#[test]
fn a_bad_line_is_named_with_its_number() {
    assert!(error(b"{\"a\": 1}\n\n{\"a\": }\n").starts_with("rows.jsonl:3: malformed JSON at character 7: "));
    assert!(error(b"{\"a\": 1}\n{\"a\": 1").starts_with("rows.jsonl:2: malformed JSON at character "));
    assert!(error(b"[1]").starts_with("rows.jsonl:1: a line should be a JSON object"));
    assert!(error(b"{\"a\": \"\xff\"}").starts_with("rows.jsonl:1: this is not UTF-8 text: byte 8"));
    assert!(error(b"").contains("rows.jsonl: the file has no rows"));
    assert!(error(b" \n\n").contains("no rows"));
    assert!(error("[".repeat(100_000).as_bytes()).starts_with("rows.jsonl:1: malformed JSON"));
    assert!(read(Path::new("nowhere.jsonl")).unwrap_err().to_string().contains("cannot read nowhere.jsonl"));
    assert!(read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string().starts_with("cannot read "));
}

#[test]
fn a_field_without_a_text_is_an_error_only_when_it_is_asked_for() {
    let rows = read_bytes(br#"{"a": "x", "idx": {"b": 1}, "l": [1], "n": null}"#).unwrap();
    let message = |field| {
        let message = rows[0].text(field).unwrap_err().to_string();
        message[message.find("rows.jsonl").unwrap()..].to_string()
    };
    assert_eq!(message("idx"), "rows.jsonl:1: the field 'idx' should be text, a number or true/false, not an object");
    assert!(message("l").ends_with("not a list"));
    assert!(message("n").ends_with("not null"));
    assert_eq!(message("z"), "rows.jsonl:1: the field 'z' is missing; the fields here are 'a', 'idx', 'l' and 'n'");
    let flags = Example::from_fields([("a".to_string(), "x".to_string())]);
    assert_eq!(flags.text("b").unwrap_err().to_string(), "the field 'b' is missing; the fields here are 'a'");
}

#[test]
fn a_stream_goes_on_behind_a_bad_line() {
    let input: &[u8] = b"{\"a\": 1}\nnonsense\n\n{\"a\": 2}\n";
    let lines: Vec<_> = Lines::new(input, Path::new("-")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].as_ref().unwrap().text("a").unwrap(), "1");
    assert!(matches!(&lines[1], Err(Error::Line { line: 2, .. })));
    assert_eq!(lines[2].as_ref().unwrap().line(), Some(4));
}

proptest! {
    /// Whatever the bytes, every line is an example or an error at its place.
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(), prop::sample::select(b"{}[]\",:\n\r\\ 0au".to_vec()),
    ], 0..60)) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        for row in Lines::new(&bytes[..], Path::new("-")) {
            match row {
                Ok(example) => prop_assert!(example.line().unwrap() <= lines),
                Err(Error::Line { line, .. }) => prop_assert!(line >= 1 && line <= lines),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
