//! The engine and its command: a pipeline file becomes a graph, the graph a plan, the plan a run, the run a report.

pub mod card;
pub mod cli;
pub mod file;
pub mod fingerprint;
pub mod graph;
pub mod inputs;
pub mod ipc;
pub mod marks;
pub mod plan;
pub mod profile;
pub mod record;
pub mod report;
pub mod run;
pub mod show;
pub mod store;
