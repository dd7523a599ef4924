//! What a stage that asks tells the report of the answers it got.

use super::{Answer, Llm};
use crate::Emit;

/// Counts the answers to one request for the report, used or not: all that one `ask_until` gave, or that its refusal holds.
pub fn count(out: &mut Emit, llm: &Llm, answers: &[Answer]) {
    let tokens = |of: fn(&Answer) -> u64| answers.iter().map(of).fold(0, u64::saturating_add);
    out.count("answers", llm.name(), answers.len() as u64);
    out.count("prompt_tokens", llm.name(), tokens(|answer| answer.usage.prompt_tokens));
    out.count("completion_tokens", llm.name(), tokens(|answer| answer.usage.completion_tokens));
    let again = answers.len().saturating_sub(1) as u64;
    if again > 0 {
        out.count("asked_again", llm.name(), again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outputs;
    use crate::llm::{AnswerKey, LlmSettings, Origin, Usage};

    #[test]
    fn every_answer_counts_and_all_but_the_first_were_asked_again() {
        let answer = |tokens: u64| Answer {
            text: String::new(),
            cut: false,
            usage: Usage { prompt_tokens: 10 * tokens, completion_tokens: tokens, guessed: false },
            key: AnswerKey([0; 16]),
            origin: Origin::Endpoint,
        };
        let llm = Llm::new("local", LlmSettings::of_model("m"));
        let mut out = Emit::new(Outputs::new(arrow::datatypes::Schema::empty().into()));
        count(&mut out, &llm, &[answer(1), answer(2), answer(4)]);
        count(&mut out, &llm, &[answer(8)]);
        count(&mut out, &llm, &[]);
        let figures = out.take_figures();
        let figure = |name: &str| figures[name]["local"];
        assert_eq!((figure("answers"), figure("prompt_tokens"), figure("completion_tokens"), figure("asked_again")), (4, 150, 15, 2));
    }
}
