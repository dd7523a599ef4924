//! What a run cost, how it was set, and on what it was made.

use std::fmt::Write as _;

use super::html::{esc, percent, yaml};
use super::plural;
use crate::record::RunRecord;
use crate::show::{self, count};

pub(super) fn write_cost(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"cost\"><h2>Time and memory</h2>\n");
    if record.stages.is_empty() {
        out.push_str("<p class=\"empty\">No stages.</p></section>\n");
        return;
    }
    out.push_str(
        "<p class=\"lead\">Busy time is time in a stage's own code, summed over threads and over tasks that an earlier run had done; waiting for models is none of it. Memory is the most that one task held in rows.</p>\n\
         <div class=\"scroll\"><table><thead><tr><th>Stage</th><th>Busy</th><th class=\"n\"></th><th class=\"n\">Rows/s busy</th><th>Rows held</th><th class=\"n\"></th><th class=\"n\">Bytes out</th></tr></thead><tbody>\n",
    );
    let busy = |seconds: f64| if seconds.is_finite() && seconds > 0.0 { seconds } else { 0.0 };
    let longest = record.stages.iter().map(|stage| busy(stage.totals.busy_seconds)).fold(0.0, f64::max);
    let largest = record.stages.iter().map(|stage| stage.totals.peak_bytes).max().unwrap_or(0);
    for stage in &record.stages {
        let totals = &stage.totals;
        let waited = busy(totals.waited_seconds);
        let width = if longest > 0.0 { busy(totals.busy_seconds) / longest * 100.0 } else { 0.0 };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi> <small>{}</small></th>\
             <td class=\"bar half\"><div class=\"stack\" aria-hidden=\"true\"><i class=\"b-time\" style=\"width:{width:.2}%\"></i></div></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"bar half\"><div class=\"stack\" aria-hidden=\"true\"><i class=\"b-mem\" style=\"width:{}%\"></i></div></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            esc(&show::visible_line(&stage.id)),
            esc(&show::visible_line(&stage.stage_type)),
            show::duration(totals.busy_seconds),
            if waited > 0.0 {
                format!("<small>waited {}</small>", show::duration(waited))
            } else {
                show::rate(if stage.makes { stage.rows_given() } else { totals.rows_in }, totals.busy_seconds)
            },
            percent(totals.peak_bytes, largest),
            show::bytes(totals.peak_bytes),
            show::bytes(totals.bytes_out),
        );
    }
    let _ = writeln!(
        out,
        "</tbody></table></div><p class=\"lead\">The whole run: {} by the clock, {} of processor time, {} of memory at its peak.</p></section>",
        show::duration(record.wall_seconds),
        show::duration(record.cpu_seconds),
        show::bytes(record.peak_memory_bytes),
    );
}

pub(super) fn write_settings(record: &RunRecord, out: &mut String) {
    out.push_str(
        "<section id=\"settings\"><h2>Settings</h2>\n<p class=\"lead\">Every setting with the value that counted, defaults included.</p>\n",
    );
    for (i, stage) in record.stages.iter().enumerate() {
        let _ = write!(
            out,
            "<details class=\"stage\" id=\"stage-{i}\"><summary><b><bdi>{}</bdi></b> · <code>{}</code> version {}</summary>",
            esc(&show::visible_line(&stage.id)),
            esc(&show::visible_line(&stage.stage_type)),
            stage.version,
        );
        out.push_str("<dl class=\"facts\">");
        let reads: Vec<String> = stage
            .inputs
            .iter()
            .map(|(port, from)| {
                let from = from.iter().map(|id| format!("<code>{}</code>", esc(&show::visible_line(id)))).collect::<Vec<_>>().join(" + ");
                if port == "from" { from } else { format!("{}: {from}", esc(&show::visible_line(port))) }
            })
            .collect();
        let _ = write!(out, "<dt>Reads</dt><dd>{}</dd>", if reads.is_empty() { "nothing: a source".to_owned() } else { reads.join(", ") });
        if !stage.files.is_empty() {
            let file = |(name, hash): &(String, String)| {
                format!("<code>{}</code> ({})", esc(&show::visible_line(name)), esc(&show::visible_line(hash)))
            };
            let files: Vec<String> = stage.files.iter().map(file).collect();
            let _ = write!(out, "<dt>Files</dt><dd>{}</dd>", files.join(", "));
        }
        if let Some(ran_on) = stage.totals.ran_on_in_words() {
            let _ = write!(out, "<dt>Shards by device</dt><dd>{}</dd>", esc(&show::visible_line(&ran_on)));
        }
        let _ = write!(out, "<dt>Fingerprint</dt><dd><code>{}</code></dd></dl>", esc(&show::visible_line(&stage.fingerprint)));
        let settings = yaml(&stage.settings);
        if settings.is_empty() {
            out.push_str("<p class=\"empty\">This stage has no settings.</p>");
        } else {
            let _ = write!(out, "<pre>{}</pre>", esc(&settings));
        }
        out.push_str("</details>\n");
    }
    let _ = writeln!(
        out,
        "<details class=\"stage\" open><summary><b>The pipeline file</b> · <code>{}</code>, as written</summary><pre>{}</pre></details></section>",
        esc(&show::visible_line(&record.file)),
        esc(&record.recipe.replace("\r\n", "\n"))
    );
}

pub(super) fn write_about(record: &RunRecord, out: &mut String) {
    out.push_str("<section id=\"about\"><h2>About this run</h2>\n");
    if record.stages.iter().any(|stage| !stage.notes.is_empty()) {
        out.push_str("<h3>Notes</h3><ul class=\"notes\">");
        for stage in &record.stages {
            for note in &stage.notes {
                let _ = write!(out, "<li><b><bdi>{}</bdi></b>: <bdi>{}</bdi></li>", esc(&show::visible_line(&stage.id)), esc(note));
            }
        }
        out.push_str("</ul>\n");
    }
    let machine = &record.machine;
    let mut facts = vec![
        ("Granary", record.granary.clone()),
        ("Seed", record.seed.to_string()),
        ("Started", record.started.clone()),
        ("State", record.state.clone()),
        ("Tasks", format!("{} done by this run, {} found done", count(record.tasks.done), count(record.tasks.reused))),
        ("Threads", record.threads.to_string()),
        ("Memory allowed", show::bytes(record.memory_bytes)),
        ("Machine", format!("{} cores, {}, {}", machine.cores, machine.os, machine.arch)),
    ];
    facts.extend(record.device.as_ref().map(|device| ("Device", device.to_string())));
    out.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        let _ = write!(out, "<dt>{name}</dt><dd><bdi>{}</bdi></dd>", esc(&show::visible_line(&value)));
    }
    out.push_str("</dl>\n<h3>Files</h3>\n");
    let folders: Vec<_> = record.stages.iter().flat_map(|stage| &stage.published).collect();
    if folders.is_empty() {
        out.push_str("<p class=\"empty\">Nothing was published.</p></section>\n");
        return;
    }
    out.push_str("<div class=\"scroll\"><table><thead><tr><th>Folder</th><th class=\"n\">Files</th><th class=\"n\">Rows</th><th class=\"n\">Bytes</th></tr></thead><tbody>");
    for folder in folders {
        let size = folder.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><code>{}/</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            esc(&show::visible_line(&folder.folder)),
            plural(folder.parts.len() as u64, "file", "files"),
            count(folder.rows),
            show::bytes(size),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}
