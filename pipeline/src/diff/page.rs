//! The page that shows two runs against each other.

use std::fmt::Write as _;

use stages::Measured;

use super::{Changed, Counts, Diff, Line, Pair};
use crate::record::{RunRecord, StageRecord};
use crate::report::html::{begin, esc};
use crate::report::overlay;
use crate::show::{self, count};

/// Lines around a change of the recipe that are shown.
const CONTEXT: usize = 3;

/// Findings at the top of the page.
const MAX_FINDINGS: usize = 200;

const MAX_PLOTS: usize = 48;

pub(super) fn render(diff: &Diff<'_>) -> String {
    let name = one_line(&diff.now.record.name);
    let mut out = begin(&format!("{} · two runs", show::visible_line(&diff.now.record.name)), &[include_str!("page.css")]);
    let _ = writeln!(
        out,
        "<header class=\"top\"><div class=\"kicker\"><span>Two runs</span><span class=\"state {}\">{}</span></div>\n<h1><bdi>{name}</bdi></h1>",
        if diff.is_equal() { "done" } else { "held" },
        if diff.is_equal() { "equal" } else { "different" },
    );
    write_verdict(diff, &mut out);
    out.push_str("</header>\n<nav aria-label=\"Sections\"><ul>");
    let has_plots = diff.stages.iter().any(|pair| measures(pair).next().is_some());
    for (id, title, is_there) in [
        ("recipe", "Recipe", true),
        ("settings", "Settings", true),
        ("rows", "Rows", true),
        ("reasons", "Reasons", true),
        ("numbers", "Numbers", has_plots),
        ("cost", "Time and memory", true),
        ("files", "Files", true),
        ("about", "The runs", true),
    ] {
        if is_there {
            let _ = write!(out, "<li><a href=\"#{id}\">{title}</a></li>");
        }
    }
    out.push_str("</ul></nav>\n<main>\n");
    write_recipe(diff, &mut out);
    write_settings(diff, &mut out);
    write_rows(diff, &mut out);
    write_reasons(diff, &mut out);
    if has_plots {
        write_numbers(diff, &mut out);
    }
    write_cost(diff, &mut out);
    write_files(diff, &mut out);
    write_about(diff, &mut out);
    out.push_str("<footer>Made by <code>pipeline report OUTPUT --diff OTHER</code> from the run.json of both. This page is one file and works offline.</footer>\n</main>\n</body>\n</html>\n");
    out
}

fn one_line(text: &str) -> String {
    esc(&show::visible_line(&show::cut(text, 200)))
}

fn write_verdict(diff: &Diff<'_>, out: &mut String) {
    let [before, now] = [diff.before, diff.now].map(|run| format!("<code><bdi>{}</bdi></code>", one_line(run.folder)));
    let _ = writeln!(out, "<p class=\"deck\">What is different in {now} (now) from {before} (before).</p>");
    if diff.is_equal() {
        out.push_str(
            "<div class=\"verdict-equal\"><h3>The two runs are equal</h3><p>Recipe, settings and versions, the rows of every stage, reasons, numbers, sampled rows, and the files to the byte. \
             Only what they took is told below. What stands in the files is not read.</p></div>\n",
        );
        return;
    }
    let n = diff.findings.len();
    let _ = write!(
        out,
        "<div class=\"banner held\"><h3>{} {}</h3><ul class=\"findings\">",
        count(n as u64),
        if n == 1 { "difference" } else { "differences" }
    );
    for finding in diff.findings.iter().take(MAX_FINDINGS) {
        let _ = write!(out, "<li><bdi>{}</bdi></li>", esc(finding));
    }
    out.push_str("</ul>");
    if n > MAX_FINDINGS {
        let _ = write!(out, "<p>… and {} more, in the tables below.</p>", count((n - MAX_FINDINGS) as u64));
    }
    out.push_str("</div>\n");
}

fn write_recipe(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"recipe\"><h2>The recipe</h2>\n");
    let [gone, new] = diff.recipe_changes();
    if gone + new == 0 {
        let _ = writeln!(out, "<p class=\"empty\">The two pipeline files are the same, line by line.</p></section>");
        return;
    }
    let _ = write!(
        out,
        "<p class=\"lead\"><b>{new}</b> {} new, <b>{gone}</b> gone.</p><pre class=\"lines\">",
        if new == 1 { "line is" } else { "lines are" }
    );
    let is_same = |line: &Line<'_>| matches!(line, Line::Same(_));
    let is_near = |at: usize| {
        let range = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(diff.recipe.len());
        diff.recipe[range].iter().any(|line| !is_same(line))
    };
    let mut left_out = 0;
    for (at, line) in diff.recipe.iter().enumerate() {
        let (class, sign, text) = match line {
            Line::Same(_) if !is_near(at) => {
                left_out += 1;
                continue;
            }
            Line::Same(text) => ("same-line", ' ', text),
            Line::Gone(text) => ("gone", '−', text),
            Line::New(text) => ("new", '+', text),
        };
        write_left_out(&mut left_out, out);
        let _ = write!(out, "<i class=\"{class}\">{sign} {}</i>", esc(text));
    }
    write_left_out(&mut left_out, out);
    out.push_str("</pre></section>\n");
}

fn write_left_out(n: &mut usize, out: &mut String) {
    if *n > 0 {
        let _ = write!(
            out,
            "<i class=\"skip-lines\">  {} {}</i>",
            count(*n as u64),
            if *n == 1 { "line that is the same" } else { "lines that are the same" }
        );
        *n = 0;
    }
}

fn stage_name(pair: &Pair<'_>) -> String {
    let stage_type = pair.either().map_or("", |stage| stage.stage_type.as_str());
    let only = match (pair.before, pair.now) {
        (None, _) => " <small class=\"up\">new</small>",
        (_, None) => " <small class=\"down\">gone</small>",
        _ => "",
    };
    format!("<bdi>{}</bdi> <small>{}</small>{only}", one_line(pair.id()), one_line(stage_type))
}

fn write_settings(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"settings\"><h2>Stages and their settings</h2>\n");
    let run = |record: &RunRecord| [("program", record.granary.clone()), ("seed", record.seed.to_string())];
    let of_run: Vec<Changed> = run(diff.before.record)
        .into_iter()
        .zip(run(diff.now.record))
        .filter(|((_, before), (_, now))| before != now)
        .map(|((what, before), (_, now))| Changed { what: what.to_owned(), before: Some(before), now: Some(now) })
        .collect();
    let changed: Vec<&Pair<'_>> =
        diff.stages.iter().filter(|pair| !pair.settings.is_empty() || pair.before.is_none() || pair.now.is_none()).collect();
    if changed.is_empty() && of_run.is_empty() {
        out.push_str("<p class=\"empty\">The same stages, with the same settings, of the same versions.</p></section>\n");
        return;
    }
    out.push_str("<div class=\"scroll\"><table><thead><tr><th>Stage</th><th>Setting</th><th>Before</th><th>Now</th></tr></thead><tbody>\n");
    let mut write_row = |stage: &str, changed: &Changed| {
        let value = |value: &Option<String>| {
            value.as_deref().map_or_else(|| "<span class=\"same\">–</span>".to_owned(), |value| format!("<code>{}</code>", one_line(value)))
        };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{stage}</th><td><bdi>{}</bdi></td><td>{}</td><td>{}</td></tr>",
            one_line(&changed.what),
            value(&changed.before),
            value(&changed.now)
        );
    };
    of_run.iter().for_each(|changed| write_row("the run", changed));
    for pair in changed {
        let name = stage_name(pair);
        if pair.before.is_none() || pair.now.is_none() {
            let is_there = |stage: Option<&StageRecord>| stage.map(|stage| stage.stage_type.clone());
            write_row(&name, &Changed { what: "use".to_owned(), before: is_there(pair.before), now: is_there(pair.now) });
        }
        for (row, changed) in pair.settings.iter().enumerate() {
            write_row(if row == 0 { &name } else { "" }, changed);
        }
    }
    out.push_str("</tbody></table></div></section>\n");
}

/// A count of both runs: what it is now, and the change below it.
fn cell(counts: Counts) -> String {
    cell_as(counts, count)
}

fn cell_as(counts: Counts, text: fn(u64) -> String) -> String {
    if !counts.differ() {
        return format!("<td class=\"n\"><span class=\"same\">{}</span></td>", text(counts.now));
    }
    let class = if counts.now > counts.before { "up" } else { "down" };
    format!(
        "<td class=\"n\">{}<small>was {}</small><small class=\"{class}\">{}</small></td>",
        text(counts.now),
        text(counts.before),
        counts.change_as(text)
    )
}

fn write_rows(diff: &Diff<'_>, out: &mut String) {
    out.push_str(
        "<section id=\"rows\"><h2>Rows, stage by stage</h2>\n<p class=\"lead\">What is grey is the same in both.</p>\n\
         <div class=\"scroll\"><table class=\"now-then\"><thead><tr><th>Stage</th><th class=\"n\">In</th><th class=\"n\">Out</th><th class=\"n\">Dropped</th><th class=\"n\">Rejected</th><th class=\"n\">Kept</th></tr></thead><tbody>\n",
    );
    for pair in &diff.stages {
        let (rows_in, given) = (pair.counts(|stage| stage.totals.rows_in), pair.counts(StageRecord::rows_given));
        let (was, is) = (show::share(given.before, rows_in.before), show::share(given.now, rows_in.now));
        let kept = if was == is { format!("<span class=\"same\">{is}</span>") } else { format!("{is}<small>was {was}</small>") };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th>{}{}{}{}<td class=\"n\">{kept}</td></tr>",
            stage_name(pair),
            cell(rows_in),
            cell(given),
            cell(pair.counts(|stage| stage.totals.dropped_rows())),
            cell(pair.counts(|stage| stage.totals.rejected_rows())),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn write_reasons(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"reasons\"><h2>Why rows did not go on</h2>\n");
    let rows: Vec<String> = diff
        .stages
        .iter()
        .flat_map(|pair| {
            let dropped = pair.named(|stage| &stage.totals.dropped).into_iter().map(|reason| (reason, "dropped", "drop"));
            let rejected = pair.named(|stage| &stage.totals.rejected).into_iter().map(|reason| (reason, "rejected", "reject"));
            let row = move |((reason, counts), what, class): ((&str, Counts), &str, &str)| {
                format!(
                    "<tr><th scope=\"row\">{}</th><td><bdi>{}</bdi> <small class=\"{class}\">{what}</small></td>{}</tr>\n",
                    stage_name(pair),
                    one_line(reason),
                    cell(counts)
                )
            };
            dropped.chain(rejected).map(row).collect::<Vec<_>>()
        })
        .collect();
    if rows.is_empty() {
        out.push_str("<p class=\"empty\">No row was dropped and none rejected, in either run.</p></section>\n");
        return;
    }
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><table class=\"now-then\"><thead><tr><th>Stage</th><th>Reason</th><th class=\"n\">Rows</th></tr></thead><tbody>\n{}</tbody></table></div></section>",
        rows.concat()
    );
}

/// The numbers that both runs measured.
fn measures<'d>(pair: &'d Pair<'_>) -> impl Iterator<Item = (&'d str, &'d Measured, &'d Measured)> {
    let (before, now) = (pair.before.map(|stage| &stage.totals.measured), pair.now.map(|stage| &stage.totals.measured));
    let both = before.zip(now).into_iter();
    both.flat_map(|(before, now)| now.iter().filter_map(|(name, now)| Some((name.as_str(), before.get(name)?, now))))
}

fn write_numbers(diff: &Diff<'_>, out: &mut String) {
    out.push_str(
        "<section id=\"numbers\"><h2>The numbers that stages decide by</h2>\n\
         <p class=\"lead\">Bars: now. Outline: before. Each as a share of all that was measured, so that a larger run looks like a smaller one of the same data.</p>\n<div class=\"near\">\n",
    );
    let mut left = MAX_PLOTS;
    for pair in &diff.stages {
        for (name, before, now) in measures(pair) {
            if left == 0 {
                continue;
            }
            left -= 1;
            let _ = write!(out, "<div><h4><bdi>{}</bdi> · <bdi>{}</bdi></h4>", one_line(pair.id()), one_line(name));
            if before == now {
                out.push_str("<p>The same in both.</p>");
            }
            overlay::write(before, now, out);
            out.push_str("</div>\n");
        }
    }
    out.push_str("</div></section>\n");
}

/// `41 % less`, of times and memory, which are never quite the same.
fn times(before: f64, now: f64) -> String {
    if !(before > 0.0 && before.is_finite() && now.is_finite() && now >= 0.0) {
        return String::new();
    }
    let change = (now - before) / before;
    if change.abs() < 0.005 {
        "<small class=\"same\">the same</small>".to_owned()
    } else if change < 0.0 {
        format!("<small class=\"up\">{:.0} % less</small>", -change * 100.0)
    } else if change < 9.0 {
        format!("<small class=\"down\">{:.0} % more</small>", change * 100.0)
    } else {
        format!("<small class=\"down\">{} ×</small>", show::number((change + 1.0).round()))
    }
}

fn write_cost(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"cost\"><h2>Time and memory</h2>\n");
    let [before, now] = diff.reused();
    if (before, now) != (0, 0) {
        let _ = writeln!(
            out,
            "<p class=\"note\">Tasks found done, and not done again: <b>{}</b> before, <b>{}</b> now. Time and memory of the run are without them; busy time of a stage is with them.</p>",
            count(before),
            count(now)
        );
    }
    out.push_str("<div class=\"scroll\"><table class=\"now-then\"><thead><tr><th></th><th class=\"n\">Before</th><th class=\"n\">Now</th></tr></thead><tbody>\n");
    let (a, b) = (diff.before.record, diff.now.record);
    let mut write_row = |name: &str, text: fn(f64) -> String, before: f64, now: f64| {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{}</td><td class=\"n\">{}{}</td></tr>",
            text(before),
            text(now),
            times(before, now)
        );
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes that came from a u64")]
    let bytes = |n: f64| show::bytes(n as u64);
    write_row("Whole run, by the clock", show::duration, a.wall_seconds, b.wall_seconds);
    write_row("Processor time", show::duration, a.cpu_seconds, b.cpu_seconds);
    write_row("Peak memory", bytes, a.peak_memory_bytes as f64, b.peak_memory_bytes as f64);
    for pair in diff.stages.iter().filter(|pair| pair.before.is_some() && pair.now.is_some()) {
        let busy = |stage: Option<&StageRecord>| stage.map_or(0.0, |stage| stage.totals.busy_seconds);
        write_row(&format!("{}, busy", stage_name(pair)), show::duration, busy(pair.before), busy(pair.now));
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn write_files(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"files\"><h2>Files</h2>\n");
    let folders: Vec<_> = diff.stages.iter().flat_map(Pair::folders).collect();
    if folders.is_empty() {
        out.push_str("<p class=\"empty\">Neither run published anything.</p></section>\n");
        return;
    }
    out.push_str("<div class=\"scroll\"><table class=\"now-then\"><thead><tr><th>Folder</th><th class=\"n\">Files</th><th class=\"n\">Rows</th><th class=\"n\">Bytes</th></tr></thead><tbody>\n");
    for (folder, [files, rows, bytes]) in folders {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}/</code></th>{}{}{}</tr>",
            one_line(folder),
            cell(files),
            cell(rows),
            cell_as(bytes, show::bytes)
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn write_about(diff: &Diff<'_>, out: &mut String) {
    out.push_str("<section id=\"about\"><h2>The two runs</h2>\n<div class=\"scroll\"><table><thead><tr><th></th><th>Before</th><th>Now</th></tr></thead><tbody>\n");
    let facts = |run: super::Run<'_>| {
        let record = run.record;
        [
            ("Folder", run.folder.to_owned()),
            ("Name", record.name.clone()),
            ("File", record.file.clone()),
            ("State", record.state.clone()),
            ("Started", record.started.clone()),
            ("Granary", record.granary.clone()),
            ("Seed", record.seed.to_string()),
            ("Stages", count(record.stages.len() as u64)),
            ("Threads", record.threads.to_string()),
            ("Memory allowed", show::bytes(record.memory_bytes)),
            ("Machine", format!("{} cores, {}, {}", record.machine.cores, record.machine.os, record.machine.arch)),
            ("Device", record.device.as_ref().map_or_else(|| "no kernels".to_owned(), ToString::to_string)),
        ]
    };
    for ((name, before), (_, now)) in facts(diff.before).into_iter().zip(facts(diff.now)) {
        let class = if before == now { " class=\"same\"" } else { "" };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td{class}><bdi>{}</bdi></td><td{class}><bdi>{}</bdi></td></tr>",
            one_line(&before),
            one_line(&now)
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

#[cfg(test)]
mod tests {
    use super::super::{Run, tests::changed};
    use super::*;
    use crate::report::samples;

    fn page(before: &RunRecord, now: &RunRecord) -> String {
        Diff::of(Run { folder: "out/old", record: before }, Run { folder: "out/new", record: now }).page()
    }

    fn keep(name: &str, page: &str) {
        if let Some(folder) = std::env::var_os("REPORT_SAMPLES") {
            std::fs::write(std::path::Path::new(&folder).join(name), page).unwrap();
        }
    }

    fn check(page: &str) {
        for tag in [
            "section", "table", "tbody", "tr", "th", "td", "div", "p", "ul", "li", "i", "b", "bdi", "small", "span", "svg", "g", "text",
            "code",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
        }
        for anchor in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(page.matches(&format!("id=\"{anchor}\"")).count(), 1, "#{anchor}");
        }
        assert!(!page.contains("<script") && !page.contains("url("));
        assert!(!page.contains("NaN") && !page.contains("=\"inf"));
    }

    #[test]
    fn every_difference_has_its_place() {
        let page = page(&samples::web(), &changed());
        keep("diff.html", &page);
        check(&page);
        for wanted in [
            "different</span>",
            "<i class=\"gone\">−   clean:  {use: filter_length, from: pages, min_chars: 200, max_chars: 100000}</i><i class=\"new\">+   clean:  {use: filter_length, from: pages, min_chars: 180, max_chars: 100000}</i>",
            "<td><bdi>min_chars</bdi></td><td><code>200</code></td><td><code>180</code></td>",
            "<td class=\"n\">272,810<small>was 268,120</small><small class=\"up\">+4,690 (+1.7 %)</small></td>",
            "<bdi>books</bdi> <small>read_parquet</small> <small class=\"down\">gone</small>",
            "<bdi>no_text</bdi> <small class=\"drop\">dropped</small></td><td class=\"n\">0<small>was 40</small>",
            "<bdi>clean</bdi> · <bdi>chars</bdi>",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn equal_runs_are_said_to_be_equal() {
        let page = page(&samples::web(), &samples::web());
        keep("equal.html", &page);
        check(&page);
        assert!(page.contains("The two runs are equal") && page.contains("The two pipeline files are the same"));
        assert!(!page.contains("<small>was "));
    }

    #[test]
    fn any_two_records_can_be_compared_and_nothing_in_them_becomes_markup() {
        let records = [samples::web(), samples::empty(), samples::hostile(), samples::failed(), samples::wide(60)];
        for before in &records {
            for now in &records {
                let page = page(before, now);
                check(&page);
                assert!(!page.contains("<img") && !page.contains("onerror=\"") && !page.contains("x\"'>"));
                assert!(!page.chars().any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&c)));
            }
        }
    }
}
