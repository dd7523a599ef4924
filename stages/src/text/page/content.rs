//! The content of a page: which of its elements hold it, and its text.
//!
//! The way is that of Readability (what an element is called, how much of its text is links, which element holds the paragraphs), as loops over
//! the tree's array: parents stand before their children, so that sums go backwards and what is inherited goes forwards.

use super::tree::{NONE, Node, Tag, TooManyNodes, Tree};
use super::{Favor, Link, Page, PageOptions};

/// Characters that make running text a paragraph, and the share of them that may be links.
const PARAGRAPH_CHARS: u32 = 60;
const PARAGRAPH_LINKS: f64 = 0.3;
/// An element that holds so much of the page's text is not what its name says.
const MOST: f64 = 0.5;
/// What `main` or `article` has to hold of the page's paragraphs to be taken at its word.
const MAIN_SHARE: f64 = 0.4;
/// Longest text of a link that marks a heading.
const PERMALINK_CHARS: u32 = 2;

/// The bounds of each way to favor.
struct Bounds {
    /// Share of the paragraphs that the chosen element may be without.
    left_out: f64,
    /// Share of links above which a list, a table or a block is navigation.
    links: f64,
    /// Whether names of classes decide.
    names: bool,
}

impl Favor {
    fn bounds(self) -> Bounds {
        match self {
            Favor::Precision => Bounds { left_out: 0.2, links: 0.4, names: true },
            Favor::Balanced => Bounds { left_out: 0.05, links: 0.75, names: true },
            Favor::Recall => Bounds { left_out: 0.0, links: 1.1, names: false },
        }
    }
}

/// The content of a page.
///
/// # Errors
/// [`TooManyNodes`].
pub(super) fn extract(html: &str, options: &PageOptions) -> Result<Page, TooManyNodes> {
    let tree = Tree::parse(html, options.max_elements)?;
    let mut content = Content::new(&tree, options);
    content.prune();
    let root = content.root();
    content.clean(root);
    let written = Writer::new(&tree, &content, options).write(root);
    let title = one_line(&tree.title);
    let title = if title.is_empty() { written.heading.unwrap_or_default() } else { title };
    Ok(Page { text: written.text, title, lang: tree.lang, base: tree.base, links: written.links, n_links: written.n_links })
}

/// What is known of each element.
struct Content<'t> {
    tree: &'t Tree,
    bounds: Bounds,
    options: &'t PageOptions,
    /// It is not content, nor is what is in it.
    gone: Vec<bool>,
    in_link: Vec<bool>,
    /// Characters that are no white space, and those of them in links.
    chars: Vec<u32>,
    links: Vec<u32>,
    /// Characters of paragraphs.
    paragraphs: Vec<u32>,
    /// It holds an element that is a block, but for the parts of a table.
    blocks: Vec<bool>,
}

impl<'t> Content<'t> {
    fn new(tree: &'t Tree, options: &'t PageOptions) -> Self {
        let n = tree.nodes.len();
        let mut content = Self {
            tree,
            bounds: options.favor.bounds(),
            options,
            gone: vec![false; n],
            in_link: vec![false; n],
            chars: Vec::new(),
            links: Vec::new(),
            paragraphs: Vec::new(),
            blocks: vec![false; n],
        };
        for (at, node) in tree.nodes.iter().enumerate().skip(1) {
            content.in_link[at] = node.tag == Tag::Link || content.in_link[node.parent as usize];
        }
        for (at, node) in tree.nodes.iter().enumerate().skip(1).rev() {
            let is_block = !node.tag.is_inline() && !matches!(node.tag, Tag::Cell | Tag::Row | Tag::TableSection);
            content.blocks[node.parent as usize] |= is_block || content.blocks[at];
        }
        content.sum();
        content
    }

    /// Adds up what is not gone.
    fn sum(&mut self) {
        let nodes = &self.tree.nodes;
        self.chars = vec![0; nodes.len()];
        self.links = vec![0; nodes.len()];
        self.paragraphs = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate().skip(1).rev() {
            if self.gone[at] {
                continue;
            }
            if node.tag == Tag::Text {
                self.chars[at] = dark_chars(self.tree.text(node));
                self.links[at] = if self.in_link[at] { self.chars[at] } else { 0 };
            }
            // Text of a block that holds no blocks is a paragraph, whatever the block is called.
            if !node.tag.is_inline() && !self.blocks[at] && self.chars[at] >= PARAGRAPH_CHARS && self.link_share(at) <= PARAGRAPH_LINKS {
                self.paragraphs[at] = self.chars[at];
            }
            let parent = node.parent as usize;
            self.chars[parent] = self.chars[parent].saturating_add(self.chars[at]);
            self.links[parent] = self.links[parent].saturating_add(self.links[at]);
            self.paragraphs[parent] = self.paragraphs[parent].saturating_add(self.paragraphs[at]);
        }
        // Running text beside blocks.
        if self.paragraphs[0] == 0 && self.chars[0] > 0 {
            self.paragraphs.clone_from(&self.chars);
        }
    }

    fn link_share(&self, at: usize) -> f64 {
        f64::from(self.links[at]) / f64::from(self.chars[at].max(1))
    }

    /// Takes out what is hidden and what says of itself that it is not the content, unless it holds most of the text.
    fn prune(&mut self) {
        let all = f64::from(self.chars[0]);
        let mut in_content = vec![false; self.tree.nodes.len()];
        for (at, node) in self.tree.nodes.iter().enumerate().skip(1) {
            let parent = node.parent as usize;
            in_content[at] = in_content[parent] || matches!(node.tag, Tag::Main | Tag::Article) || node.hints.main;
            self.gone[at] = self.gone[parent] || self.is_aside(at, node, in_content[parent]) && f64::from(self.chars[at]) <= all * MOST;
        }
        self.sum();
    }

    fn is_aside(&self, at: usize, node: &Node, in_content: bool) -> bool {
        let hints = node.hints;
        if hints.hidden || hints.permalink && self.chars[at] <= PERMALINK_CHARS {
            return true;
        }
        match node.tag {
            Tag::Text | Tag::Main | Tag::Root => false,
            Tag::Aside => true,
            Tag::Header => !in_content && self.bounds.names,
            Tag::Pre if !self.options.code => true,
            Tag::Table if !self.options.tables && !self.blocks[at] => true,
            tag => hints.aside || self.bounds.names && !tag.is_inline() && hints.unlikely && !hints.likely && !hints.main,
        }
    }

    /// The element that holds the content.
    fn root(&self) -> usize {
        let of = |at: usize| f64::from(self.paragraphs[at]);
        let is_main = |node: &Node| matches!(node.tag, Tag::Main | Tag::Article) || node.hints.main;
        // The first of the largest.
        let mut root = 0;
        for (at, node) in self.tree.nodes.iter().enumerate() {
            if is_main(node) && !self.gone[at] && of(at) >= of(0) * MAIN_SHARE && of(at) > 0.0 && (root == 0 || of(at) > of(root)) {
                root = at;
            }
        }
        // Several articles of about the same length are a list of them.
        if root != 0 && self.options.favor == Favor::Recall && of(root) < of(0) {
            root = 0;
        }
        let least = of(root) * (1.0 - self.bounds.left_out);
        loop {
            let children = self.children(root).filter(|at| !self.gone[*at]);
            let next = children
                .filter(|at| !self.tree.nodes[*at].tag.is_inline())
                .max_by(|a, b| self.paragraphs[*a].cmp(&self.paragraphs[*b]).then(b.cmp(a)));
            match next {
                Some(next) if of(next) >= least && of(next) > 0.0 && self.blocks[next] => root = next,
                _ => return root,
            }
        }
    }

    fn children(&self, at: usize) -> impl Iterator<Item = usize> {
        let mut next = self.tree.nodes[at].first_child;
        std::iter::from_fn(move || {
            let at = (next != NONE).then_some(next as usize)?;
            next = self.tree.nodes[at].next;
            Some(at)
        })
    }

    /// Takes lists of links out of what is in `root`.
    fn clean(&mut self, root: usize) {
        let all = f64::from(self.paragraphs[root]);
        for (at, node) in self.tree.nodes.iter().enumerate().skip(root + 1) {
            let parent = node.parent as usize;
            let is_group = matches!(
                node.tag,
                Tag::List | Tag::OrderedList | Tag::Definitions | Tag::Table | Tag::Div | Tag::Section | Tag::Form | Tag::Figure
            );
            let is_links = is_group && self.link_share(at) > self.bounds.links && f64::from(self.paragraphs[at]) <= all * MOST;
            self.gone[at] |= self.gone[parent] || is_links;
        }
    }
}

/// Characters that are no ASCII white space.
fn dark_chars(text: &str) -> u32 {
    let count = text.bytes().filter(|byte| byte & 0xC0 != 0x80 && !byte.is_ascii_whitespace()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `text` with runs of white space as one blank.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// What was written.
struct Written {
    text: String,
    links: Vec<Link>,
    n_links: usize,
    heading: Option<String>,
}

/// Writes text as a reader sees it.
struct Writer<'t> {
    tree: &'t Tree,
    content: &'t Content<'t>,
    options: &'t PageOptions,
    written: Written,
    /// Line ends to write before more text, and whether a blank.
    breaks: u8,
    blank: bool,
    /// How many of these are open.
    pre: u32,
    /// The lists that are open: the number of the last item, where items have one.
    lists: Vec<Option<u32>>,
    /// Where the open link and the open heading began.
    link: usize,
    heading: usize,
}

impl<'t> Writer<'t> {
    fn new(tree: &'t Tree, content: &'t Content<'t>, options: &'t PageOptions) -> Self {
        let written = Written { text: String::new(), links: Vec::new(), n_links: 0, heading: None };
        Self { tree, content, options, written, breaks: 0, blank: false, pre: 0, lists: Vec::new(), link: 0, heading: 0 }
    }

    fn write(mut self, root: usize) -> Written {
        let mut at = root;
        'all: loop {
            let node = &self.tree.nodes[at];
            if !self.content.gone[at] {
                self.enter(at, node);
                if node.first_child != NONE {
                    at = node.first_child as usize;
                    continue;
                }
                self.leave(node);
            }
            loop {
                if at == root {
                    break 'all;
                }
                let node = &self.tree.nodes[at];
                if node.next != NONE {
                    at = node.next as usize;
                    break;
                }
                at = node.parent as usize;
                self.leave(&self.tree.nodes[at]);
            }
        }
        let length = self.written.text.trim_end().len();
        self.written.text.truncate(length);
        self.written
    }

    fn enter(&mut self, at: usize, node: &Node) {
        match node.tag {
            Tag::Text => self.text(self.tree.text(node)),
            Tag::Break if self.pre > 0 => self.written.text.push('\n'),
            Tag::Link => self.link = self.written.text.len(),
            Tag::Inline | Tag::Code | Tag::TableSection => {}
            Tag::Pre => {
                self.end_line(2);
                self.pre += 1;
            }
            Tag::List => {
                self.end_line(if self.lists.is_empty() { 2 } else { 1 });
                self.lists.push(None);
            }
            Tag::OrderedList => {
                self.end_line(if self.lists.is_empty() { 2 } else { 1 });
                self.lists.push(Some(0));
            }
            Tag::Item => {
                self.end_line(1);
                let depth = self.lists.len().saturating_sub(1).min(8);
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{number}. ")
                    }
                    Some(None) | None => "- ".to_owned(),
                };
                self.mark(&format!("{:1$}{mark}", "", depth * 2));
            }
            Tag::Break | Tag::Term | Tag::Definition | Tag::Row | Tag::Caption => self.end_line(1),
            Tag::Cell => {
                let row = &self.tree.nodes[node.parent as usize];
                if self.content.blocks[node.parent as usize] || row.tag != Tag::Row {
                    self.end_line(1);
                } else if row.first_child as usize != at && self.breaks == 0 && !self.written.text.is_empty() {
                    self.blank = false;
                    self.written.text.push_str(" | ");
                }
            }
            Tag::Heading => {
                self.end_line(2);
                self.heading = self.written.text.len();
            }
            _ => self.end_line(self.gap()),
        }
    }

    fn leave(&mut self, node: &Node) {
        match node.tag {
            Tag::Text | Tag::Inline | Tag::Code | Tag::Break | Tag::TableSection | Tag::Cell => {}
            Tag::Link => {
                let from = self.link.min(self.written.text.len());
                let text = self.written.text[from..].trim();
                if !text.is_empty() {
                    self.written.n_links += 1;
                    if self.options.links {
                        self.written.links.push(Link { url: self.tree.address(node).to_owned(), text: one_line(text) });
                    }
                }
            }
            Tag::Pre => {
                self.pre = self.pre.saturating_sub(1);
                self.end_line(2);
            }
            Tag::List | Tag::OrderedList => {
                self.lists.pop();
                self.end_line(if self.lists.is_empty() { 2 } else { 1 });
            }
            Tag::Item | Tag::Term | Tag::Definition | Tag::Row | Tag::Caption => self.end_line(1),
            Tag::Heading => {
                if self.written.heading.is_none() {
                    let heading = one_line(&self.written.text[self.heading.min(self.written.text.len())..]);
                    self.written.heading = Some(heading).filter(|heading| !heading.is_empty());
                }
                self.end_line(2);
            }
            _ => self.end_line(self.gap()),
        }
    }

    /// Line ends between blocks: in a list they are closer.
    fn gap(&self) -> u8 {
        if self.lists.is_empty() { 2 } else { 1 }
    }

    fn end_line(&mut self, breaks: u8) {
        self.breaks = self.breaks.max(breaks);
        self.blank = false;
    }

    /// The mark of an item; nothing ends the line between it and its text.
    fn mark(&mut self, mark: &str) {
        self.flush();
        self.written.text.push_str(mark);
    }

    fn flush(&mut self) {
        let text = &mut self.written.text;
        let breaks = std::mem::take(&mut self.breaks);
        let blank = std::mem::take(&mut self.blank);
        if text.is_empty() || breaks > 0 && is_mark(text) {
            return;
        }
        if breaks > 0 {
            let length = text.trim_end_matches(' ').len();
            text.truncate(length);
            let there = text.bytes().rev().take(usize::from(breaks)).take_while(|byte| *byte == b'\n').count();
            for _ in there..usize::from(breaks) {
                text.push('\n');
            }
        } else if blank && !text.ends_with([' ', '\n']) {
            text.push(' ');
        }
    }

    fn text(&mut self, text: &str) {
        if self.pre > 0 {
            // The line end that begins a block of code is not part of it.
            let text = if self.breaks > 0 { text.strip_prefix("\r\n").or_else(|| text.strip_prefix('\n')).unwrap_or(text) } else { text };
            if !text.is_empty() {
                self.flush();
                self.written.text.extend(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
            }
            return;
        }
        let is_blank = |c: char| c.is_whitespace() || c.is_control();
        let mut first = true;
        for word in text.split(is_blank) {
            if !std::mem::take(&mut first) {
                self.blank = true;
            }
            if !word.is_empty() {
                self.flush();
                self.written.text.push_str(word);
            }
        }
    }
}

/// Whether the text ends in the mark of an item that has no text yet.
fn is_mark(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or_default();
    let mark = line.trim_start();
    line.ends_with(' ')
        && (mark == "- "
            || mark.strip_suffix(". ").is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())))
}
