//! Fuzzes `entry::run_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ptune_fuzz::entry::run_log(bytes));
