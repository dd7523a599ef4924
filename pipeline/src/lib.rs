//! The engine and its command: a pipeline file becomes a graph, the graph a plan, the plan a run, the run a report.

pub mod cli;
pub mod file;
pub mod graph;
pub mod manual;
pub mod record;
pub mod show_graph;
#[cfg(test)]
mod test_stages;
