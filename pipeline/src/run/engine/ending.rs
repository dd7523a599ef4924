//! How a unit ends: it is held against what is asked of it, what it leaves for later runs becomes final, its rows are published.

use stages::{Port, Stage, StageError};

use super::{Engine, UnitState};
use crate::graph::{Edge, Node};
use crate::marks;
use crate::plan::{Plan, Unit};
use crate::record::{Published, StageTotals};
use crate::run::finish::publish_unit;
use crate::run::log::{About, Level};
use crate::run::program::program;
use crate::run::progress::grouped;
use crate::run::tasks::ProgramState;
use crate::run::{RunError, added};

impl Engine {
    /// An error if a finished unit is not what is asked of it before it is published.
    ///
    /// # Errors
    /// [`RunError::TooManyRejected`] or [`RunError::Unexpected`].
    pub(in crate::run) fn check_gates(&self, unit: usize) -> Result<(), RunError> {
        for node in self.cx.plan.nodes_of(&self.cx.plan.units[unit]) {
            let stage = &self.cx.graph.nodes[node];
            let totals = self.units[unit].totals.get(&stage.id).cloned().unwrap_or_default();
            let rejected = totals.rejected.values().sum();
            let rows = rows_judged(stage, &totals);
            if stage.max_rejected.is_exceeded(rejected, rows) {
                let reason = totals.rejected.iter().max_by_key(|(_, rows)| **rows).map(|(reason, _)| reason.clone()).unwrap_or_default();
                return Err(RunError::TooManyRejected { stage: stage.id.clone(), rejected, rows, reason });
            }
            let unmet = stage.expect.unmet(&totals, rows, self.cx.limit.is_some());
            if !unmet.is_empty() {
                return Err(RunError::Unexpected { stage: stage.id.clone(), unmet });
            }
        }
        Ok(())
    }

    pub(super) fn finish_unit(&mut self, unit: usize) -> Result<(), RunError> {
        self.finish_stages(unit)?;
        let plan_unit: &Unit = &self.cx.plan.units[unit];
        if let Err(error) = self.check_gates(unit) {
            // Why it dropped or rejected so many is what the person looks for.
            let wanted: &[Port] =
                if matches!(error, RunError::Unexpected { .. }) { &[Port::REJECTED, Port::DROPPED] } else { &[Port::REJECTED] };
            publish_unit(&self.cx, plan_unit, &self.units[unit].outputs, |port| wanted.contains(port))?;
            if matches!(error, RunError::TooManyRejected { .. }) {
                // Whoever could not be asked may be there when the person runs it again; what was answered is kept.
                for task in &self.units[unit].unasked {
                    self.cx.store.delete(&marks::path_of(task))?;
                }
            }
            return Err(error);
        }
        match self.publish_program(unit) {
            Err(RunError::Stage { source: error @ StageError::Undone { .. }, .. }) if self.units[unit].n_redone == 0 => {
                return self.redo(unit, &error);
            }
            published => published?,
        }
        let published = publish_unit(&self.cx, plan_unit, &self.units[unit].outputs, |_| true)?;
        for (node, Published { folder, rows, parts }) in &published {
            let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
            let text = format!("published {folder}: {} rows, {} bytes, parts: {}", grouped(*rows), grouped(bytes), parts.len());
            self.cx.log.line(Level::Info, About::stage(&self.cx.graph.nodes[*node].id), text);
        }
        self.units[unit].published = published;
        self.forget_read(unit);
        for node in self.cx.plan.nodes_of(&self.cx.plan.units[unit]) {
            self.cx.progress.finish(node);
        }
        Ok(())
    }

    /// Does the tasks of a program again that left something for later runs: somebody has removed it since.
    fn redo(&mut self, unit: usize, why: &StageError) -> Result<(), RunError> {
        let stage = &self.cx.graph.nodes[self.cx.plan.units[unit].root].id;
        self.cx.log.line(Level::Warn, About::stage(stage), format!("{why}; they are done again"));
        let gone = &mut self.units[unit];
        for task in &gone.seeing {
            self.cx.store.delete(&marks::path_of(task))?;
        }
        let nodes: Vec<usize> = self.cx.plan.nodes_of(&self.cx.plan.units[unit]).into_iter().collect();
        self.shards.retain(|edge, _| !nodes.contains(&edge.node));
        self.tasks.reused -= gone.found;
        self.tasks.done -= gone.made.len() as u64;
        self.found = None; // it has given what was asked of it
        self.units[unit] =
            UnitState { begun: true, program: true, state: ProgramState::new(self.cx.shard_rows), n_redone: 1, ..UnitState::default() };
        self.advance(unit)
    }

    /// Makes final what the unit's program leaves for later runs. The output remembers it before and after, so that an edited run knows what it
    /// takes the place of, wherever this one is cut off.
    fn publish_program(&self, unit: usize) -> Result<(), RunError> {
        let Some(plan) = self.units[unit].state.begun.as_ref().and_then(|begun| begun.adds.clone()) else { return Ok(()) };
        let (cx, node) = (&self.cx, self.cx.plan.units[unit].root);
        let stage = &cx.graph.nodes[node].id;
        let mut plans = added::find(&cx.store, stage)?;
        if !plans.contains(&plan) {
            plans.push(plan.clone());
        }
        added::remember(&cx.store, stage, &plans)?;
        program(cx, node)?.publish(&|| cx.store.pass()).map_err(|error| cx.stage_error(node, error))?;
        added::remember(&cx.store, stage, &[plan])
    }

    /// Forgets checkpoints that this unit was the last to read.
    fn forget_read(&self, unit: usize) {
        let reads = |unit: usize| Plan::reads_of(&self.cx.graph, &self.cx.plan.units[unit]);
        let wanted: Vec<Edge> = (0..self.units.len()).filter(|other| !self.units[*other].finished).flat_map(reads).collect();
        for edge in reads(unit).into_iter().filter(|edge| !wanted.contains(edge)) {
            self.cx.cache.forget(self.shards.get(&edge).into_iter().flatten());
        }
    }
}

/// What a stage's rejected and dropped rows are held against: the rows that came in; where a stage makes more of them than came in, those.
fn rows_judged(stage: &Node, totals: &StageTotals) -> u64 {
    if !matches!(stage.stage, Stage::Global(_) | Stage::RowAsync(_)) {
        return totals.rows_in;
    }
    let made = totals.rows_through("out").saturating_add(totals.dropped_rows()).saturating_add(totals.rejected_rows());
    made.max(totals.rows_in)
}
