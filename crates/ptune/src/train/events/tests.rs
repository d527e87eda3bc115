//! The event file read back by a decoder that shares no code with the writer but the framing's reader.

use super::*;

const LOG: [&str; 4] = [
    r#"{"step":0,"dev":{"accuracy":0.5,"kept":3},"best":true}"#,
    r#"{"step":200,"loss":1.5,"learning_rate":0.001,"dev":{"accuracy":0.25},"best":false}"#,
    r#"{"step":400,"loss":0.75,"learning_rate":0.0005,"dev":{"accuracy":0.75},"best":true}"#,
    r#"{"test":{"accuracy":0.625}}"#,
];

fn log(lines: usize) -> String {
    LOG[..lines].iter().map(|line| format!("{line}\n")).collect()
}

/// A protobuf message: fields by number, with their numbers or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, number(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => number(&mut bytes) as usize,
            wire => panic!("wire type {wire}"),
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    found
}

/// Step, tag and value of every point.
fn points(directory: &Path) -> Vec<(u64, String, f32)> {
    let bytes = std::fs::read(directory.join(FILE)).unwrap();
    let mut points = Vec::new();
    let mut length = 0;
    for (i, event) in records(&bytes).enumerate() {
        length += HEADER + event.len() + FOOTER;
        let event = fields(event);
        assert!(f64::from_le_bytes(event[0].1[..].try_into().unwrap()) > 1.7e9, "a time of this century");
        if i == 0 {
            assert_eq!(event[1], (3, b"brain.Event:2".to_vec()));
            continue;
        }
        let step = u64::from_le_bytes(event[1].1[..].try_into().unwrap());
        assert_eq!((event[1].0, event[2].0, event.len()), (2, 5, 3));
        for (_, value) in fields(&event[2].1) {
            let value = fields(&value);
            let tag = String::from_utf8(value[0].1.clone()).unwrap();
            points.push((step, tag, f32::from_le_bytes(value[1].1[..].try_into().unwrap())));
        }
    }
    assert_eq!(length, bytes.len(), "something stands behind the last whole record");
    points
}

fn expected(lines: usize) -> Vec<(u64, String, f32)> {
    let all = [
        (0, "dev/accuracy", 0.5),
        (0, "dev/kept", 3.0),
        (200, "train/loss", 1.5),
        (200, "train/examples_per_s", 80.0),
        (200, "train/learning_rate", 0.001),
        (200, "dev/accuracy", 0.25),
        (400, "train/loss", 0.75),
        (400, "train/examples_per_s", 80.0),
        (400, "train/learning_rate", 0.0005),
        (400, "dev/accuracy", 0.75),
        (400, "test/accuracy", 0.625),
    ];
    let count = [0, 2, 6, 10, 11][lines];
    all[..count].iter().map(|(step, tag, value)| (*step, tag.to_string(), *value)).collect()
}

/// Known values of the standard (RFC 3720, appendix B.4), and of a TFRecord as TensorFlow writes it.
#[test]
fn checksums() {
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn every_line_becomes_its_points() {
    let directory = tempfile::tempdir().unwrap();
    for lines in 0..=4 {
        update(directory.path(), &log(lines), 80.0).unwrap();
        assert_eq!(points(directory.path()), expected(lines));
    }
}

#[test]
fn a_second_update_changes_no_byte() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = || std::fs::read(directory.path().join(FILE)).unwrap();
    update(directory.path(), &log(3), 80.0).unwrap();
    let first = bytes();
    update(directory.path(), &log(3), 99.0).unwrap();
    assert!(bytes() == first, "wall times and speeds of points that stand are kept");
}

#[test]
fn a_run_that_resumes_has_every_point_once() {
    let directory = tempfile::tempdir().unwrap();
    update(directory.path(), &log(3), 80.0).unwrap();
    // Back at the state of step 200, and on.
    update(directory.path(), &log(2), 80.0).unwrap();
    assert_eq!(points(directory.path()), expected(2));
    update(directory.path(), &log(4), 80.0).unwrap();
    assert_eq!(points(directory.path()), expected(4));
}

#[test]
fn a_file_cut_or_damaged_anywhere_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    update(directory.path(), &log(4), 80.0).unwrap();
    let whole = std::fs::read(&file).unwrap();
    for length in (0..whole.len()).step_by(5) {
        std::fs::write(&file, &whole[..length]).unwrap();
        update(directory.path(), &log(4), 80.0).unwrap();
        assert_eq!(points(directory.path()), expected(4), "cut to {length} bytes");
        let mut damaged = whole.clone();
        damaged[length] ^= 0x10;
        std::fs::write(&file, damaged).unwrap();
        update(directory.path(), &log(4), 80.0).unwrap();
        assert_eq!(points(directory.path()), expected(4), "byte {length} damaged");
    }
}

#[test]
fn numbers_longer_than_seven_bits() {
    assert_eq!(varint(0), [0]);
    assert_eq!(varint(127), [127]);
    assert_eq!(varint(300), [0xac, 2]);
    assert_eq!(varint(u64::MAX).len(), 10);
}
