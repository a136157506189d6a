#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| autonomy_registry::fuzzing::blob(bytes));
