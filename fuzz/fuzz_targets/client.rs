//! See `jobq_tests::fuzz::client`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jobq_tests::fuzz::client::run(input));
