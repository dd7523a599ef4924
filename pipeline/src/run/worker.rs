//! A process that does tasks of a plan which another process made: what a cluster calls.
//!
//! All it is told lies in the output: the plan, the inputs' hashes, the done marks. All it makes goes there, and counts once its mark is
//! left; so any number of workers, on any machines that see output and inputs, may do any tasks, and the same one twice.

use std::path::{Path, PathBuf};

use super::asking::Asking;
use super::engine::{Engine, storage_runtime};
use super::lock::Lock;
use super::survey::{NamedTask, ready};
use super::{Options, RunError};
use crate::fingerprint::Fingerprint;
use crate::graph::Graph;
use crate::marks::DoneMark;
use crate::recipe::Recipe;
use crate::store::Store;

/// What a worker is to do, and by which plan.
pub struct Job {
    output: PathBuf,
    /// How the plan is made again.
    pub recipe: Recipe,
    /// Tasks that somebody has done.
    pub done: Vec<NamedTask>,
    /// Names of the tasks to do.
    pub left: Vec<String>,
}

impl Job {
    /// Looks which of `tasks` are to be done in `output`; writes nothing.
    ///
    /// # Errors
    /// An output without a plan, or with one of another version of the program.
    pub fn find(output: &Path, tasks: &[String]) -> Result<Self, RunError> {
        let runtime = storage_runtime()?;
        let store = Store::open(output, runtime.handle().clone(), None)?;
        let mut job = Self { output: output.to_owned(), recipe: Recipe::load(&store)?, done: Vec::new(), left: Vec::new() };
        for task in tasks {
            match done(&store, task)? {
                Some(done) => job.done.push(done),
                None => job.left.push(task.clone()),
            }
        }
        Ok(job)
    }
}

/// The task of this name, if it is done.
fn done(store: &Store, name: &str) -> Result<Option<NamedTask>, RunError> {
    let Some(fingerprint) = Fingerprint::parse(name) else { return Ok(None) };
    let mark = DoneMark::find(store, &fingerprint)?;
    Ok(mark.map(|mark| NamedTask { name: name.to_owned(), label: mark.task }))
}

/// Does what is left of a job, and tells `each` of every task that is done, with the seconds since the first began; the tasks that another
/// worker has done meanwhile. `graph` is that of the job's recipe.
///
/// No shard is kept in memory: whatever comes next reads from the output.
///
/// # Errors
/// [`RunError::NotReady`] before any task is begun if one of them cannot be done now, [`RunError::Locked`] if a run works on the output, or
/// what stopped a task.
pub fn work(graph: Graph, job: &Job, options: &Options, each: impl FnMut(&str, f64)) -> Result<Vec<NamedTask>, RunError> {
    let options = job.recipe.options(options.clone());
    let (mut engine, threads) = Engine::look(graph, &options, &job.output)?;
    let result = Lock::share(&engine.cx.store).and_then(|_lock| {
        let _asking = Asking::begin(&engine.cx, &options)?;
        find_and_do(&mut engine, job, each)
    });
    engine.cx.pool.close();
    let died = threads.into_iter().map(std::thread::JoinHandle::join).any(|ended| ended.is_err());
    if died { Err(RunError::Internal("a worker thread died".to_owned())) } else { result }
}

fn find_and_do(engine: &mut Engine, job: &Job, each: impl FnMut(&str, f64)) -> Result<Vec<NamedTask>, RunError> {
    let is_wanted = |task: &Fingerprint| job.left.iter().any(|name| name == task.as_str());
    let (mut tasks, mut known, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for unit in 0..engine.units.len() {
        if engine.is_ready(unit) {
            engine.look_ahead(unit)?;
            tasks.extend(engine.ready_tasks(unit).filter(|task| is_wanted(&task.fingerprint)).cloned());
            known.extend(engine.units[unit].all_tasks.iter().filter(|task| is_wanted(task)).map(ToString::to_string));
            others.extend(ready(engine, unit));
        }
        if job.left.iter().all(|name| known.contains(name)) {
            let is_left = |name: &&String| tasks.iter().any(|task| task.fingerprint.as_str() == *name);
            let meanwhile: Vec<&String> = job.left.iter().filter(|name| !is_left(name)).collect();
            let made: Vec<Fingerprint> = tasks.iter().map(|task| task.fingerprint.clone()).collect();
            engine.do_tasks(tasks, each)?;
            engine.finish_all_stages(&made)?;
            return meanwhile.into_iter().filter_map(|name| done(&engine.cx.store, name).transpose()).collect();
        }
    }
    let task = job.left.iter().find(|name| !known.contains(name)).cloned().unwrap_or_default();
    Err(RunError::NotReady { task, ready: others })
}
