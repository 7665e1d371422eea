//! See `jobq_tests::fuzz::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jobq_tests::fuzz::frames::run(input));
