//! Damage: what disks, editors, copies and enemies do to good files, as proptest strategies.
//!
//! A place is a fraction of the file's length (in 65,536ths), so that one edit fits a file of any length. Text-like damage looks for something to
//! hit (a number, a comma, a line) from its place on and does nothing where there is none.

use proptest::prelude::*;

/// A fraction of a length, in 65,536ths.
type Place = u16;

/// Bytes that readers stumble over.
const HOSTILE: [&[u8]; 19] = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\x1b[2J",
    "\u{202e}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{9b}31m".as_bytes(),
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\\ud800",
    b"\"",
    b"null",
    b"NaN",
    b"[",
    b"{",
    b"=== ",
    b"..\\/../etc/passwd",
    b"[P*1000]",
];

/// Numbers that readers stumble over.
const NUMBERS: [&str; 14] = [
    "-1",
    "0",
    "00",
    "1e400",
    "-0.0",
    "0.5",
    "1e-400",
    "255",
    "65537",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "340282366920938463463374607431768211456",
    "nan",
];

/// One piece of damage.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Flip(Place, u8),
    Truncate(Place),
    Cut(Place, Place),
    Duplicate(Place, Place),
    Splice(Place, Place),
    Insert(Place, Place),
    Number(Place, Place),
    /// A member between two commas (or a line between two line ends) stands twice.
    Member(Place, u8),
    Nest(Place, u8, u16),
    Crlf,
}

impl Edit {
    /// Damages `bytes`; `other` is a good file to take pieces from.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        if bytes.is_empty() {
            return bytes.extend(other);
        }
        match self {
            Edit::Flip(at, bit) => {
                let at = index(*at, bytes.len());
                bytes[at] ^= 1 << (bit % 8);
            }
            Edit::Truncate(at) => bytes.truncate(index(*at, bytes.len())),
            Edit::Cut(a, b) => drop(bytes.drain(range(*a, *b, bytes.len()))),
            Edit::Duplicate(a, b) => {
                let range = range(*a, *b, bytes.len());
                let copy = bytes[range.clone()].to_vec();
                insert(bytes, range.end, &copy);
            }
            Edit::Splice(a, b) => {
                let at = index(*a, bytes.len());
                insert(bytes, at, &other[range(*a, *b, other.len())]);
            }
            Edit::Insert(at, what) => {
                let at = index(*at, bytes.len());
                insert(bytes, at, HOSTILE[index(*what, HOSTILE.len())]);
            }
            Edit::Number(at, what) => number(bytes, index(*at, bytes.len()), NUMBERS[index(*what, NUMBERS.len())]),
            Edit::Member(at, separator) => member(bytes, index(*at, bytes.len()), *separator),
            Edit::Nest(at, opening, depth) => {
                let at = index(*at, bytes.len());
                insert(bytes, at, &vec![*opening; usize::from(*depth)]);
            }
            Edit::Crlf => {
                let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
                *bytes = lines.join(&b"\r\n"[..]);
            }
        }
    }

    /// Each kind of damage once, at places where an adapter has something to damage.
    pub(crate) fn one_of_each() -> Vec<Edit> {
        let at = |percent: u16| percent * (Place::MAX / 100);
        vec![
            Edit::Flip(at(10), 3),
            Edit::Truncate(at(50)),
            Edit::Cut(at(10), at(20)),
            Edit::Duplicate(at(10), at(20)),
            Edit::Splice(at(10), at(20)),
            Edit::Insert(at(10), at(0)),
            Edit::Number(at(1), at(30)),
            Edit::Member(at(1), b'\n'),
            Edit::Nest(at(10), b'[', 1000),
            Edit::Crlf,
        ]
    }
}

/// A good file with one to four pieces of damage.
pub(crate) fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec(edit(), 1..5);
    (any::<Place>(), any::<Place>(), edits).prop_map(move |(seed, other, edits)| {
        let mut bytes = seeds[index(seed, seeds.len())].clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes, &seeds[index(other, seeds.len())]));
        bytes
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let (i, j) = (any::<Place>, any::<Place>);
    prop_oneof![
        2 => (i(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => i().prop_map(Edit::Truncate),
        1 => (i(), j()).prop_map(|(a, b)| Edit::Cut(a, b)),
        1 => (i(), j()).prop_map(|(a, b)| Edit::Duplicate(a, b)),
        1 => (i(), j()).prop_map(|(a, b)| Edit::Splice(a, b)),
        3 => (i(), j()).prop_map(|(at, what)| Edit::Insert(at, what)),
        4 => (i(), j()).prop_map(|(at, what)| Edit::Number(at, what)),
        2 => (i(), prop_oneof![Just(b','), Just(b'\n')]).prop_map(|(at, separator)| Edit::Member(at, separator)),
        1 => (i(), prop_oneof![Just(b'['), Just(b'{'), Just(b'(')], 1u16..20_000)
            .prop_map(|(at, opening, depth)| Edit::Nest(at, opening, depth)),
        1 => Just(Edit::Crlf),
    ]
}

/// The index of a place in something of a length.
fn index(place: Place, length: usize) -> usize {
    (usize::from(place) * length) >> 16
}

/// The range between two places, at least one byte.
fn range(a: Place, b: Place, length: usize) -> std::ops::Range<usize> {
    let (a, b) = (index(a, length), index(b, length));
    a.min(b)..a.max(b) + 1
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    drop(bytes.splice(at..at, new.iter().copied()));
}

/// Replaces the first run of digits at or behind a place.
fn number(bytes: &mut Vec<u8>, at: usize, new: &str) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[at..].iter().position(digit).map(|digits| at + digits) else { return };
    let length = bytes[start..].iter().position(|byte| !digit(byte)).unwrap_or(bytes.len() - start);
    drop(bytes.splice(start..start + length, new.bytes()));
}

/// Repeats what stands between the two separators behind a place: a key given twice, a line given twice.
fn member(bytes: &mut Vec<u8>, at: usize, separator: u8) {
    let next = |from: usize, bytes: &[u8]| bytes[from..].iter().position(|byte| *byte == separator).map(|i| from + i);
    let Some(start) = next(at, bytes) else { return };
    let Some(end) = next(start + 1, bytes) else { return };
    let copy = bytes[start..end].to_vec();
    insert(bytes, end, &copy);
}
