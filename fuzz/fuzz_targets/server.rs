//! See `jobq_tests::fuzz::server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jobq_tests::fuzz::server::run(input));
