//! The models of a run: ready to be asked from its beginning, and closed at its end, however it ends.

use std::path::Path;
use std::sync::Arc;

use datasets::remote::Address;
use stages::StageError;
use stages::llm::{LlmSession, Llms};

use super::context::Context;
use super::log::{About, FOLDER, Level};
use super::{Options, RunError};

/// Models that can be asked until this is dropped.
pub(super) struct Asking(Llms);

impl Asking {
    /// Makes the models ready that stages of the run ask; no stage, nothing done.
    ///
    /// # Errors
    /// Answers that cannot be read, say.
    pub(super) fn begin(cx: &Context, options: &Options) -> Result<Self, RunError> {
        let asking = Self(cx.llms.clone());
        if cx.llms.iter().next().is_none() {
            return Ok(asking);
        }
        let (graph, output) = (&cx.graph, cx.store.root());
        let file = std::path::absolute(&graph.file).unwrap_or_else(|_| graph.file.clone());
        let session = LlmSession {
            answers: graph.answers.clone(),
            account: account(&graph.answers, output),
            offline: options.offline_llm,
            base_dir: file.parent().unwrap_or(Path::new("")).to_owned(),
            logs: (!cx.store.is_remote()).then(|| cx.store.path_of(FOLDER).join("llms")),
            runtime: cx.runtime.clone(),
            interrupted: Arc::clone(&cx.interrupted),
        };
        for (name, llm) in cx.llms.iter() {
            let offline = if options.offline_llm { ", stored answers only" } else { "" };
            cx.log.line(
                Level::Info,
                About::RUN,
                format!("model `{name}`: {}, account `{}`{offline}", llm.settings().model, session.account),
            );
        }
        asking.0.open(&session).map_err(|error| match error {
            StageError::Stopped { problem, help } => RunError::Stopped { stage: stages_that_ask(cx), problem, help },
            StageError::Interrupted => RunError::Interrupted,
            error => RunError::Models(error),
        })?;
        Ok(asking)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What an output's spending is booked to. Answers and outputs that are moved together keep it.
fn account(answers: &Path, output: &Path) -> String {
    if Address::of(output).is_some() {
        return output.to_string_lossy().into_owned();
    }
    let relative = answers.parent().and_then(|folder| output.strip_prefix(folder).ok()).filter(|rest| !rest.as_os_str().is_empty());
    relative.unwrap_or(output).to_string_lossy().into_owned()
}

fn stages_that_ask(cx: &Context) -> String {
    let asking = cx.plan.active.iter().map(|&node| &cx.graph.nodes[node]).filter(|node| !node.models.is_empty());
    asking.map(|node| node.id.as_str()).collect::<Vec<_>>().join("`, `")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_its_account_where_it_is_moved_with_the_answers() {
        let of = |answers: &str, output: &str| account(Path::new(answers), Path::new(output));
        assert_eq!(of("/p/out/.answers", "/p/out/sft"), "sft");
        assert_eq!(of("/q/out/.answers", "/q/out/sft"), "sft");
        assert_eq!(of("/shared/answers", "/p/out/sft"), "/p/out/sft");
        assert_eq!(of("/p/out/.answers", "s3://bucket/sft"), "s3://bucket/sft");
        assert_ne!(of("/p/out/.answers", "/p/out/sft"), of("/p/out/.answers", "/p/out/sft.limit5"));
    }
}
