//! Fuzzes `entry::run_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ptune_fuzz::entry::run_file(bytes));
