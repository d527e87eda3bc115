//! Fuzzes `entry::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ptune_fuzz::entry::template(bytes));
