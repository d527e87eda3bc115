//! Reading tensors, and one test for each way in which a weights file can be hostile or broken.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use proptest::prelude::*;

use super::Weights;
use crate::Result;

/// The bytes of a safetensors file with this header and these tensor bytes.
pub(in crate::checkpoint) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn open(bytes: &[u8]) -> (tempfile::TempDir, Result<Weights>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    let weights = Weights::open(directory.path());
    (directory, weights)
}

/// Checks that a file is refused on opening, by its name, with the words of `reason`.
fn assert_refused(bytes: &[u8], reason: &str) {
    let message = open(bytes).1.expect_err(reason).to_string();
    assert!(message.contains("model.safetensors"), "the file is not named: {message}");
    assert!(message.contains(reason), "'{reason}' is not in: {message}");
}

const MATRIX: &str = r#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;

#[test]
fn f32_f16_and_bf16_are_read_as_f32_in_file_order() {
    let values = [1.0, -2.5, 0.0, 3.25, 65504.0, -1e-3];
    let halves: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let brains: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    let header = r#"{"__metadata__":{"format":"pt"},
        "half":{"dtype":"F16","shape":[6],"data_offsets":[24,36]},
        "brain":{"dtype":"BF16","shape":[3,2],"data_offsets":[36,48]},
        "a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;
    let data = [f32_bytes(&values), halves, brains].concat();
    let (_directory, weights) = open(&safetensors(header, &data));
    let weights = weights.unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a.weight", "brain", "half"], "names must be sorted");
    assert_eq!(weights.shape("brain"), Some([3, 2].as_slice()));
    assert!(weights.contains("half") && !weights.contains("quarter"));

    let mut out = vec![9.0; 100];
    weights.read_into("a.weight", &[2, 3], &mut out).unwrap();
    assert_eq!(out, values);
    weights.read_into("half", &[6], &mut out).unwrap();
    assert_eq!(out, values.map(|value| f16::from_f32(value).to_f32()));
    weights.read_into("brain", &[3, 2], &mut out).unwrap();
    assert_eq!(out, values.map(|value| bf16::from_f32(value).to_f32()));
}

#[test]
fn a_tensor_of_many_pieces_is_read_whole_and_empty_and_scalar_tensors_too() {
    let count = 2 * super::PIECE_BYTES / 4 + 7;
    let values: Vec<f32> = (0..count).map(|at| at as f32).collect();
    let header = format!(
        r#"{{"big":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{end}]}},
            "none":{{"dtype":"F32","shape":[0,4],"data_offsets":[{end},{end}]}},
            "one":{{"dtype":"F32","shape":[],"data_offsets":[{end},{last}]}}}}"#,
        end = count * 4,
        last = count * 4 + 4
    );
    let (_directory, weights) = open(&safetensors(&header, &[f32_bytes(&values), f32_bytes(&[7.0])].concat()));
    let weights = weights.unwrap();
    let mut out = Vec::new();
    weights.read_into("big", &[count], &mut out).unwrap();
    assert_eq!(out, values);
    weights.read_into("none", &[0, 4], &mut out).unwrap();
    assert!(out.is_empty());
    weights.read_into("one", &[], &mut out).unwrap();
    assert_eq!(out, [7.0]);
}

#[test]
fn a_large_tensor_is_read_by_several_threads_and_its_first_bad_value_is_the_error() {
    let count = 2 * super::LEAST_PART + 7;
    let header = format!(r#"{{"big":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{}]}}}}"#, count * 4);
    let mut values: Vec<f32> = (0..count).map(|at| at as f32).collect();
    let (_directory, weights) = open(&safetensors(&header, &f32_bytes(&values)));
    for threads in 1..=4 {
        let mut out = vec![-1.0; count];
        weights.as_ref().unwrap().read("big", &[count], &mut out, threads).unwrap();
        assert!(out == values, "{threads} threads");
    }
    let bad = super::LEAST_PART + 5;
    values[bad] = f32::NAN;
    values[count - 1] = f32::INFINITY;
    let (_directory, weights) = open(&safetensors(&header, &f32_bytes(&values)));
    for threads in 1..=4 {
        let wrong = weights.as_ref().unwrap().read("big", &[count], &mut vec![0.0; count], threads).unwrap_err();
        assert!(wrong.to_string().contains(&format!("[{bad}] is NaN")), "{threads} threads: {wrong}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_up_to_three_close_names() {
    let header = r#"{"layer.0.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "layer.1.weight":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},
        "layer.2.weight":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},
        "layer.3.weight":{"dtype":"U8","shape":[1],"data_offsets":[3,4]},
        "zzz":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}"#;
    let (_directory, weights) = open(&safetensors(header, &[0; 5]));
    let message = weights.unwrap().read_into("layers.0.weight", &[1], &mut Vec::new()).unwrap_err().to_string();
    assert!(message.contains("'layers.0.weight'") && message.contains("layer.0.weight, "), "{message}");
    assert_eq!(message.matches("layer.").count(), 3, "three names are enough: {message}");
    assert!(!message.contains("zzz"), "{message}");
}

#[test]
fn a_wrong_shape_is_refused_with_both_shapes() {
    let (_directory, weights) = open(&safetensors(MATRIX, &[0; 24]));
    let message = weights.unwrap().read_into("a.weight", &[3, 2], &mut Vec::new()).unwrap_err().to_string();
    for part in ["a.weight", "[2, 3]", "[3, 2]"] {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_dtype_that_is_no_float_is_refused_by_name() {
    let header = r#"{"q":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
    let (_directory, weights) = open(&safetensors(header, &[0; 4]));
    let message = weights.unwrap().read_into("q", &[4], &mut Vec::new()).unwrap_err().to_string();
    assert!(message.contains("'q'") && message.contains("I8") && message.contains("BF16"), "{message}");
}

#[test]
fn a_nan_or_infinite_weight_is_refused_with_its_index() {
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let (_directory, weights) = open(&safetensors(MATRIX, &f32_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, bad])));
        let message = weights.unwrap().read_into("a.weight", &[2, 3], &mut Vec::new()).unwrap_err().to_string();
        assert!(message.contains("a.weight") && message.contains("[1, 2]") && message.contains(word), "{message}");
    }
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}"#;
    let data = [f16::ONE.to_le_bytes(), f16::NAN.to_le_bytes(), bf16::INFINITY.to_le_bytes()].concat();
    let (_directory, weights) = open(&safetensors(header, &data));
    let weights = weights.unwrap();
    assert!(weights.read_into("h", &[2], &mut Vec::new()).unwrap_err().to_string().contains("[1] is NaN"));
    assert!(weights.read_into("b", &[1], &mut Vec::new()).unwrap_err().to_string().contains("[0] is inf"));
}

#[test]
fn threat_truncated_before_the_header() {
    for length in 0..8 {
        assert_refused(&vec![0; length], "empty or truncated");
    }
}

#[test]
fn threat_truncated_within_the_header() {
    let whole = safetensors(MATRIX, &[0; 24]);
    assert_refused(&whole[..20], "truncated");
}

#[test]
fn threat_header_length_beyond_the_file() {
    // Believed, these would ask for up to 16 EiB of memory.
    for claimed in [25, 1 << 20, 99_999_999, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
        let mut bytes = claimed.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert_refused(&bytes, "follow");
    }
}

#[test]
fn threat_header_longer_than_the_format_allows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    fs::write(&path, 200_000_000_u64.to_le_bytes()).unwrap();
    // Sparse: the file claims the length without taking the disk.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(300_000_000).unwrap();
    let message = Weights::open(directory.path()).unwrap_err().to_string();
    assert!(message.contains("the format allows 100000000"), "{message}");
}

#[test]
fn threat_header_that_is_not_utf8() {
    let mut bytes = safetensors(MATRIX, &[0; 24]);
    bytes[10] = 0xff;
    assert_refused(&bytes, "not UTF-8");
}

#[test]
fn threat_header_that_is_not_json() {
    for header in ["", "   ", "[]", "null", "{\"a\":", "\u{0}\u{0}", "{\"a\":1}"] {
        assert_refused(&safetensors(header, &[]), "cannot be believed");
    }
    assert_refused(&safetensors(&"{\"a\":".repeat(50_000), &[]), "cannot be believed");
}

#[test]
fn threat_file_shorter_than_the_offsets_say() {
    assert_refused(&safetensors(MATRIX, &[0; 23]), "truncated");
    assert_refused(&safetensors(MATRIX, &[]), "truncated");
}

#[test]
fn threat_bytes_after_the_last_tensor() {
    assert_refused(&safetensors(MATRIX, &[0; 25]), "appended");
}

#[test]
fn threat_offsets_that_lie() {
    for offsets in ["[1,25]", "[24,0]", "[0,48]", "[18446744073709551615,23]", "[-1,23]", "[0]", "[0,24,24]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[2,3],"data_offsets":{offsets}}}}}"#);
        assert_refused(&safetensors(&header, &[0; 24]), "cannot be believed");
    }
}

#[test]
fn threat_tensors_that_overlap_or_leave_holes() {
    for second in ["[0,4]", "[2,6]", "[5,9]"] {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},
                "b":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#
        );
        assert_refused(&safetensors(&header, &[0; 9]), "cannot be believed");
    }
}

#[test]
fn threat_shape_times_dtype_that_is_not_the_byte_count() {
    for shape in ["[2,2]", "[]", "[0]", "[7]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,24]}}}}"#);
        assert_refused(&safetensors(&header, &[0; 24]), "cannot be believed");
    }
    assert_refused(
        &safetensors(r#"{"a":{"dtype":"F99","shape":[6],"data_offsets":[0,24]}}"#, &[0; 24]),
        "cannot be believed",
    );
}

#[test]
fn threat_shape_that_overflows() {
    for shape in ["[4294967296,4294967296,4294967296]", "[9223372036854775807,2]", "[4611686018427387904]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        assert_refused(&safetensors(&header, &[]), "cannot be believed");
    }
}

#[test]
fn threat_name_given_twice() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert_refused(&safetensors(header, &[0; 8]), "cannot be believed");
}

#[test]
fn threat_file_that_shrinks_after_it_was_opened() {
    let (directory, weights) = open(&safetensors(MATRIX, &[0; 24]));
    let weights = weights.unwrap();
    let file = fs::OpenOptions::new().write(true).open(directory.path().join("model.safetensors")).unwrap();
    file.set_len(40).unwrap();
    assert!(weights.read_into("a.weight", &[2, 3], &mut Vec::new()).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    assert_refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull");
}

#[test]
fn a_directory_in_place_of_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("model.safetensors")).unwrap();
    assert!(Weights::open(directory.path()).unwrap_err().to_string().contains("is not a file"));
}

const SHARD: &str = "model-00001-of-00002.safetensors";

/// Two shards with one tensor each, under an index.
fn write_shards(directory: &Path, index: &str) {
    for (shard, name, value) in [(SHARD, "a", 1.0), ("model-00002-of-00002.safetensors", "b", 2.0)] {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        fs::write(directory.join(shard), safetensors(&header, &f32_bytes(&[value]))).unwrap();
    }
    fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
}

#[test]
fn shards_are_read_through_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let second = "model-00002-of-00002.safetensors";
    write_shards(directory.path(), &format!(r#"{{"metadata":{{}},"weight_map":{{"b":"{second}","a":"{SHARD}"}}}}"#));
    let weights = Weights::open(directory.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    let mut out = Vec::new();
    weights.read_into("b", &[1], &mut out).unwrap();
    assert_eq!(out, [2.0]);
}

#[test]
fn threat_index_that_leaves_the_directory_or_lies() {
    let cases = [
        (r#"{"weight_map":{"a":"../model-00001-of-00002.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"/etc/model.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"..\\model.safetensors"}}"#, "plain name"),
        (r#"{"weight_map":{"a":"config.json"}}"#, "plain name"),
        (r#"{"weight_map":{"a":7}}"#, "plain name"),
        (r#"{"weight_map":{}}"#, "missing or empty"),
        (r#"{"weights":{}}"#, "missing or empty"),
        ("[]", "missing or empty"),
        ("", "not valid JSON"),
        (r#"{"weight_map":{"a":"absent.safetensors"}}"#, "absent.safetensors"),
        (r#"{"weight_map":{"b":"model-00001-of-00002.safetensors"}}"#, "is not in"),
    ];
    for (index, reason) in cases {
        let directory = tempfile::tempdir().unwrap();
        write_shards(directory.path(), index);
        let message = Weights::open(directory.path()).expect_err(index).to_string();
        assert!(message.contains(reason), "'{reason}' is not in: {message}");
    }
}

/// Opening must not panic, and what opens must be readable or refused.
fn open_and_read(bytes: &[u8]) {
    if let (_directory, Ok(weights)) = open(bytes) {
        let mut out = Vec::new();
        for name in weights.names() {
            let shape = weights.shape(name).unwrap();
            let _ = weights.read_into(name, shape, &mut out);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        open_and_read(&bytes);
    }

    #[test]
    fn no_header_makes_it_panic(header in r#"\{"a":\{"dtype":"(F32|F16|F4|U8)","shape":\[[0-9,]{0,9}\],"data_offsets":\[[0-9]{1,3},[0-9]{1,3}\]\}\}"#) {
        open_and_read(&safetensors(&header, &[0; 24]));
    }

    #[test]
    fn no_mutation_makes_it_panic(at in 0usize..1000, bit in 0u8..8, keep in 0usize..200) {
        let mut bytes = safetensors(MATRIX, &f32_bytes(&[1.0; 6]));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        open_and_read(&bytes);
        bytes.truncate(keep);
        open_and_read(&bytes);
    }
}
