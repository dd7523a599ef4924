//! The engine and its command: a pipeline file becomes a graph, the graph a plan, the plan a run, the run a report.

pub mod card;
pub mod cli;
pub mod graph;
pub mod profile;
pub mod record;
pub mod report;
mod rows;
pub mod show;
