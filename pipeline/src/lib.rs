//! The engine and its command: a pipeline file becomes a graph, the graph a plan, the plan a run, the run a report.

pub mod card;
mod cells;
pub mod cli;
pub mod device;
pub mod diff;
pub mod expect;
pub mod file;
pub mod fingerprint;
mod gallery;
pub mod graph;
pub mod inputs;
pub mod ipc;
pub mod manual;
pub mod marks;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod record;
pub mod report;
mod rows;
mod rows_page;
pub mod run;
pub mod show;
pub mod show_graph;
pub mod store;
#[cfg(test)]
mod test_stages;
