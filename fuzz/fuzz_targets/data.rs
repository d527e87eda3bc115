//! Fuzzes `entry::data`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ptune_fuzz::entry::data(bytes));
