//! `events.out.tfevents.ptune`: the lines of `metrics.jsonl` as scalars for TensorBoard.
//!
//! ```text
//! file     = record*                     the first record is the version, then one for each line of metrics.jsonl
//! record   = length (8 bytes), masked CRC of the length (4), event, masked CRC of the event (4)     little endian
//! masked   = rotate_right(CRC-32C, 15) + 0xa282ead8
//! Event    = 1: wall time (double), 2: step (int64), 3: file version (string) or 5: Summary          protobuf
//! Summary  = 1: Value*,   Value = 1: tag (string), 2: simple value (float)
//! ```
//! (TFRecord framing, and `event.proto` and `summary.proto` of TensorFlow.) Tags: `train/loss`, `train/learning_rate`,
//! `train/examples_per_s`, `dev/<metric>`, `test/<metric>`.
//!
//! [`update`] makes the file agree with `metrics.jsonl`, whatever happened before: records beyond its lines and a
//! record that was cut off by a crash are removed, missing ones are appended. So a resumed run has every point once,
//! and a TensorBoard that watches the file keeps up. Wall times and examples a second are the only contents that another
//! run would not repeat. The name is fixed, because a run has one such file; TensorBoard asks only for `tfevents` in it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::train::log::{self, Line};
use crate::{Error, Result};

/// The file's name in the run directory.
pub const FILE: &str = "events.out.tfevents.ptune";

/// Length and its CRC before an event, the event's CRC behind it.
const HEADER: usize = 12;
const FOOTER: usize = 4;

/// Brings the event file in `directory` to the state of `log`, the text of `metrics.jsonl`. `examples_per_s` is
/// the speed of the training so far; it goes into lines that are new.
///
/// # Errors
/// A failed read or write of the file; a log that is not one.
pub fn update(directory: &Path, log: &str, examples_per_s: f64) -> Result<()> {
    let path = directory.join(FILE);
    let lines = log::parse(&directory.join("metrics.jsonl"), log)?;
    let failed = |source| Error::write(&path, source);
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::read(&path, source))?;

    let mut known: Vec<&[u8]> = records(&bytes).collect();
    known.truncate(1 + lines.len());
    let kept: usize = known.iter().map(|event| HEADER + event.len() + FOOTER).sum();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut new = Vec::new();
    if known.is_empty() {
        new.extend(record(&version(now)));
    }
    let mut step = 0;
    for (i, line) in lines.iter().enumerate() {
        step = line.step.unwrap_or(step); // the test belongs to the last step
        if i + 1 >= known.len() {
            new.extend(record(&event(now, step, &scalars(line, examples_per_s))));
        }
    }
    file.set_len(kept as u64).map_err(failed)?;
    file.seek(SeekFrom::Start(kept as u64)).map_err(failed)?;
    file.write_all(&new).map_err(failed)
}

/// The whole events at the beginning of a file, up to the first that is damaged.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (length, crc) = header.split_at(8);
        if masked_crc(length).to_le_bytes() != crc {
            return None;
        }
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let (event, rest) = rest.split_at_checked(length)?;
        let (crc, rest) = rest.split_at_checked(FOOTER)?;
        bytes = rest;
        (masked_crc(event).to_le_bytes() == crc).then_some(event)
    })
}

/// The tags and values of a line.
fn scalars(line: &Line, examples_per_s: f64) -> Vec<(String, f64)> {
    let mut scalars = Vec::new();
    if let Some(loss) = line.loss {
        scalars.push(("train/loss".into(), loss));
        scalars.push(("train/examples_per_s".into(), examples_per_s));
    }
    scalars.extend(line.learning_rate.map(|rate| ("train/learning_rate".into(), rate)));
    for (data, metrics) in [("dev", &line.dev), ("test", &line.test)] {
        for (name, value) in metrics.iter().flat_map(|metrics| metrics.iter()) {
            scalars.extend(value.as_f64().map(|value| (format!("{data}/{name}"), value)));
        }
    }
    scalars
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), event, &masked_crc(event).to_le_bytes()].concat()
}

fn version(wall_time: f64) -> Vec<u8> {
    [&double(1, wall_time)[..], &bytes_field(3, b"brain.Event:2")].concat()
}

fn event(wall_time: f64, step: usize, scalars: &[(String, f64)]) -> Vec<u8> {
    let value = |(tag, value): &(String, f64)| {
        let value = [&bytes_field(1, tag.as_bytes())[..], &[key(2, 5)], &(*value as f32).to_le_bytes()].concat();
        bytes_field(1, &value)
    };
    let summary: Vec<u8> = scalars.iter().flat_map(value).collect();
    [&double(1, wall_time)[..], &[key(2, 0)], &varint(step as u64), &bytes_field(5, &summary)].concat()
}

/// A field's number (below 16) and wire type: 0 varint, 1 eight bytes, 2 with a length, 5 four bytes.
fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [&[key(field, 1)][..], &value.to_le_bytes()].concat()
}

fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[key(field, 2)][..], &varint(bytes.len() as u64), bytes].concat()
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, bit by bit: a few hundred bytes an evaluation.
fn crc32c(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.iter().fold(!0, byte)
}

#[cfg(test)]
mod tests;
