//! See `jobq_tests::fuzz::worker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jobq_tests::fuzz::worker::run(input));
