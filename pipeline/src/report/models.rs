//! What models were asked, and what it cost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use stages::llm::LlmBudget;

use super::html::{esc, percent};
use crate::record::{LlmRecord, RunRecord, StageRecord};
use crate::run::asked::{budget_left, money};
use crate::show::{self, count, share};

/// Figures of a stage that asks: answers, and tokens of all of them, used or not, by model.
const FIGURES: [&str; 4] = ["answers", "asked_again", "prompt_tokens", "completion_tokens"];

/// Whether a figure of this stage is told here.
pub(super) fn is_told(stage: &StageRecord, figure: &str) -> bool {
    FIGURES.contains(&figure) && asks(stage)
}

/// Whether a stage asked a model.
fn asks(stage: &StageRecord) -> bool {
    stage.totals.figures.contains_key("answers") && stage.totals.figures.contains_key("completion_tokens")
}

pub(super) fn is_empty(record: &RunRecord) -> bool {
    record.llms.is_empty() && !record.stages.iter().any(asks)
}

pub(super) fn write(record: &RunRecord, out: &mut String) {
    if is_empty(record) {
        return;
    }
    out.push_str("<section id=\"models\"><h2>Models</h2>\n");
    if !record.llms.is_empty() {
        out.push_str(
            "<p class=\"lead\">What this run asked. An answer that is stored is never asked for again, and costs nothing.</p>\n\
             <div class=\"scroll\"><table><thead><tr><th>Model</th><th class=\"n\">Requests sent</th><th class=\"n\">New answers</th><th class=\"n\">Stored answers</th>\
             <th class=\"n\">Sent again</th><th class=\"n\">Throttled</th><th class=\"n\">Tokens in</th><th class=\"n\">Tokens out</th><th class=\"n\">Cost</th></tr></thead><tbody>",
        );
        for (name, llm) in &record.llms {
            write_model(name, llm, out);
        }
        out.push_str("</tbody></table></div>\n");
        for (name, llm) in &record.llms {
            write_spent(name, llm, out);
            for warning in &llm.warnings {
                let _ = write!(out, "<p class=\"note\"><b><bdi>{}</bdi></b>: <bdi>{}</bdi></p>", text(name), text(warning));
            }
        }
    }
    let stages: Vec<_> = record.stages.iter().filter(|stage| asks(stage)).collect();
    if !stages.is_empty() {
        out.push_str(
            "<h3>By stage</h3>\n<p class=\"lead\">Answers that rows were made of or refused for, whichever run was given them; those asked for again could not be used, and were paid for.</p>\n\
             <div class=\"scroll\"><table><thead><tr><th>Stage</th><th>Model</th><th class=\"n\">Answers</th><th class=\"n\">Asked again</th><th class=\"n\">Tokens in</th>\
             <th class=\"n\">Tokens out</th><th class=\"n\">Each answer</th><th class=\"n\">Cost</th><th>Rejected rows</th></tr></thead><tbody>",
        );
        for stage in stages {
            write_stage(record, stage, out);
        }
        out.push_str("</tbody></table></div>\n");
    }
    out.push_str("</section>\n");
}

fn text(text: &str) -> String {
    esc(&show::visible_line(text))
}

fn write_model(name: &str, llm: &LlmRecord, out: &mut String) {
    let figures = &llm.figures;
    let revision = llm.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
    let _ = write!(
        out,
        "<tr><th scope=\"row\"><bdi>{}</bdi> <small><bdi>{}</bdi></small></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
        text(name),
        text(&format!("{}{revision}", llm.model)),
        count(figures.requests),
        count(figures.answers),
        count(figures.stored),
    );
    for (n, class) in [(figures.retries, "drop"), (figures.throttled, "drop")] {
        let _ = write!(out, "<td class=\"n\">{}</td>", super::nothing_or(n, class));
    }
    let cost = if llm.price.is_some() { money_text(figures.cost) } else { "–".to_owned() };
    let _ = write!(
        out,
        "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{cost}</td></tr>",
        count(figures.prompt_tokens),
        count(figures.completion_tokens)
    );
}

/// What the output has spent in all its runs, against its budget.
fn write_spent(name: &str, llm: &LlmRecord, out: &mut String) {
    let spent = &llm.figures.spent;
    let LlmBudget { max_requests, max_tokens, max_cost } = &llm.budget;
    let of = |most: Option<String>| most.map(|most| format!(" of {most}")).unwrap_or_default();
    let mut parts = vec![
        format!("{} requests{}", count(spent.requests), of(max_requests.map(count))),
        format!("{} tokens{}", count(spent.tokens), of(max_tokens.map(count))),
    ];
    if llm.price.is_some() {
        parts.push(format!("cost {}{}", money_text(spent.cost), of(max_cost.map(money_text))));
    }
    let _ = write!(out, "<p class=\"lead\"><b><bdi>{}</bdi></b> in all runs of this output: {}", text(name), esc(&parts.join(", ")));
    if let Some(left) = budget_left(&llm.budget, spent).filter(|left| left.is_finite()) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share in thousandths")]
        let used = ((1.0 - left.clamp(0.0, 1.0)) * 1000.0).round() as u64;
        let class = if left > 0.1 { "b-keep" } else { "b-drop" };
        let _ = write!(
            out,
            " – {} of the budget is used.</p>\n<div class=\"stack budget\" aria-hidden=\"true\"><i class=\"{class}\" style=\"width:{}%\"></i></div>",
            share(used, 1000),
            percent(used, 1000)
        );
    } else {
        out.push_str(".</p>\n");
    }
}

fn money_text(cost: f64) -> String {
    if cost.is_finite() { money(cost) } else { "?".to_owned() }
}

fn write_stage(record: &RunRecord, stage: &StageRecord, out: &mut String) {
    let none = BTreeMap::new();
    let figure = |name: &str| stage.totals.figures.get(name).unwrap_or(&none);
    let [answers, again, prompt, completion] = FIGURES.map(figure);
    let rejected: Vec<String> = stage
        .totals
        .rejected
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| format!("<span class=\"reject\"><bdi>{}</bdi> {}</span>", text(reason), count(*n)))
        .collect();
    let rejected = if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") };
    for (index, (model, n)) in answers.iter().enumerate() {
        let of = |figure: &BTreeMap<String, u64>| figure.get(model).copied().unwrap_or_default();
        let cost = record.llms.get(model).and_then(|llm| llm.price).map(|price| price.of(of(prompt), of(completion)));
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi> <small>{}</small></th><td><bdi>{}</bdi></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} tokens</td><td class=\"n\">{}</td><td>{}</td></tr>",
            text(&stage.id),
            text(&stage.stage_type),
            text(model),
            count(*n),
            match of(again) {
                0 => "–".to_owned(),
                again => format!("<span class=\"drop\">{}</span> <small>{}</small>", count(again), share(again, *n)),
            },
            count(of(prompt)),
            count(of(completion)),
            count(of(completion) / (*n).max(1)),
            cost.map_or_else(|| "–".to_owned(), money_text),
            if index == 0 { rejected.as_str() } else { "" },
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{render, samples};

    #[test]
    fn models_are_told_by_themselves_and_by_stage_and_nowhere_else() {
        let record = samples::trees();
        let page = render(&record);
        if let Some(folder) = std::env::var_os("REPORT_SAMPLES") {
            std::fs::write(std::path::Path::new(&folder).join("models.html"), &page).unwrap();
        }
        let section = page.split("<section id=\"models\">").nth(1).and_then(|rest| rest.split("</section>").next()).expect("it is there");
        for wanted in ["smollm2-135m-instruct", "1,204", "31,004", "unusable_answer", "of the budget is used", "0.065"] {
            assert!(section.contains(wanted), "{wanted} is not in {section}");
        }
        assert!(page.contains("href=\"#models\"") && !page.contains("id=\"counts\""), "what is told here is told once");
        assert!(!render(&samples::web()).contains("id=\"models\""));
        let mut odd = record;
        let llm = odd.llms.get_mut("local").expect("it is there");
        (llm.figures.cost, llm.figures.spent.cost, llm.budget.max_cost) = (f64::NAN, f64::INFINITY, Some(0.0));
        llm.warnings.push(samples::PLANTED.to_owned());
        let page = render(&odd);
        assert!(!page.contains("NaN") && !page.contains(":inf") && !page.contains("<script"));
    }
}
