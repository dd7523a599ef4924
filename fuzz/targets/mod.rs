//! What is fuzzed: functions of bytes that panic if something is wrong. `fuzz/bins` runs them under libFuzzer, the test `replay` on what is
//! kept in `fuzz/corpus`.

pub mod engine;
pub mod models;
pub mod readers;
