//! Pages written by hand, and hostile ones.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn options() -> PageOptions {
    PageOptions { favor: Favor::Balanced, tables: true, code: true, links: true, max_elements: 3_000_000 }
}

fn page(html: &str) -> Page {
    read_page(html, &options()).unwrap()
}

fn text(html: &str) -> String {
    page(html).text
}

const WORDS: &str = "This sentence is made of enough words to be taken for a paragraph of what the page has to say.";

#[test]
fn blocks_lists_tables_and_code_keep_their_form() {
    let html = "<h2>Head <b>line</b></h2><p>One\n  two<br>three &amp; <i>f</i>our</p><ul><li>a<li><p>b</p><ol><li>x</li><li>y</ol></ul>
        <table><tr><th>k<th>v<tr><td>1</td><td>2</td></table><pre>\nfn a() {\n    b\n}\n</pre><dl><dt>term<dd>meaning</dl>after";
    let expected =
        "Head line\n\nOne two\nthree & four\n\n- a\n- b\n  1. x\n  2. y\n\nk | v\n1 | 2\n\nfn a() {\n    b\n}\n\nterm\nmeaning\n\nafter";
    assert_eq!(text(html), expected);
    let without = PageOptions { tables: false, code: false, ..options() };
    assert_eq!(
        read_page(html, &without).unwrap().text,
        "Head line\n\nOne two\nthree & four\n\n- a\n- b\n  1. x\n  2. y\n\nterm\nmeaning\n\nafter"
    );
    // A table that arranges the page is no table of data.
    let html = format!("<table><tr><td><p>{WORDS}</p></td><td><p>{WORDS}</p></td></tr></table>");
    assert_eq!(read_page(&html, &without).unwrap().text, format!("{WORDS}\n\n{WORDS}"));
}

#[test]
fn what_stands_around_the_content_is_left_out() {
    let html = format!(
        "<!doctype html><html lang='de-AT'><head><title> The &lt;title> </title><style>p {{}}</style><script>'<p>no</p>'</script></head><body>
        <header><a href=/>Site</a></header><div class='top nav-bar'><a href=/a>A</a> <a href=/b>B</a></div>
        <div id=page><div class=content><h1>Heading<a class=headerlink href=#h>¶</a></h1><p>{WORDS}</p><p>{WORDS} <a href=/x>Link</a></p>
        <ul><li><a href=1>related one</a><li><a href=2>related two</a></ul>
        <aside><p>A box of what else this site has, with words enough for a paragraph, were it not an aside.</p></aside>
        <div hidden>hidden</div><p style='display: none'>hidden</p><button>Press</button></div>
        <div class=comments><p>{WORDS} But by a visitor.</p></div><aside>Aside</aside></div>
        <footer>© 2026</footer><noscript>Scripts</noscript></body></html>"
    );
    let page = page(&html);
    assert_eq!(page.text, format!("Heading\n\n{WORDS}\n\n{WORDS} Link"));
    assert_eq!((page.title.as_str(), page.lang.as_deref(), page.n_links), ("The <title>", Some("de-AT"), 1));
    assert_eq!(page.links, [Link { url: "/x".to_owned(), text: "Link".to_owned() }]);
    let recall = read_page(&html, &PageOptions { favor: Favor::Recall, ..options() }).unwrap().text;
    assert!(
        recall.contains("by a visitor") && recall.contains("related two") && !recall.contains("hidden") && !recall.contains("A box"),
        "{recall}"
    );
}

#[test]
fn a_name_does_not_outweigh_most_of_the_text() {
    let html = format!("<div class=sidebar><p>{WORDS}</p><p>{WORDS}</p></div><p>{WORDS}</p>");
    assert_eq!(text(&html), format!("{WORDS}\n\n{WORDS}\n\n{WORDS}"));
    assert_eq!(text("<body hidden><p>Only this.</p>"), "Only this.");
    assert_eq!(text("<nav><a href=x>only</a> <a href=y>links</a></nav>"), "only links");
}

#[test]
fn broken_pages_are_read() {
    assert_eq!(text("no markup at all"), "no markup at all");
    assert_eq!(text("<p>one<p>two</div></p><td>three"), "one\n\ntwo\n\nthree");
    assert_eq!(text("<a href=1>one<a href=2>two</a>"), "onetwo");
    assert_eq!(page("<a href=1>one<a href=2>two</a>").n_links, 2);
    assert_eq!(text("a\0b<b>c</b>\u{7}d"), "a b c d".replace("b c", "bc"));
    assert_eq!(text(""), "");
    assert_eq!(text("<p>日本語<p>العربية<p>👩\u{200d}👩\u{200d}👧"), "日本語\n\nالعربية\n\n👩\u{200d}👩\u{200d}👧");
    assert_eq!(text("<select><option>x</select>y<svg><title>z</title></svg>"), "y");
    assert_eq!(page("<svg><title>z</title></svg><h1>first</h1>").title, "first");
    assert_eq!(page("<base href=/b/><base href=/c/>").base.as_deref(), Some("/b/"));
}

#[test]
fn hostile_pages_take_time_in_proportion() {
    let numbered = |n: usize, form: &dyn Fn(usize) -> String| (0..n).map(form).collect::<String>();
    let pages = [
        ("nested", format!("{}deep", "<div>".repeat(100_000))),
        ("nested and paragraphs", "<div>".repeat(20_000) + &"<p>text".repeat(20_000)),
        ("formatting", numbered(20_000, &|n| format!("<b class={n}><p>x"))),
        ("attribute", format!("<p title=\"{}\">x", "a".repeat(20_000_000))),
        ("names", format!("<p class=\"{}\">x", "nav ".repeat(2_000_000))),
        ("attributes", format!("<p {}>x", numbered(100_000, &|n| format!("a{n}=1 ")))),
        ("unclosed", "<table><tr><td><ul><li>".repeat(20_000)),
        ("ends", "<div>".repeat(500) + &"</x></td></b></i>".repeat(100_000)),
        ("links", "<a href=x>".repeat(200_000) + "x"),
        ("brackets", "<".repeat(1_000_000)),
        ("entities", "&".repeat(1_000_000)),
        ("comments", "<!--".repeat(500_000)),
        ("zeros", "\0<p>\0a\0".repeat(200_000)),
        ("code", "<pre>\n\n".repeat(200_000) + "x"),
        ("items", "<ul><li>".repeat(200_000) + "x"),
        ("one line", "word ".repeat(2_000_000)),
    ];
    for (what, html) in pages {
        let begin = Instant::now();
        let _ = read_page(&html, &options());
        // The slowest takes a quarter of a second; quadratic time would be minutes.
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: {:?}", begin.elapsed());
    }
    assert_eq!(read_page("<p><p>", &PageOptions { max_elements: 2, ..options() }), Err(TooManyNodes));
    assert_eq!(text(&format!("{}deep", "<div>".repeat(100_000))), "deep");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        pieces in proptest::collection::vec("<(/?(p|div|a href=x|ul|li|table|tr|td|pre|h1|nav|b|br|script|title|select)( class=nav| hidden)?>)?|[a-z é\n\0&;]{0,6}", 0..60),
        favor in 0..3_usize,
    ) {
        let html = pieces.concat();
        let favor = [Favor::Precision, Favor::Balanced, Favor::Recall][favor];
        let page = read_page(&html, &PageOptions { favor, ..options() }).unwrap();
        prop_assert_eq!(page.text.trim_end(), page.text.as_str());
        prop_assert!(!page.text.contains('\0'));
        prop_assert!(page.text.len() <= html.len() * 8);
    }
}
