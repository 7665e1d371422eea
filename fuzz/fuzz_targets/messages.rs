//! See `jobq_tests::fuzz::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jobq_tests::fuzz::messages::run(input));
