//! The graph of a run as SVG: layers from top to bottom, an edge as wide as its rows are many, what was dropped as a branch to the right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::html::esc;
use crate::record::RunRecord;
use crate::show;

const NODE_WIDTH: f64 = 176.0;
const NODE_HEIGHT: f64 = 50.0;
const BRANCH_WIDTH: f64 = 208.0;
const COLUMN_GAP: f64 = 34.0;
const LAYER_GAP: f64 = 46.0;
const MAX_RIBBON: f64 = 26.0;
const MARGIN: f64 = 14.0;
/// A wide graph is made this much smaller to fit the page; a wider one is scrolled.
const LEAST_SCALE: f64 = 0.62;

/// More stages, or more layers crossed by edges, than a picture can show.
const MAX_NODES: usize = 300;
const MAX_BENDS: usize = 10_000;

/// What stands in the drawing.
enum Item {
    Stage(usize),
    /// A published folder: index of its stage and of the folder.
    Output(usize, usize),
    /// Where an edge crosses a layer.
    Bend,
}

struct Link {
    from: usize,
    to: usize,
    rows: u64,
    label: String,
    class: &'static str,
    /// Items on its way, both ends included.
    way: Vec<usize>,
}

struct Drawing<'r> {
    record: &'r RunRecord,
    items: Vec<Item>,
    layers: Vec<Vec<usize>>,
    links: Vec<Link>,
    /// Middle of each item.
    x: Vec<f64>,
    layer_of: Vec<usize>,
}

/// The graph as an `<svg>` element; nothing if there are no stages or too many to draw.
pub(super) fn svg(record: &RunRecord) -> Option<String> {
    if record.stages.is_empty() || record.stages.len() > MAX_NODES {
        return None;
    }
    let mut drawing = Drawing::new(record)?;
    drawing.order();
    drawing.place();
    Some(drawing.svg())
}

impl<'r> Drawing<'r> {
    fn new(record: &'r RunRecord) -> Option<Self> {
        let n = record.stages.len();
        let mut index = BTreeMap::new();
        for (i, stage) in record.stages.iter().enumerate() {
            index.entry(stage.id.as_str()).or_insert(i);
        }
        let mut links = Vec::new();
        for (to, stage) in record.stages.iter().enumerate() {
            for (into, id, port) in stage.reads() {
                // A record that was tampered with may read backwards; stages come after what they read.
                let Some(&from) = index.get(id).filter(|&&from| from < to) else { continue };
                let rows = record.stages[from].totals.rows_through(port);
                let mut label = show::count(rows);
                if port != "out" {
                    label = format!("{port} · {label}");
                }
                if into != "from" {
                    label = format!("{label} → {into}");
                }
                let class = match port {
                    "out" => "flow",
                    "dropped" => "flow drop",
                    _ => "flow side",
                };
                links.push(Link { from, to, rows, label, class, way: Vec::new() });
            }
        }
        let mut layer = vec![0usize; n];
        for link in &links {
            layer[link.to] = layer[link.to].max(layer[link.from] + 1); // links are in order of `to`
        }
        // A source stands right above its first reader.
        for (i, stage) in record.stages.iter().enumerate() {
            if stage.is_source()
                && let Some(first) = links.iter().filter(|link| link.from == i).map(|link| layer[link.to]).min()
            {
                layer[i] = first.saturating_sub(1);
            }
        }
        let mut items: Vec<Item> = (0..n).map(Item::Stage).collect();
        for (i, stage) in record.stages.iter().enumerate() {
            for (k, published) in stage.published.iter().enumerate() {
                if !is_output(&published.folder) {
                    continue;
                }
                let class = if published.folder == stage.id { "flow" } else { "flow side" };
                links.push(Link {
                    from: i,
                    to: items.len(),
                    rows: published.rows,
                    label: show::count(published.rows),
                    class,
                    way: Vec::new(),
                });
                items.push(Item::Output(i, k));
                layer.push(layer[i] + 1);
            }
        }
        let bends: usize = links.iter().map(|link| layer[link.to].saturating_sub(layer[link.from] + 1)).sum();
        if bends > MAX_BENDS || items.len() > 2 * MAX_NODES {
            return None;
        }
        for link in &mut links {
            link.way.push(link.from);
            for between in layer[link.from] + 1..layer[link.to] {
                link.way.push(items.len());
                items.push(Item::Bend);
                layer.push(between);
            }
            link.way.push(link.to);
        }
        let depth = layer.iter().max().map_or(0, |max| max + 1);
        let mut layers = vec![Vec::new(); depth];
        for (item, &layer) in layer.iter().enumerate() {
            layers[layer].push(item);
        }
        Some(Self { record, x: vec![0.0; items.len()], items, layers, links, layer_of: layer })
    }

    /// For each item, what it is joined to in the layer above and below.
    fn neighbours(&self) -> Vec<(Vec<usize>, Vec<usize>)> {
        let mut neighbours = vec![(Vec::new(), Vec::new()); self.items.len()];
        for link in &self.links {
            for pair in link.way.windows(2) {
                neighbours[pair[1]].0.push(pair[0]);
                neighbours[pair[0]].1.push(pair[1]);
            }
        }
        neighbours
    }

    /// Orders each layer by the mean place of its neighbours, down and up, so that few edges cross.
    fn order(&mut self) {
        let neighbours = self.neighbours();
        let mut place = vec![0.0; self.items.len()];
        let number = |layer: &[usize], place: &mut Vec<f64>| {
            for (k, &item) in layer.iter().enumerate() {
                place[item] = k as f64 - layer.len() as f64 / 2.0;
            }
        };
        self.layers.iter().for_each(|layer| number(layer, &mut place));
        for sweep in 0..6 {
            let down = sweep % 2 == 0;
            let depth = self.layers.len();
            for step in 0..depth {
                let layer = if down { step } else { depth - 1 - step };
                let wish: BTreeMap<usize, f64> = self.layers[layer]
                    .iter()
                    .map(|&item| (item, mean(if down { &neighbours[item].0 } else { &neighbours[item].1 }, &place).unwrap_or(place[item])))
                    .collect();
                self.layers[layer].sort_by(|a, b| wish[a].total_cmp(&wish[b]));
                number(&self.layers[layer], &mut place);
            }
        }
    }

    /// Gives each item its place across: as near to its neighbours as the order and the widths allow.
    fn place(&mut self) {
        let neighbours = self.neighbours();
        for sweep in 0..9 {
            let depth = self.layers.len();
            for step in 0..depth {
                let down = sweep % 2 == 0;
                let layer = &self.layers[if down { step } else { depth - 1 - step }];
                let wishes: Vec<f64> = layer
                    .iter()
                    .map(|&item| {
                        let near = if down { &neighbours[item].0 } else { &neighbours[item].1 };
                        mean(near, &self.x).unwrap_or(self.x[item])
                    })
                    .collect();
                // With the least distances taken off, "in order" means "not falling": that is isotonic regression.
                let mut offsets = vec![0.0; layer.len()];
                for k in 1..layer.len() {
                    offsets[k] = offsets[k - 1] + self.right(layer[k - 1]) + COLUMN_GAP + self.left(layer[k]);
                }
                let free: Vec<f64> = wishes.iter().zip(&offsets).map(|(wish, offset)| wish - offset).collect();
                for (k, value) in isotonic(&free).into_iter().enumerate() {
                    self.x[layer[k]] = value + offsets[k];
                }
            }
        }
        let least = (0..self.items.len()).map(|item| self.x[item] - self.left(item)).fold(f64::INFINITY, f64::min);
        self.x.iter_mut().for_each(|x| *x += MARGIN - least);
    }

    fn left(&self, item: usize) -> f64 {
        match self.items[item] {
            Item::Bend => 12.0,
            _ => NODE_WIDTH / 2.0,
        }
    }

    fn right(&self, item: usize) -> f64 {
        match self.items[item] {
            Item::Bend => 80.0, // room for the label of the edge
            Item::Stage(i) if self.has_branch(i) => NODE_WIDTH / 2.0 + BRANCH_WIDTH,
            _ => NODE_WIDTH / 2.0,
        }
    }

    fn has_branch(&self, stage: usize) -> bool {
        let totals = &self.record.stages[stage].totals;
        totals.dropped_rows() > 0 || totals.tagged_rows() > 0 || totals.rejected_rows() > 0
    }

    fn top(&self, item: usize) -> f64 {
        MARGIN + self.layer_of[item] as f64 * (NODE_HEIGHT + LAYER_GAP)
    }

    fn svg(&self) -> String {
        let width = (0..self.items.len()).map(|item| self.x[item] + self.right(item)).fold(0.0, f64::max) + MARGIN;
        let height = self.layers.len() as f64 * (NODE_HEIGHT + LAYER_GAP) - LAYER_GAP + 2.0 * MARGIN;
        let n = self.record.stages.len();
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg class=\"dag\" role=\"group\" aria-label=\"Graph of {n} stage{}; the table below holds the same figures\" \
             style=\"max-width:{width:.0}px;min-width:{:.0}px\" viewBox=\"0 0 {width:.0} {height:.0}\" xmlns=\"http://www.w3.org/2000/svg\">",
            if n == 1 { "" } else { "s" },
            width * LEAST_SCALE,
        );
        let most =
            self.links.iter().map(|link| link.rows).chain(self.record.stages.iter().map(|stage| stage.totals.rows_in)).max().unwrap_or(0);
        let ribbon = |rows: u64| if rows == 0 || most == 0 { 1.0 } else { (MAX_RIBBON * (rows as f64 / most as f64)).max(1.5) };
        self.write_links(&ribbon, &mut out);
        for (item, what) in self.items.iter().enumerate() {
            match what {
                Item::Stage(stage) => self.write_stage(item, *stage, &ribbon, &mut out),
                Item::Output(stage, folder) => self.write_output(item, *stage, *folder, &mut out),
                Item::Bend => {}
            }
        }
        out.push_str("</svg>");
        out
    }

    fn write_links(&self, ribbon: &dyn Fn(u64) -> f64, out: &mut String) {
        // Edges leave and enter a stage side by side, in the order of their other ends.
        let mut leave: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut enter: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (k, link) in self.links.iter().enumerate() {
            leave.entry(link.from).or_default().push(k);
            enter.entry(link.to).or_default().push(k);
        }
        let mut starts = vec![0.0; self.links.len()];
        let mut ends = vec![0.0; self.links.len()];
        for (item, mut links) in leave.clone() {
            links.sort_by(|&a, &b| self.x[self.links[a].way[1]].total_cmp(&self.x[self.links[b].way[1]]));
            self.spread(item, &links, ribbon, &mut starts);
        }
        for (item, mut links) in enter.clone() {
            let before = |k: usize| self.links[k].way.iter().rev().nth(1).copied().unwrap_or_default();
            links.sort_by(|&a, &b| self.x[before(a)].total_cmp(&self.x[before(b)]));
            self.spread(item, &links, ribbon, &mut ends);
        }
        let mut labels = String::new();
        for (k, link) in self.links.iter().enumerate() {
            let mut points: Vec<(f64, f64, f64)> = link.way.iter().map(|&item| (self.x[item], self.top(item), NODE_HEIGHT)).collect();
            let last = points.len() - 1;
            points[0].0 = starts[k];
            points[last].0 = ends[k];
            let mut path = String::new();
            let mut label_at = (points[0].0, points[0].1 + NODE_HEIGHT);
            let fans_out = leave.get(&link.from).is_some_and(|links| links.len() > 1);
            for (step, pair) in points.windows(2).enumerate() {
                let ((x1, y1, height), (x2, y2, _)) = (pair[0], pair[1]);
                let y1 = y1 + height;
                let middle = f64::midpoint(y1, y2);
                let start = if step == 0 { "M" } else { "L" };
                let _ = write!(path, "{start}{x1:.1} {y1:.1}C{x1:.1} {middle:.1} {x2:.1} {middle:.1} {x2:.1} {y2:.1}");
                if (fans_out && step + 1 == last) || (!fans_out && step == 0) {
                    let t: f64 = match (fans_out, last > 1 || (x1 - x2).abs() < 1.0) {
                        (_, true) => 0.5,
                        (true, _) => 0.74,
                        (false, _) => 0.26,
                    };
                    let s = t * t * (3.0 - 2.0 * t); // x of the curve, whose ends are vertical
                    label_at = (x1 + (x2 - x1) * s, y1 + (y2 - y1) * t);
                }
            }
            let width = ribbon(link.rows);
            let _ = write!(out, "<path class=\"{}\" d=\"{path}\" stroke-width=\"{width:.1}\"/>", link.class);
            let _ = write!(
                labels,
                "<text class=\"rows {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                link.class,
                label_at.0 + width / 2.0 + 6.0,
                label_at.1 + 4.0,
                esc(&show::cut(&link.label, 34)),
            );
        }
        out.push_str(&labels);
    }

    /// Places of edges at one side of an item, next to each other about its middle.
    fn spread(&self, item: usize, links: &[usize], ribbon: &dyn Fn(u64) -> f64, places: &mut [f64]) {
        let room = NODE_WIDTH - 24.0;
        let widths: Vec<f64> = links.iter().map(|&k| ribbon(self.links[k].rows) + 4.0).collect();
        let total: f64 = widths.iter().sum();
        let scale = (room / total).min(1.0);
        let mut at = self.x[item] - total * scale / 2.0;
        for (&k, width) in links.iter().zip(widths) {
            places[k] = at + width * scale / 2.0;
            at += width * scale;
        }
    }

    fn write_stage(&self, item: usize, index: usize, ribbon: &dyn Fn(u64) -> f64, out: &mut String) {
        let stage = &self.record.stages[index];
        let totals = &stage.totals;
        let (left, top) = (self.x[item] - NODE_WIDTH / 2.0, self.top(item));
        let (dropped, tagged, rejected) = (totals.dropped_rows(), totals.tagged_rows(), totals.rejected_rows());
        let right = left + NODE_WIDTH;
        // What the stage decided against, then what it could not read, with the largest reasons.
        let mut lines: Vec<(&str, String)> = Vec::new();
        if dropped > 0 {
            lines.push(("drop", format!("−{} dropped ({})", show::count(dropped), show::share(dropped, totals.rows_in))));
        }
        if tagged > 0 {
            lines.push(("why", format!("{} tagged ({})", show::count(tagged), show::share(tagged, totals.rows_in))));
        }
        if rejected > 0 {
            lines.push(("reject", format!("−{} rejected", show::count(rejected))));
        }
        let mut reasons: Vec<_> = totals.dropped.iter().chain(&totals.tagged).filter(|(_, n)| **n > 0).collect();
        reasons.sort_by_key(|(reason, n)| (std::cmp::Reverse(**n), reason.as_str()));
        let room = 3 - lines.len().min(3);
        let shown = if reasons.len() > room { room.saturating_sub(1) } else { reasons.len() };
        for (reason, n) in &reasons[..shown] {
            lines.push(("why", show::cut(&format!("{} {}", show::visible_line(reason), show::count(**n)), 27)));
        }
        if reasons.len() > shown && room > 0 {
            let others = reasons.len() - shown;
            lines.push(("why", if shown == 0 { format!("{others} reasons") } else { format!("{others} more reasons") }));
        }
        if !lines.is_empty() {
            let middle = top + NODE_HEIGHT / 2.0;
            let width = ribbon(dropped.max(rejected));
            let class = if dropped > 0 { "flow drop" } else { "flow reject" };
            if dropped > 0 || rejected > 0 {
                let _ = write!(out, "<path class=\"{class}\" d=\"M{right:.1} {middle:.1}h20\" stroke-width=\"{width:.1}\"/>");
            }
            let first = middle - (lines.len() as f64 - 1.0) * 7.5 + 4.0;
            for (k, (class, line)) in lines.iter().enumerate() {
                let _ = write!(
                    out,
                    "<text class=\"branch {class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    right + 26.0,
                    first + 15.0 * k as f64,
                    esc(line)
                );
            }
        }
        let source = if stage.is_source() { " source" } else { "" };
        let _ = write!(
            out,
            "<a href=\"#stage-{index}\" class=\"node{source}\" aria-label=\"{}\"><title>{}</title>\
             <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" rx=\"6\"/>\
             <text class=\"id\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"use\" x=\"{:.1}\" y=\"{:.1}\">{}</text></a>",
            esc(&format!("stage {}, {}", show::visible_line(&stage.id), stage.stage_type)),
            esc(&format!(
                "{} ({}): {} rows in, {} out, {} dropped, {} rejected",
                stage.id,
                stage.stage_type,
                show::count(totals.rows_in),
                show::count(totals.rows_through("out")),
                show::count(dropped),
                show::count(rejected)
            )),
            self.x[item],
            top + 21.0,
            esc(&show::cut(&show::visible_line(&stage.id), 18)),
            self.x[item],
            top + 38.0,
            esc(&show::cut(&show::visible_line(&stage.stage_type), 22)),
        );
    }

    fn write_output(&self, item: usize, stage: usize, folder: usize, out: &mut String) {
        let published = &self.record.stages[stage].published[folder];
        let (left, top) = (self.x[item] - NODE_WIDTH / 2.0, self.top(item));
        let size = published.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
        let files = published.parts.len();
        let about = format!("{files} file{} · {}", if files == 1 { "" } else { "s" }, show::bytes(size));
        let _ = write!(
            out,
            "<g class=\"node output\"><title>{}</title>\
             <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" rx=\"25\"/>\
             <text class=\"id\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"use\" x=\"{:.1}\" y=\"{:.1}\">{about}</text></g>",
            esc(&format!("published folder {}", published.folder)),
            self.x[item],
            top + 21.0,
            esc(&format!("{}/", show::cut(&show::visible_line(&published.folder), 17))),
            self.x[item],
            top + 38.0,
        );
    }
}

/// Whether a published folder holds what the run was made for.
pub(crate) fn is_output(folder: &str) -> bool {
    !folder.starts_with("dropped/") && !folder.starts_with("rejected/")
}

fn mean(items: &[usize], x: &[f64]) -> Option<f64> {
    if items.is_empty() { None } else { Some(items.iter().map(|&item| x[item]).sum::<f64>() / items.len() as f64) }
}

/// The rising sequence nearest to `values` (least squares).
fn isotonic(values: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::with_capacity(values.len());
    for &value in values {
        let mut block = (value, 1);
        while let Some(&(mean, n)) = blocks.last()
            && mean > block.0
        {
            blocks.pop();
            block = ((mean * n as f64 + block.0 * block.1 as f64) / (n + block.1) as f64, n + block.1);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(mean, n)| std::iter::repeat_n(mean, n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rising_sequence_is_found() {
        assert_eq!(isotonic(&[1.0, 3.0, 2.0, 4.0]), [1.0, 2.5, 2.5, 4.0]);
        assert_eq!(isotonic(&[3.0, 2.0, 1.0]), [2.0, 2.0, 2.0]);
        assert!(isotonic(&[]).is_empty());
    }

    #[test]
    fn no_two_items_of_a_layer_overlap() {
        for n in [1, 2, 5, 17, 60] {
            let record = crate::report::samples::wide(n);
            let mut drawing = Drawing::new(&record).expect("few stages");
            drawing.order();
            drawing.place();
            for layer in &drawing.layers {
                for pair in layer.windows(2) {
                    let gap = drawing.x[pair[1]] - drawing.left(pair[1]) - drawing.x[pair[0]] - drawing.right(pair[0]);
                    assert!(gap >= COLUMN_GAP - 1e-6, "{n} stages: gap of {gap}");
                }
            }
            for link in &drawing.links {
                assert!(link.way.windows(2).all(|pair| drawing.layer_of[pair[0]] + 1 == drawing.layer_of[pair[1]]));
            }
        }
    }

    #[test]
    fn a_record_that_reads_backwards_or_is_vast_is_drawn_or_refused_without_harm() {
        let mut record = crate::report::samples::wide(8);
        let ids: Vec<String> = record.stages.iter().map(|stage| stage.id.clone()).collect();
        record.stages[0].inputs = vec![("from".to_owned(), vec![ids[7].clone(), ids[0].clone(), "nobody.x".to_owned(), String::new()])];
        assert!(svg(&record).is_some());
        assert!(Drawing::new(&record).expect("few stages").links.iter().all(|link| link.from < link.to));
        let mut stages = record.stages.clone();
        for _ in 0..6 {
            stages.extend(stages.clone());
        }
        record.stages = stages;
        assert!(svg(&record).is_none());
        record.stages.clear();
        assert!(svg(&record).is_none());
    }
}
