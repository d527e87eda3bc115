//! The entry points of the tests, for the fuzz targets. They are one file, so that both always call the same.

#[path = "../../crates/ptune/tests/hostile/entry.rs"]
pub mod entry;

/// The tests of the library: fixtures and golden models.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/ptune/tests");
