//! `report.html`: what a run did, as one page that needs nothing but itself.

mod axis;
mod by_source;
mod counts;
mod dag;
mod details;
pub(crate) mod html;
mod mixtures;
mod models;
mod near;
pub(crate) mod overlay;
mod plot;
mod rows;
#[cfg(test)]
pub(crate) mod samples;
mod thresholds;
pub(crate) mod trees;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use html::{esc, percent};
use near::Near;

pub(crate) use dag::is_output;

use crate::record::{RunRecord, StageRecord, StageTotals};
use crate::show::{self, count, share};

/// The report of a run, as an HTML page.
pub fn render(record: &RunRecord) -> String {
    render_with(record, &FromRows::default())
}

/// What a report shows of the rows of an output, as sections; empty where there is nothing of that kind.
#[derive(Debug, Default)]
pub(crate) struct FromRows {
    /// Rows that are pictures: see [`crate::gallery::of_output`].
    pub(crate) pictures: String,
    /// Rows that are nodes of a tree: see [`trees::of_output`].
    pub(crate) trees: String,
}

impl FromRows {
    /// What there is in the output of a run.
    pub(crate) fn of_output(output: &std::path::Path, record: &RunRecord) -> Self {
        Self { pictures: crate::gallery::of_output(output, record), trees: trees::of_output(output, record) }
    }
}

/// The same with rows of its output.
pub(crate) fn render_with(record: &RunRecord, FromRows { pictures, trees }: &FromRows) -> String {
    let styles: Vec<&str> = [(pictures, crate::gallery::STYLE), (trees, trees::STYLE)]
        .into_iter()
        .filter(|(section, _)| !section.is_empty())
        .map(|(_, style)| style)
        .collect();
    let figures = Figures::of(record);
    let nears = Near::all_of(record);
    let mut out = html::begin(&format!("{} · run report", show::visible_line(&record.name)), &styles);
    out.push_str("<a class=\"skip\" href=\"#graph\">Skip to the graph</a>\n");
    write_head(record, &figures, &mut out);
    out.push_str("<nav aria-label=\"Sections\"><ul>");
    for (id, title, is_there) in [
        ("graph", "Graph", true),
        ("pictures", "Pictures", !pictures.is_empty()),
        ("trees", "A tree", !trees.is_empty()),
        ("funnel", "Funnel", true),
        ("reasons", "Reasons", true),
        ("thresholds", "Thresholds", !thresholds::is_empty(record)),
        ("models", "Models", !models::is_empty(record)),
        ("near", "Near-duplicates", nears.iter().any(|near| !near.is_empty())),
        ("mixtures", "Mixtures", !mixtures::is_empty(record)),
        ("counts", "Counts", nears.iter().any(|near| !near.rest.is_empty())),
        ("lengths", "Lengths", true),
        ("sources", "Sources", true),
        ("samples", "Rows", true),
        ("cost", "Time and memory", true),
        ("settings", "Settings", true),
        ("about", "About this run", true),
    ] {
        if !is_there {
            continue;
        }
        let _ = write!(out, "<li><a href=\"#{id}\">{title}</a></li>");
    }
    out.push_str("</ul></nav>\n<main>\n");
    write_graph(record, &mut out);
    out.push_str(pictures);
    out.push_str(trees);
    write_funnel(record, &mut out);
    write_reasons(record, &mut out);
    thresholds::write(record, &mut out);
    models::write(record, &mut out);
    near::write(&nears, &mut out);
    mixtures::write(record, &mut out);
    counts::write(&nears, &mut out);
    rows::write_lengths(record, &mut out);
    rows::write_sources(record, &mut out);
    rows::write_samples(record, &mut out);
    details::write_cost(record, &mut out);
    details::write_settings(record, &mut out);
    details::write_about(record, &mut out);
    let _ = write!(
        out,
        "<footer>Made by Granary {} from run.json. This page is one file and works offline; <code>pipeline report OUTPUT</code> writes it again.</footer>\n</main>\n</body>\n</html>\n",
        esc(&record.granary)
    );
    out
}

/// The sums over a whole run.
struct Figures {
    read: u64,
    published: u64,
    dropped: u64,
    tagged: u64,
    rejected: u64,
}

impl Figures {
    fn of(record: &RunRecord) -> Self {
        let sum = |f: &dyn Fn(&StageRecord) -> u64| record.stages.iter().fold(0u64, |sum, stage| sum.saturating_add(f(stage)));
        Self {
            read: sum(&|stage| if stage.is_source() { stage.totals.rows_in } else { 0 }),
            published: sum(&|stage| if record.is_read(&stage.id) { 0 } else { stage.rows_given() }),
            dropped: sum(&|stage| stage.totals.dropped_rows()),
            tagged: sum(&|stage| stage.totals.tagged_rows()),
            rejected: sum(&|stage| stage.totals.rejected_rows()),
        }
    }
}

/// How a state is shown: class, word, what it means for the person.
fn state_of(record: &RunRecord) -> (&'static str, String, &'static str) {
    match record.state.as_str() {
        "done" => ("done", "done".to_owned(), ""),
        "failed" => {
            ("bad", "failed".to_owned(), "Mend the cause, then run the same command again: what is finished is kept and is not done again.")
        }
        "stopped" => (
            "held",
            "stopped".to_owned(),
            "It stopped tidily. Look at the rejected rows below, or raise the limit or the budget that was reached, then run the same command again: it goes on from what is finished.",
        ),
        "interrupted" => (
            "held",
            "interrupted".to_owned(),
            "Run the same command again: it goes on from what is finished, and the result is the same as without the interruption.",
        ),
        other => ("held", other.to_owned(), "The figures below are those of the moment this page was written."),
    }
}

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

fn write_head(record: &RunRecord, figures: &Figures, out: &mut String) {
    let (class, state, advice) = state_of(record);
    let _ = write!(
        out,
        "<header class=\"top\"><div class=\"kicker\"><span>Run report</span><span class=\"state {class}\">{}</span><span>{}</span></div>\n<h1><bdi>{}</bdi></h1>\n",
        esc(&state),
        esc(&record.started.replace('T', " ").replace('Z', " UTC")),
        esc(&show::visible_line(&record.name)),
    );
    let sources = record.stages.iter().filter(|stage| stage.is_source()).count() as u64;
    let _ = write!(
        out,
        "<p class=\"deck\"><b>{}</b> came in from {}, and <b class=\"keep\">{}</b> ({}) {} {} in {}.",
        plural(figures.read, "row", "rows"),
        plural(sources, "source", "sources"),
        plural(figures.published, "row", "rows"),
        share(figures.published, figures.read),
        if class == "done" { "went out, through" } else { "are left so far, after" },
        plural(record.stages.len() as u64, "stage", "stages"),
        show::duration(record.wall_seconds),
    );
    if let Some((stage, reason, n)) = largest_reason(record) {
        let _ = write!(
            out,
            " The largest loss was <b class=\"drop\">{}</b> in <b><bdi>{}</bdi></b>, which took {}.",
            esc(&show::visible_line(reason)),
            esc(&show::visible_line(&stage.id)),
            plural(n, "row", "rows"),
        );
    }
    out.push_str("</p>\n");
    if class != "done" {
        let _ = write!(out, "<div class=\"banner {class}\" role=\"alert\"><h3>This run is not done: {}</h3>", esc(&state));
        match &record.error {
            Some(error) => {
                let _ = write!(out, "<pre dir=\"auto\">{}</pre>", esc(error));
            }
            None => out.push_str("<p>No error was recorded.</p>"),
        }
        let _ = writeln!(
            out,
            "<p>{advice} Finished so far: {}.</p><p><code>pipeline run {}</code></p></div>",
            plural(record.tasks.done.saturating_add(record.tasks.reused), "task", "tasks"),
            esc(&show::visible_line(&record.file)),
        );
    }
    let cpu = if record.wall_seconds > 0.0 && record.cpu_seconds.is_finite() {
        format!("{:.1} of {} threads busy", (record.cpu_seconds / record.wall_seconds).min(record.threads as f64), record.threads)
    } else {
        format!("{} threads", record.threads)
    };
    let reused = if record.tasks.reused > 0 {
        format!("{} done, {} found done", plural(record.tasks.done, "task", "tasks"), count(record.tasks.reused))
    } else {
        plural(record.tasks.done, "task", "tasks")
    };
    let stages_with =
        |f: &dyn Fn(&StageRecord) -> u64| plural(record.stages.iter().filter(|stage| f(stage) > 0).count() as u64, "stage", "stages");
    let _ = writeln!(
        out,
        "<dl class=\"figures\">{}{}{}{}{}{}{}</dl>",
        figure("Rows in", "", &show::short_count(figures.read), &plural(sources, "source", "sources")),
        figure(
            "Rows out",
            "keep",
            &show::short_count(figures.published),
            &format!("{} {}rows in", share(figures.published, figures.read), if figures.published > figures.read { "" } else { "of " })
        ),
        figure(
            "Dropped",
            if figures.dropped > 0 { "drop" } else { "" },
            &show::short_count(figures.dropped),
            &match (figures.dropped, figures.tagged) {
                (0, 0) => "no stage decided against a row".to_owned(),
                (0, tagged) => format!("{} tagged instead, and went on", count(tagged)),
                (dropped, tagged) => {
                    let more = if tagged > 0 { format!("; {} tagged, and went on", count(tagged)) } else { String::new() };
                    format!("{}, in {}{more}", share(dropped, figures.read), stages_with(&|stage| stage.totals.dropped_rows()))
                }
            }
        ),
        figure(
            "Rejected",
            if figures.rejected > 0 { "reject" } else { "" },
            &show::short_count(figures.rejected),
            if figures.rejected > 0 { "could not be read or processed" } else { "every row could be read" }
        ),
        figure("Time", "", &show::duration(record.wall_seconds), &reused),
        figure("Rows per second", "", &show::rate(figures.read, record.wall_seconds), &cpu),
        figure(
            "Peak memory",
            "",
            &show::bytes(record.peak_memory_bytes),
            &if record.memory_bytes > 0 { format!("{} allowed", show::bytes(record.memory_bytes)) } else { String::new() }
        ),
    );
    write_strip(record, figures, out);
    out.push_str("</header>\n");
}

fn figure(name: &str, class: &str, value: &str, about: &str) -> String {
    format!("<div><dt>{name}</dt><dd class=\"{class}\">{value}<small>{}</small></dd></div>", esc(about))
}

fn largest_reason(record: &RunRecord) -> Option<(&StageRecord, &str, u64)> {
    let all = record.stages.iter().flat_map(|stage| stage.totals.dropped.iter().map(move |(reason, n)| (stage, reason.as_str(), *n)));
    all.filter(|(_, _, n)| *n > 0).max_by_key(|(_, _, n)| *n)
}

/// One bar of what became of every row, where rows are neither split nor joined so that the parts make up the whole.
fn write_strip(record: &RunRecord, figures: &Figures, out: &mut String) {
    let parts = figures.published.saturating_add(figures.dropped).saturating_add(figures.rejected);
    if figures.read == 0 || parts != figures.read {
        return;
    }
    let mut key = format!("<li><i class=\"b-keep\"></i>kept {}</li>", share(figures.published, figures.read));
    let mut bar = format!("<i class=\"b-keep\" style=\"width:{}%\"></i>", percent(figures.published, figures.read));
    for stage in &record.stages {
        let (dropped, id) = (stage.totals.dropped_rows(), esc(&show::visible_line(&stage.id)));
        if dropped > 0 {
            let _ = write!(bar, "<i class=\"b-drop\" style=\"width:{}%\" title=\"dropped by {id}\"></i>", percent(dropped, figures.read));
            let _ = write!(key, "<li><i class=\"b-drop\"></i>dropped by <bdi>{id}</bdi> {}</li>", share(dropped, figures.read));
        }
    }
    if figures.rejected > 0 {
        let _ = write!(bar, "<i class=\"b-reject\" style=\"width:{}%\"></i>", percent(figures.rejected, figures.read));
        let _ = write!(key, "<li><i class=\"b-reject\"></i>rejected {}</li>", share(figures.rejected, figures.read));
    }
    let _ = writeln!(
        out,
        "<div class=\"strip\" aria-hidden=\"true\">{bar}</div><ul class=\"key\" aria-label=\"What became of every row\">{key}</ul>"
    );
}

fn write_graph(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"graph\"><h2>How the rows went</h2>\n");
    if record.stages.is_empty() {
        out.push_str("<p class=\"empty\">The run ended before it had any stage to show.</p></section>\n");
        return;
    }
    out.push_str("<p class=\"lead\">Every edge is as wide as its rows are many. To the right of a stage: what it decided against. A stage leads to its settings.</p>\n");
    match dag::svg(record) {
        Some(svg) => {
            let _ = writeln!(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Graph\">{svg}</div>");
        }
        None => {
            let _ = writeln!(
                out,
                "<p class=\"empty\">{} are too many to draw; the table has them all.</p>",
                plural(record.stages.len() as u64, "stage", "stages")
            );
        }
    }
    out.push_str("<details><summary>The edges as a table</summary><table><thead><tr><th>From</th><th>Port</th><th>To</th><th class=\"n\">Rows</th></tr></thead><tbody>");
    let by_id: BTreeMap<&str, &StageRecord> = record.stages.iter().map(|stage| (stage.id.as_str(), stage)).collect();
    for stage in &record.stages {
        for (_, from, port) in stage.reads() {
            let rows = by_id.get(from).map_or(0, |from| from.totals.rows_through(port));
            write_edge(from, port, &stage.id, rows, out);
        }
        for published in &stage.published {
            let port = published.folder.rsplit_once('.').map_or("out", |(_, port)| port);
            let port = if published.folder.starts_with("dropped/") {
                "dropped"
            } else if published.folder.starts_with("rejected/") {
                "rejected"
            } else {
                port
            };
            write_edge(&stage.id, port, &format!("{}/", published.folder), published.rows, out);
        }
    }
    out.push_str("</tbody></table></details></section>\n");
}

fn write_edge(from: &str, port: &str, to: &str, rows: u64, out: &mut String) {
    let [from, port, to] = [from, port, to].map(|text| esc(&show::visible_line(text)));
    let _ = write!(
        out,
        "<tr><th scope=\"row\"><bdi>{from}</bdi></th><td><bdi>{port}</bdi></td><td><bdi>{to}</bdi></td><td class=\"n\">{}</td></tr>",
        count(rows)
    );
}

fn write_funnel(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"funnel\"><h2>The funnel</h2>\n");
    if record.stages.is_empty() {
        out.push_str("<p class=\"empty\">No stages.</p></section>\n");
        return;
    }
    out.push_str(
        "<p class=\"lead\">Stage by stage, in the order in which rows meet them; all bars have one scale.</p>\n\
         <ul class=\"key\"><li><i class=\"b-keep\"></i>went on</li>",
    );
    if record.stages.iter().any(|stage| stage.tags) {
        out.push_str("<li><i class=\"b-tag\"></i>went on, tagged</li>");
    }
    out.push_str(
        "<li><i class=\"b-side\"></i>went on through another port</li><li><i class=\"b-drop\"></i>dropped</li><li><i class=\"b-reject\"></i>rejected</li></ul>\n\
         <div class=\"scroll\"><table><thead><tr><th>Stage</th><th><span aria-hidden=\"true\">Rows</span></th><th class=\"n\">In</th><th class=\"n\">Out</th><th class=\"n\">Dropped</th><th class=\"n\">Rejected</th><th class=\"n\">Kept</th></tr></thead><tbody>\n",
    );
    let width_of = |stage: &StageRecord| {
        let left = stage.rows_given().saturating_add(stage.totals.dropped_rows()).saturating_add(stage.totals.rejected_rows());
        left.max(stage.totals.rows_in)
    };
    let most = record.stages.iter().map(width_of).max().unwrap_or(0);
    for stage in &record.stages {
        let totals = &stage.totals;
        let (through, given) = (totals.rows_through("out"), stage.rows_given());
        let (dropped, tagged, rejected) = (totals.dropped_rows(), totals.tagged_rows(), totals.rejected_rows());
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi> <small>{}</small></th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\">{}{}{}{}{}</div></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            esc(&show::visible_line(&stage.id)),
            esc(&show::visible_line(&stage.stage_type)),
            bar("b-keep", through.saturating_sub(tagged), most),
            bar("b-tag", tagged, most),
            bar("b-side", given.saturating_sub(through), most),
            bar("b-drop", dropped, most),
            bar("b-reject", rejected, most),
            count(totals.rows_in),
            count(given),
            if tagged > 0 { format!(" <small class=\"drop\">{} tagged</small>", count(tagged)) } else { String::new() },
            nothing_or(dropped, "drop"),
            nothing_or(rejected, "reject"),
            share(given, totals.rows_in),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

/// One piece of a bar.
fn bar(class: &str, part: u64, whole: u64) -> String {
    if part == 0 { String::new() } else { format!("<i class=\"{class}\" style=\"width:{}%\"></i>", percent(part, whole)) }
}

fn nothing_or(n: u64, class: &str) -> String {
    if n == 0 { "–".to_owned() } else { format!("<span class=\"{class}\">{}</span>", count(n)) }
}

fn write_reasons(record: &RunRecord, out: &mut String) {
    let tags = record.stages.iter().any(|stage| stage.totals.tagged_rows() > 0);
    let title = if tags { "Why rows did not go on, or went on tagged" } else { "Why rows did not go on" };
    let _ = writeln!(out, "<section id=\"reasons\"><h2>{title}</h2>");
    let has_reasons = |totals: &StageTotals| totals.dropped_rows() > 0 || totals.tagged_rows() > 0 || totals.rejected_rows() > 0;
    let stages: Vec<_> = record.stages.iter().filter(|stage| has_reasons(&stage.totals)).collect();
    if stages.is_empty() {
        out.push_str("<p class=\"empty\">No row was dropped and none rejected.</p></section>\n");
        return;
    }
    out.push_str("<p class=\"lead\">Dropped: a stage decided. Rejected: it could not be read or processed. Shares are of the rows that came into the stage; the rows themselves are in the folders named.</p>\n<div class=\"reasons\">\n");
    for stage in stages {
        let totals = &stage.totals;
        let folder = |kind: &str| stage.published.iter().find(|published| published.folder == format!("{kind}/{}", stage.id));
        let folders: Vec<String> =
            ["dropped", "rejected"].iter().filter_map(|kind| folder(kind)).map(|p| format!("<code>{}/</code>", esc(&p.folder))).collect();
        let _ = write!(
            out,
            "<div><h3><bdi>{}</bdi> <small class=\"folders\">{}</small></h3><table><tbody>",
            esc(&show::visible_line(&stage.id)),
            folders.join(" ")
        );
        let most = totals.dropped.values().chain(totals.tagged.values()).chain(totals.rejected.values()).copied().max().unwrap_or(0);
        for (reasons, class) in [(&totals.dropped, "drop"), (&totals.tagged, "tag"), (&totals.rejected, "reject")] {
            let mut reasons: Vec<_> = reasons.iter().filter(|(_, n)| **n > 0).collect();
            reasons.sort_by_key(|(reason, n)| (Reverse(**n), reason.as_str()));
            for (reason, n) in reasons {
                let _ = write!(
                    out,
                    "<tr><th scope=\"row\"><bdi>{}</bdi>{}</th><td class=\"bar\"><div class=\"stack\" aria-hidden=\"true\">{}</div></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                    esc(&show::visible_line(reason)),
                    match class {
                        "reject" => " <small class=\"reject\">rejected</small>",
                        "tag" => " <small class=\"drop\">tagged</small>",
                        _ => "",
                    },
                    bar(&format!("b-{class}"), *n, most),
                    count(*n),
                    share(*n, totals.rows_in),
                );
            }
        }
        out.push_str("</tbody></table></div>\n");
    }
    out.push_str("</div></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;

    /// Writes reports for looking at in a browser: `REPORT_SAMPLES=folder cargo test -p pipeline report`.
    fn keep(name: &str, page: &str) {
        if let Some(folder) = std::env::var_os("REPORT_SAMPLES") {
            std::fs::write(std::path::Path::new(&folder).join(name), page).unwrap();
        }
    }

    #[test]
    fn a_report_has_every_figure_and_needs_nothing_but_itself() {
        let record = samples::web();
        let page = render(&record);
        keep("web.html", &page);
        for wanted in [
            "412,120",
            "233,963",
            "jaccard_threshold",
            "too_short",
            "duplicate",
            "Peak memory",
            "dedup_minhash",
            "web-sft",
            "holdout",
            "bad_json",
        ] {
            assert!(page.contains(wanted), "{wanted} is not in the page");
        }
        for stage in &record.stages {
            assert!(page.contains(&format!(">{}</text>", stage.id)), "{} is not in the graph", stage.id);
        }
        assert!(!page.contains("<script") && !page.contains("@import") && !page.contains("url(") && !page.contains("src="));
        let links = page.matches("href=\"").count();
        assert_eq!(links, page.matches("href=\"#").count() + page.matches("href=\"data:,\"").count(), "a link leads out of the page");
        assert_eq!(page, render(&record));
    }

    #[test]
    fn every_anchor_leads_somewhere() {
        let page = render(&samples::web());
        for anchor in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(page.matches(&format!("id=\"{anchor}\"")).count(), 1, "#{anchor}");
        }
    }

    #[test]
    fn tags_are_balanced() {
        for page in [render(&samples::web()), render(&samples::empty()), render(&samples::hostile()), render(&samples::failed())] {
            for tag in [
                "h3", "h4", "thead", "tbody", "i", "b", "small", "bdi", "section", "table", "div", "dl", "dd", "details", "svg", "a", "g",
                "pre", "ul", "p", "th", "td", "tr", "text",
            ] {
                let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
            }
        }
    }

    #[test]
    fn nothing_in_the_data_becomes_markup_or_hides_text() {
        let page = render(&samples::hostile());
        keep("hostile.html", &page);
        assert!(!page.contains("<script"), "markup got through");
        assert!(!page.contains("<img") && !page.contains("onerror=\""));
        assert!(page.contains("&lt;script&gt;"));
        let hidden: Vec<char> =
            page.chars().filter(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c) || *c == '\u{2066}').collect();
        assert!(hidden.is_empty() || hidden.iter().all(|c| *c == '\t'), "{hidden:?}");
        // What was planted in every string of the record is there as text wherever it is shown, and quotes end no attribute.
        assert!(page.contains("⟨U+202E⟩"));
        assert!(!page.contains(samples::PLANTED));
        assert!(!page.contains("x\"'>"), "a quote got through");
        // It reaches every part of the near-duplicates, and the table of what no part knows.
        for section in ["thresholds", "near", "counts"] {
            let section = page.split(&format!("<section id=\"{section}\">")).nth(1).and_then(|rest| rest.split("</section>").next());
            assert!(section.unwrap().contains("&lt;script&gt;"));
        }
    }

    #[test]
    fn a_run_that_failed_says_why_and_how_to_go_on() {
        let page = render(&samples::failed());
        keep("failed.html", &page);
        assert!(page.contains("This run is not done: failed"));
        assert!(page.contains("No space left on device"));
        assert!(page.contains("pipeline run web.yaml"));
        assert!(!render(&samples::web()).contains("This run is not done"));
    }

    #[test]
    fn an_empty_run_and_a_record_of_extremes_have_a_report() {
        let page = render(&samples::empty());
        keep("empty.html", &page);
        assert!(page.contains("No row was dropped"));
        let mut record = samples::web();
        for stage in &mut record.stages {
            stage.totals.rows_in = u64::MAX;
            stage.totals.rows_out = [("out".to_owned(), u64::MAX), ("dropped".to_owned(), u64::MAX)].into();
            stage.totals.dropped = [("a".to_owned(), u64::MAX), (String::new(), u64::MAX)].into();
            stage.totals.rejected = [("a".to_owned(), u64::MAX), ("b".to_owned(), u64::MAX)].into();
            stage.totals.busy_seconds = f64::INFINITY;
            stage.totals.bytes_out = u64::MAX;
            stage.totals.profile.lengths = [(0, u64::MAX), (255, u64::MAX)].into();
            stage.totals.profile.sources = [(String::new(), u64::MAX), ("b".to_owned(), u64::MAX)].into();
            stage.totals.figures = samples::extreme_figures();
            stage.totals.measured = samples::extreme_measures();
            stage.totals.profile.kept = vec![Sample {
                order: 0,
                id: String::new(),
                values: Vec::new(),
                drop_value: None,
                drop_threshold: None,
                duplicate_of: None,
            }];
        }
        record.wall_seconds = f64::NAN;
        record.cpu_seconds = -1.0;
        record.peak_memory_bytes = u64::MAX;
        record.stages.extend(record.stages.clone());
        let page = render(&record);
        keep("extreme.html", &page);
        assert!(page.len() < 4 << 20, "{} bytes", page.len());
        assert!(!page.contains("NaN") && !page.contains("=\"inf") && !page.contains(":inf"), "a number that no browser draws");
    }

    #[test]
    fn graphs_of_one_and_of_sixty_stages_are_drawn() {
        for n in [1, 12, 60] {
            let page = render(&samples::wide(n));
            keep(&format!("wide{n}.html"), &page);
            assert_eq!(page.matches("class=\"node").count() - page.matches("class=\"node output").count(), n);
        }
    }
}
