//! Near-duplicates through the real command: the pages of Debian's installation guides for several architectures, of which it is known which
//! are the same page, fetched by `tests/run-all`; and the same clusters however the work is cut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use serde_json::json;
use unicode_segmentation::UnicodeSegmentation;

use crate::harness::{Project, repository};

const PERCENT: usize = 80;
const THRESHOLD: f64 = PERCENT as f64 / 100.0;

/// Where the guides are; `None`, with a word why, where they are not.
fn guides() -> Option<PathBuf> {
    let folder = std::env::var_os("GRANARY_INSTALLATION_GUIDE").map_or_else(|| repository().join(".assets/installation-guide"), Into::into);
    if !folder.join("usr/share/doc/installation-guide-amd64").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have the installation guides: {}", folder.display());
        eprintln!("skipped: installation-guide not installed");
        return None;
    }
    Some(folder)
}

/// One page of one guide.
struct Page {
    /// `amd64/en/index.html`
    id: String,
    architecture: &'static str,
    language: String,
    name: String,
    text: String,
    /// Hashes of all runs of five words, in order, each once.
    shingles: Vec<u64>,
}

impl Page {
    /// Whether the two are the same page of two guides, by their names.
    fn is_twin(&self, other: &Self) -> bool {
        self.name == other.name && self.language == other.language
    }
}

/// What stands between the tags. The pages have no scripts, no comments, and these entities.
fn text_of(html: &str) -> String {
    let mut shown = String::new();
    for piece in html.split('<') {
        // But for what is before the first tag, a piece begins inside one.
        shown += piece.split_once('>').map_or("", |(_tag, text)| text);
        shown.push(' ');
    }
    shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&nbsp;", " ").replace("&amp;", "&")
}

fn shingles_of(text: &str) -> Vec<u64> {
    let lower: String = text.chars().flat_map(char::to_lowercase).collect();
    let words: Vec<[u8; 8]> = lower.unicode_words().map(|word| xxhash_rust::xxh3::xxh3_64(word.as_bytes()).to_le_bytes()).collect();
    let mut shingles: Vec<u64> =
        words.windows(5.min(words.len()).max(1)).map(|window| xxhash_rust::xxh3::xxh3_64(window.as_flattened())).collect();
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn pages(guides: &Path, architectures: &[&'static str], wanted: impl Fn(&str) -> bool) -> Vec<Page> {
    let mut pages = Vec::new();
    for architecture in architectures {
        let languages = sorted(&guides.join(format!("usr/share/doc/installation-guide-{architecture}")));
        for folder in languages.iter().filter(|folder| folder.is_dir() && wanted(&name_of(folder))) {
            for page in sorted(folder).iter().filter(|page| page.extension().is_some_and(|extension| extension == "html")) {
                let text = text_of(&fs::read_to_string(page).expect("a page in UTF-8"));
                let (language, name) = (name_of(folder), name_of(page));
                let (id, shingles) = (format!("{architecture}/{language}/{name}"), shingles_of(&text));
                pages.push(Page { id, architecture, language, name, text, shingles });
            }
        }
    }
    pages
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut both) = (0, 0_usize);
    for shingle in b {
        while i < a.len() && a[i] < *shingle {
            i += 1;
        }
        both += usize::from(a.get(i) == Some(shingle));
    }
    both as f64 / (a.len() + b.len() - both) as f64
}

/// Every pair of pages that are alike by the threshold or more, with how much.
///
/// Of two such sets, ordered alike, one of the first shingles of the one is among those of the other: all but the last `threshold` share of a
/// set, and one more. Ordered by how rare they are, few pairs have one in common, and only those are compared.
fn alike(pages: &[Page]) -> Vec<(usize, usize, f64)> {
    let mut count: HashMap<u64, usize> = HashMap::new();
    pages.iter().flat_map(|page| &page.shingles).for_each(|shingle| *count.entry(*shingle).or_default() += 1);
    let mut holders: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut pairs = Vec::new();
    for (b, page) in pages.iter().enumerate() {
        let mut by_count: Vec<(usize, u64)> = page.shingles.iter().map(|shingle| (count[shingle], *shingle)).collect();
        by_count.sort_unstable();
        let n_first = by_count.len() + 1 - (by_count.len() * PERCENT).div_ceil(100);
        let mut met = BTreeSet::new();
        for (_, shingle) in &by_count[..n_first.min(by_count.len())] {
            let holders = holders.entry(*shingle).or_default();
            met.extend(holders.iter().copied());
            holders.push(b);
        }
        let similarities = met.into_iter().map(|a| (a, b, jaccard(&pages[a].shingles, &page.shingles)));
        pairs.extend(similarities.filter(|(.., similarity)| *similarity >= THRESHOLD));
    }
    pairs
}

/// The component of each page by those pairs, named by its first page.
fn components(n: usize, pairs: &[(usize, usize, f64)]) -> Vec<usize> {
    let mut component: Vec<usize> = (0..n).collect();
    for &(a, b, _) in pairs {
        let (keep, gone) = (component[a].min(component[b]), component[a].max(component[b]));
        if keep != gone {
            component.iter_mut().filter(|component| **component == gone).for_each(|component| *component = keep);
        }
    }
    component
}

/// Runs the command over the pages; gives the cluster of each page that is in one, and checks that what hangs on another page is like it.
fn clusters(pages: &[Page], seed: u64) -> BTreeMap<usize, String> {
    let project = Project::with(&format!(
        "
version: 1
name: guides
seed: {seed}
output: out
stages:
  pages: {{use: read_jsonl, path: pages.jsonl}}
  near:  {{use: dedup_minhash, from: pages, jaccard_threshold: {THRESHOLD:?}, max_source_loss: 1.0, max_cluster: 1.0}}
"
    ));
    let line = |page: &Page| json!({"id": page.id, "source": page.architecture, "text": page.text}).to_string() + "\n";
    project.write("pages.jsonl", pages.iter().map(line).collect::<String>());
    project.run(&[]);
    assert_eq!(project.count("out/near") + project.count("out/dropped/near"), pages.len());
    let at: HashMap<&str, usize> = pages.iter().map(|page| page.id.as_str()).zip(0..).collect();
    let texts = |column: &str| project.column("out/near.clusters", column);
    let found = texts("id").into_iter().zip(texts("linked_to")).zip(texts("cluster"));
    found
        .map(|((id, linked_to), cluster)| {
            let page = at[id.expect("an id").as_str()];
            if let Some(next) = linked_to.filter(|next| *next != pages[page].id) {
                let similarity = jaccard(&pages[page].shingles, &pages[at[next.as_str()]].shingles);
                assert!(similarity >= THRESHOLD, "{} hangs on {next}, which is like it by {similarity}", pages[page].id);
            }
            (page, cluster.expect("a cluster"))
        })
        .collect()
}

/// Whether the two pages were found to be in one cluster.
fn together(clusters: &BTreeMap<usize, String>, a: usize, b: usize) -> bool {
    clusters.get(&a).is_some_and(|cluster| clusters.get(&b) == Some(cluster))
}

fn pairs_of(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(|b| (0..b).map(move |a| (a, b)))
}

#[test]
fn the_same_page_of_two_guides_is_found_and_no_other() {
    let Some(guides) = guides() else { return };
    let pages = pages(&guides, &["amd64", "i386"], |language| language == "en");
    let labels: BTreeSet<(usize, usize)> = pairs_of(pages.len()).filter(|(a, b)| pages[*a].is_twin(&pages[*b])).collect();
    assert!(labels.len() >= 80, "{} pages in both guides", labels.len());
    for seed in 1..=5 {
        let clusters = clusters(&pages, seed);
        let found: BTreeSet<(usize, usize)> = pairs_of(pages.len()).filter(|(a, b)| together(&clusters, *a, *b)).collect();
        let right = found.intersection(&labels).count() as f64;
        let (precision, recall) = (right / found.len() as f64, right / labels.len() as f64);
        eprintln!(
            "amd64 and i386, seed {seed}: {} pairs labelled, {} found: precision {precision:.4}, recall {recall:.4}",
            labels.len(),
            found.len()
        );
        assert!(precision >= 0.99 && recall >= 0.99, "precision {precision}, recall {recall}");
    }
}

#[test]
fn pages_that_differ_more_and_more_are_found_down_to_the_threshold() {
    const SEEDS: u64 = 5;
    let Some(guides) = guides() else { return };
    let pages = pages(&guides, &["amd64", "arm64"], |language| language == "en");
    let mut twins = Vec::new();
    for (a, b) in pairs_of(pages.len()).filter(|(a, b)| pages[*a].is_twin(&pages[*b])) {
        twins.push((a, b, jaccard(&pages[a].shingles, &pages[b].shingles)));
    }
    let alike = alike(&pages);
    let every_pair = pairs_of(pages.len()).map(|(a, b)| jaccard(&pages[a].shingles, &pages[b].shingles));
    assert_eq!(alike.len(), every_pair.filter(|similarity| *similarity >= THRESHOLD).count(), "no pair is left out that is alike");
    let truth = components(pages.len(), &alike);
    // By the least similarity: pairs, and how many of them were found, all seeds together.
    let mut curve: Vec<(f64, usize, usize)> = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5, 0.0].map(|least| (least, 0, 0)).to_vec();
    for seed in 1..=SEEDS {
        let clusters = clusters(&pages, seed);
        for (a, b) in pairs_of(pages.len()).filter(|(a, b)| together(&clusters, *a, *b)) {
            assert_eq!(truth[a], truth[b], "{} and {} are in one cluster", pages[a].id, pages[b].id);
        }
        for (least, pairs, found) in &mut curve {
            for (a, b, _) in twins.iter().filter(|(.., similarity)| similarity >= least) {
                *pairs += 1;
                *found += usize::from(together(&clusters, *a, *b));
            }
        }
    }
    for (least, pairs, found) in curve {
        let share = found as f64 / pairs.max(1) as f64;
        eprintln!("amd64 and arm64, like by {least:.2} or more: {pairs} pairs of {SEEDS} seeds, {found} found, {share:.4}");
        assert!(least < THRESHOLD || pairs > 0 && share >= 0.98, "{found} of {pairs} pairs like by {least} or more are found");
    }
}

#[test]
fn a_translation_is_no_near_duplicate() {
    let Some(guides) = guides() else { return };
    let pages = pages(&guides, &["amd64", "i386"], |_| true);
    let alike = alike(&pages);
    let truth = components(pages.len(), &alike);
    let clusters = clusters(&pages, 1);
    // No cluster joins what a chain of pairs that are alike does not; so two languages are together only where a page is left
    // untranslated (the licence, above all).
    let mut of_cluster: HashMap<&str, usize> = HashMap::new();
    for (page, cluster) in &clusters {
        let component = *of_cluster.entry(cluster).or_insert(truth[*page]);
        assert_eq!(component, truth[*page], "{} is in the cluster of {cluster}", pages[*page].id);
    }
    let found = alike.iter().filter(|(a, b, _)| together(&clusters, *a, *b)).count();
    let translations: Vec<_> = alike.iter().filter(|(a, b, _)| pages[*a].language != pages[*b].language).collect();
    let other_names = alike.iter().filter(|(a, b, _)| pages[*a].name != pages[*b].name).count();
    let n_languages = pages.iter().map(|page| &page.language).collect::<BTreeSet<_>>().len();
    eprintln!(
        "{} pages in {n_languages} languages: {} pairs are alike, {found} found; {} of them in two languages, one of which left the page untranslated, {} of pages with other names",
        pages.len(),
        alike.len(),
        translations.len(),
        other_names,
    );
    assert!(found as f64 >= 0.99 * alike.len() as f64, "{found} of {} found", alike.len());
    let twins: Vec<_> = pairs_of_twins(&pages);
    let found = twins.iter().filter(|(a, b)| together(&clusters, *a, *b)).count();
    let wanted = twins.iter().filter(|(a, b)| truth[*a] == truth[*b]).count();
    eprintln!("{} pages are in both guides, {wanted} of them alike, {found} found", twins.len());
    assert!(found as f64 >= 0.99 * wanted as f64, "{found} of {wanted} pages that both guides have");
}

/// The same page of two guides, found by name: there are too many pages for trying all pairs.
fn pairs_of_twins(pages: &[Page]) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut twins = Vec::new();
    for (at, page) in pages.iter().enumerate() {
        match first.get(&(page.language.as_str(), page.name.as_str())) {
            Some(twin) => twins.push((*twin, at)),
            None => drop(first.insert((&page.language, &page.name), at)),
        }
    }
    twins
}

/// Paragraphs of the novel and copies with more and more words left out, each shorter than the one before it: `(id, text)`.
fn shortened() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for chapter in 1..=20 {
        let path = repository().join(format!("datasets/samples/moby-dick/chapter-{chapter:03}.txt"));
        let chapter_text = fs::read_to_string(path).expect("the sample");
        let paragraphs = chapter_text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>());
        for (number, words) in paragraphs.filter(|words| words.len() > 40).take(6).enumerate() {
            for copy in 0..(chapter + number) % 6 {
                let left_out = |at: usize| at % 29 == 11 && at / 29 < copy * words.len() / 200 + copy;
                let kept: Vec<&str> = words.iter().enumerate().filter(|(at, _)| !left_out(*at)).map(|(_, word)| *word).collect();
                rows.push((format!("{chapter}.{number}.{copy}"), kept.join(" ")));
            }
        }
    }
    // Copies that came out equal would leave it to the order which one is kept.
    let mut seen = BTreeSet::new();
    rows.retain(|(_, text)| seen.insert(text.clone()));
    rows
}

#[test]
fn clusters_are_the_same_however_the_work_is_cut_and_files_are_ordered() {
    let rows = shortened();
    // Runs over the rows in the order given, in so many files; gives hashes of the tables, and what does not depend on the order.
    let run = |order: &dyn Fn(usize) -> usize, n_files: usize, args: &[&str]| {
        let project = Project::with(
            "
version: 1
name: near
seed: 3
output: out
stages:
  rows: {use: read_jsonl, path: 'rows/*.jsonl'}
  near: {use: dedup_minhash, from: rows, jaccard_threshold: 0.7, survivor: longest}
",
        );
        let lines: Vec<String> =
            (0..rows.len()).map(|at| &rows[order(at)]).map(|(id, text)| json!({"id": id, "text": text}).to_string() + "\n").collect();
        for (file, lines) in lines.chunks(lines.len().div_ceil(n_files)).enumerate() {
            project.write(&format!("rows/{file:02}.jsonl"), lines.concat());
        }
        project.run(args);
        let texts = |folder: &str, column: &str| project.column(folder, column).into_iter().map(Option::unwrap_or_default);
        let sizes: Vec<(u64, bool)> = project
            .rows("out/near.clusters")
            .iter()
            .flat_map(|rows| {
                let size = rows.column_by_name("size").expect("size").as_primitive::<UInt64Type>().values().to_vec();
                let kept = rows.column_by_name("kept").expect("kept").as_boolean().iter().map(Option::unwrap_or_default);
                size.into_iter().zip(kept).collect::<Vec<_>>()
            })
            .collect();
        let kept: BTreeSet<String> = texts("out/near", "id").collect();
        let dropped: BTreeMap<String, String> = texts("out/dropped/near", "id").zip(texts("out/dropped/near", "duplicate_of")).collect();
        let clusters: BTreeSet<(String, String, (u64, bool))> = texts("out/near.clusters", "id")
            .zip(texts("out/near.clusters", "cluster"))
            .zip(sizes)
            .map(|((id, cluster), size)| (id, cluster, size))
            .collect();
        let hashes = ["out/near", "out/dropped/near", "out/near.clusters", "out/near.edges"].map(|folder| project.table_hash(folder));
        // With small shards a task is given few links at once, so that their components are found in rounds.
        let is_round = |(name, mark): (&String, &Vec<u8>)| name.contains("/done/") && String::from_utf8_lossy(mark).contains("large_star");
        assert_eq!(project.files("out").iter().any(is_round), args.contains(&"--shard-rows"), "{args:?}");
        (hashes, (kept, dropped, clusters))
    };
    let in_order = |at: usize| at;
    let (hashes, facts) = run(&in_order, 1, &["--threads", "2"]);
    let (kept, dropped, clusters) = &facts;
    assert!(
        kept.len() > 60 && dropped.len() > 100 && clusters.len() > dropped.len() + 40,
        "{} {} {}",
        kept.len(),
        dropped.len(),
        clusters.len()
    );
    for (n_files, args) in [
        (1, &["--threads", "1", "--memory", "512MiB"][..]),
        (1, &["--threads", "1", "--shard-rows", "7"]),
        (5, &["--threads", "2", "--shard-rows", "7", "--memory", "4GiB", "--batch-rows", "3"]),
    ] {
        assert_eq!(run(&in_order, n_files, args), (hashes, facts.clone()), "{n_files} files, {args:?}");
    }
    // With the survivor told by the texts alone, the order of the rows has no say in who is kept and who belongs together.
    let n = rows.len();
    let backwards = |at: usize| n - 1 - at;
    let mut shuffled: Vec<usize> = (0..n).collect();
    shuffled.sort_by_key(|at| xxhash_rust::xxh3::xxh3_64(rows[*at].0.as_bytes()));
    let mixed = |at: usize| shuffled[at];
    for (name, order) in [("backwards", &backwards as &dyn Fn(usize) -> usize), ("mixed", &mixed)] {
        for args in [&[][..], &["--shard-rows", "7"]] {
            assert_eq!(run(order, 4, args).1, facts, "{name} {args:?}");
        }
    }
}
