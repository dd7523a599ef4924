//! What is done of a pipeline and what is to do, for people and for those who hand tasks to workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datasets::remote::Address;

use super::engine::{Engine, refuse_foreign_output};
use super::lock::Lock;
use super::{Options, RunError};
use crate::graph::Graph;
use crate::marks::FoundMarks;
use crate::recipe::Recipe;

/// How a pipeline stands.
pub struct Survey {
    /// The pipeline.
    pub graph: Arc<Graph>,
    /// Its units, in order.
    pub units: Vec<Todo>,
    /// The tasks that can be done now, in order. None: all are done.
    pub ready: Vec<NamedTask>,
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Todo {
    /// The unit's stages, by id.
    pub stages: Vec<String>,
    /// Tasks that are done, of the steps that are known so far.
    pub done: u64,
    /// Tasks to do, of the steps that are known so far.
    pub left: u64,
    /// Whether all of the unit's steps are known: they depend on what comes before.
    pub known: bool,
}

/// A task, as it is spoken of outside.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NamedTask {
    /// What a worker is told. It depends on what the task depends on and on nothing else, so that it is the same until the task is done.
    pub name: String,
    /// What it is, for people.
    pub label: String,
}

/// Looks at what is done and what is to do, without doing any of it.
///
/// # Errors
/// An output or an input that cannot be read.
pub fn survey(graph: Graph, options: &Options) -> Result<Survey, RunError> {
    let output = options.output_of(&graph.output);
    // Opening it makes it, and the folders above; looking leaves nothing.
    let made: Vec<PathBuf> = match Address::of(&output) {
        Some(_) => Vec::new(),
        None => output.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect(),
    };
    let (mut engine, threads) = Engine::look(graph, options, &output)?;
    engine.cx.pool.close();
    engine.found = FoundMarks::look(&engine.cx.store)?;
    let looked = look(&mut engine);
    threads.into_iter().for_each(|thread| _ = thread.join());
    for folder in made {
        let _ = std::fs::remove_dir(folder);
    }
    looked
}

/// The same, and leaves in the output what workers need to do the tasks: the plan, and the hashes of the inputs.
///
/// # Errors
/// An output or an input that cannot be read, an output that a run works on, and what a run would stop for: a stage that is done and has
/// rejected too much or is not as expected, or one whose next step does not fit in the memory.
pub fn survey_for_workers(graph: Graph, options: &Options) -> Result<Survey, RunError> {
    let output = options.output_of(&graph.output);
    refuse_foreign_output(&output)?;
    let recipe = Recipe::of(&graph, options);
    let (mut engine, threads) = Engine::look(graph, options, &output)?;
    engine.cx.pool.close();
    engine.found = FoundMarks::look(&engine.cx.store)?;
    threads.into_iter().for_each(|thread| _ = thread.join());
    let _lock = Lock::share(&engine.cx.store)?;
    recipe.refuse_other(&engine.cx.store)?;
    let survey = look(&mut engine)?;
    (0..engine.units.len()).filter(|&unit| engine.units[unit].finished).try_for_each(|unit| engine.check_gates(unit))?;
    engine.save_inputs()?;
    recipe.save(&engine.cx.store)?;
    Ok(survey)
}

fn look(engine: &mut Engine) -> Result<Survey, RunError> {
    let (mut units, mut tasks) = (Vec::new(), Vec::new());
    for index in 0..engine.units.len() {
        // Units come after what they read.
        let is_ready = engine.is_ready(index);
        if is_ready {
            engine.look_ahead(index)?;
        }
        let (unit, state) = (&engine.cx.plan.units[index], &engine.units[index]);
        let ids = engine.cx.plan.nodes_of(unit).into_iter().map(|node| engine.cx.graph.nodes[node].id.clone());
        units.push(Todo {
            stages: ids.collect(),
            done: state.found,
            left: state.left as u64,
            known: is_ready && (state.finished || !state.program || engine.is_last_step(index)),
        });
        tasks.extend(ready(engine, index));
    }
    Ok(Survey { graph: Arc::clone(&engine.cx.graph), units, ready: tasks })
}

/// The tasks of a unit that can be done now.
pub(super) fn ready(engine: &Engine, unit: usize) -> impl Iterator<Item = NamedTask> {
    engine.ready_tasks(unit).map(|task| NamedTask { name: task.fingerprint.to_string(), label: task.label.clone() })
}
