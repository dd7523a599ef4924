//! End to end: the real command, in a folder of its own, on the bundled samples. Every test looks at exit code, messages and files.

#![expect(clippy::print_stderr, reason = "tests say what they skip and how much they did")]

mod harness;

mod command;
mod damage;
mod devices;
mod dropped;
mod errors;
mod estimates;
mod examples;
mod fractals;
mod gates;
mod graphs;
mod hostile;
mod incremental;
mod llm_example;
mod llm_faults;
mod llm_runs;
mod logs;
mod made;
mod near_duplicates;
mod object_storage;
mod pages;
mod readers;
mod rerun;
mod resume;
mod same_bytes;
mod samples;
mod surroundings;
mod tables;
mod tags;
mod vectors;
mod web;
mod worker;
