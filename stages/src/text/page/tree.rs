//! A page as a tree in one array, built in one pass from what the tokenizer finds.
//!
//! Parsers that follow the standard to the letter take quadratic time on hostile pages (its algorithms look through all open elements for each
//! tag), and their trees are walked by functions that call themselves. Here an end tag looks back a bounded way, elements deeper than a browser
//! allows are not nested further, and every pass over the tree is a loop.

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

/// Deepest nesting; what is deeper hangs on the last element that is not.
///
/// Source: Chromium's `HTMLConstructionSite` stops nesting at 512.
const MAX_DEPTH: usize = 512;
/// Open elements that an end tag looks through for its start.
const LOOK_BACK: usize = 64;
/// Bytes of `class` and `id` that are looked at.
const MAX_NAMES: usize = 256;
/// Bytes kept of an address or a language.
const MAX_ADDRESS: usize = 4096;

/// What an element is to a reader of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// The page.
    Root,
    /// Running text of no element of its own.
    Text,
    Html,
    Body,
    Main,
    Article,
    Section,
    Div,
    Paragraph,
    Heading,
    Pre,
    Quote,
    List,
    OrderedList,
    Item,
    Definitions,
    Term,
    Definition,
    Table,
    TableSection,
    Row,
    Cell,
    Caption,
    Figure,
    Break,
    Rule,
    Link,
    Code,
    /// Navigation and the like: `nav`, `aside`, `footer`, `menu`, `dialog`.
    Aside,
    Header,
    Form,
    /// Anything within a line.
    Inline,
}

impl Tag {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"html" => Self::Html,
            b"body" => Self::Body,
            b"main" => Self::Main,
            b"article" => Self::Article,
            b"section" | b"hgroup" => Self::Section,
            b"div" | b"center" | b"address" | b"fieldset" | b"details" | b"summary" | b"frameset" | b"search" | b"legend" => Self::Div,
            b"p" => Self::Paragraph,
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => Self::Heading,
            b"pre" | b"listing" | b"xmp" | b"plaintext" => Self::Pre,
            b"blockquote" => Self::Quote,
            b"ul" | b"dir" => Self::List,
            b"ol" => Self::OrderedList,
            b"li" => Self::Item,
            b"dl" => Self::Definitions,
            b"dt" => Self::Term,
            b"dd" => Self::Definition,
            b"table" => Self::Table,
            b"thead" | b"tbody" | b"tfoot" | b"colgroup" => Self::TableSection,
            b"tr" => Self::Row,
            b"td" | b"th" => Self::Cell,
            b"caption" | b"figcaption" => Self::Caption,
            b"figure" => Self::Figure,
            b"br" => Self::Break,
            b"hr" => Self::Rule,
            b"a" => Self::Link,
            b"code" | b"kbd" | b"samp" | b"tt" => Self::Code,
            b"nav" | b"aside" | b"footer" | b"menu" | b"dialog" => Self::Aside,
            b"header" => Self::Header,
            b"form" => Self::Form,
            _ => return None,
        })
    }

    /// Whether it stands in a line of text.
    pub(super) fn is_inline(self) -> bool {
        matches!(self, Self::Inline | Self::Link | Self::Code | Self::Text | Self::Break)
    }

    /// Whether its start ends a paragraph.
    fn ends_paragraph(self) -> bool {
        !self.is_inline() && !matches!(self, Self::Cell | Self::Row | Self::TableSection | Self::Html | Self::Body | Self::Caption)
    }
}

/// Elements whose content is not read: what a browser does not show as text, and what is asked of a visitor.
fn is_unread(name: &[u8]) -> bool {
    matches!(
        name,
        b"script"
            | b"style"
            | b"noscript"
            | b"noembed"
            | b"noframes"
            | b"template"
            | b"svg"
            | b"math"
            | b"iframe"
            | b"object"
            | b"applet"
            | b"canvas"
            | b"audio"
            | b"video"
            | b"select"
            | b"textarea"
            | b"button"
            | b"datalist"
            | b"map"
    )
}

/// Elements that have no end.
fn is_void(name: &[u8]) -> bool {
    matches!(
        name,
        b"br"
            | b"hr"
            | b"img"
            | b"input"
            | b"meta"
            | b"link"
            | b"area"
            | b"base"
            | b"col"
            | b"embed"
            | b"param"
            | b"source"
            | b"track"
            | b"wbr"
            | b"frame"
    )
}

/// What an element's names and attributes say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of its own")]
pub(super) struct Hints {
    /// It is not shown.
    pub(super) hidden: bool,
    /// Its `role` is one of navigation, banner, and so on.
    pub(super) aside: bool,
    /// Its `role` is `main`, or `article`.
    pub(super) main: bool,
    /// Its names are those of navigation, advertisements, comments.
    pub(super) unlikely: bool,
    /// Its names are those of content.
    pub(super) likely: bool,
    /// It is a mark that links a heading to itself.
    pub(super) permalink: bool,
}

pub(super) const NONE: u32 = u32::MAX;

/// An element, or a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) tag: Tag,
    pub(super) hints: Hints,
    pub(super) parent: u32,
    pub(super) first_child: u32,
    last_child: u32,
    pub(super) next: u32,
    /// Of a text its bytes, of a link those of its address.
    start: u32,
    end: u32,
}

/// A page that was read.
#[derive(Debug)]
pub(super) struct Tree {
    /// Parents stand before their children.
    pub(super) nodes: Vec<Node>,
    texts: String,
    addresses: String,
    pub(super) title: String,
    /// Of the elements that are open on the way.
    pub(super) lang: Option<String>,
    /// What addresses are relative to, as the page says.
    pub(super) base: Option<String>,
}

/// A page has more elements than are allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyNodes;

impl Tree {
    /// # Errors
    /// [`TooManyNodes`].
    pub(super) fn parse(html: &str, max_nodes: usize) -> Result<Self, TooManyNodes> {
        let mut builder = Builder::new(max_nodes);
        let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| -> Option<()> { builder.take(event) });
        emitter.naively_switch_states(true);
        // The callback's one word: that there are too many.
        let stopped = Tokenizer::new_with_emitter(html, emitter).next().is_some();
        if stopped { Err(TooManyNodes) } else { Ok(builder.tree) }
    }

    /// The text of a node that is one.
    pub(super) fn text(&self, node: &Node) -> &str {
        &self.texts[node.start as usize..node.end as usize]
    }

    /// The address of a link.
    pub(super) fn address(&self, node: &Node) -> &str {
        &self.addresses[node.start as usize..node.end as usize]
    }
}

/// The tag that is being read.
#[derive(Default)]
struct Open {
    name: Vec<u8>,
    attribute: Attribute,
    hints: Hints,
    names: Vec<u8>,
    href: Option<String>,
    lang: Option<String>,
    /// Of a `meta`.
    is_title: bool,
    content: Option<String>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    #[default]
    Other,
    Names,
    Role,
    Hidden,
    AriaHidden,
    Style,
    Href,
    Lang,
    Property,
    Content,
}

struct Builder {
    tree: Tree,
    max_nodes: usize,
    /// The open elements, and the names by which they are closed.
    stack: Vec<(u32, Name)>,
    /// Elements that are open and not nested further.
    too_deep: usize,
    /// The element that is not read, and how many of its name are open in it.
    unread: Option<(Vec<u8>, usize)>,
    in_title: bool,
    og_title: Option<String>,
    open: Open,
}

/// A question about a tag.
type Test = fn(Tag) -> bool;

/// A tag's name, as far as it tells one from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name([u8; 12]);

impl Name {
    fn of(name: &[u8]) -> Self {
        let mut bytes = [0; 12];
        let length = name.len().min(12);
        bytes[..length].copy_from_slice(&name[..length]);
        Self(bytes)
    }
}

impl Builder {
    fn new(max_nodes: usize) -> Self {
        let root = Node {
            tag: Tag::Root,
            hints: Hints::default(),
            parent: NONE,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
            start: 0,
            end: 0,
        };
        let tree = Tree { nodes: vec![root], texts: String::new(), addresses: String::new(), title: String::new(), lang: None, base: None };
        Self {
            tree,
            max_nodes,
            stack: vec![(0, Name::of(b""))],
            too_deep: 0,
            unread: None,
            in_title: false,
            og_title: None,
            open: Open::default(),
        }
    }

    fn take(&mut self, event: CallbackEvent<'_>) -> Option<()> {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                let Open { name: mut bytes, mut names, .. } = std::mem::take(&mut self.open);
                bytes.clear();
                names.clear();
                bytes.extend_from_slice(&name[..name.len().min(64)]);
                self.open = Open { name: bytes, names, ..Open::default() };
            }
            CallbackEvent::AttributeName { name } => self.attribute(name),
            CallbackEvent::AttributeValue { value } => self.value(value),
            CallbackEvent::CloseStartTag { self_closing } => self.start(self_closing),
            CallbackEvent::EndTag { name } => self.end(name),
            CallbackEvent::String { value } => self.text(value),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
        if self.tree.nodes.len() > self.max_nodes { Some(()) } else { None }
    }

    fn attribute(&mut self, name: &[u8]) {
        self.open.attribute = match name {
            b"class" | b"id" => Attribute::Names,
            b"role" => Attribute::Role,
            b"hidden" => {
                self.open.hints.hidden = true;
                Attribute::Hidden
            }
            b"aria-hidden" => Attribute::AriaHidden,
            b"style" => Attribute::Style,
            b"href" => Attribute::Href,
            b"lang" | b"xml:lang" => Attribute::Lang,
            b"property" | b"name" => Attribute::Property,
            b"content" => Attribute::Content,
            _ => Attribute::Other,
        };
    }

    fn value(&mut self, value: &[u8]) {
        let open = &mut self.open;
        let short = &value[..value.len().min(MAX_ADDRESS)];
        let text = || String::from_utf8_lossy(short).trim().to_owned();
        match open.attribute {
            Attribute::Names if open.names.len() < MAX_NAMES => {
                open.names.push(b' ');
                open.names.extend(value.iter().take(MAX_NAMES).map(u8::to_ascii_lowercase));
            }
            Attribute::Role => match value {
                b"navigation" | b"banner" | b"contentinfo" | b"complementary" | b"search" | b"dialog" | b"alert" | b"alertdialog"
                | b"menu" | b"menubar" | b"toolbar" | b"tablist" => open.hints.aside = true,
                b"main" | b"article" => open.hints.main = true,
                _ => {}
            },
            Attribute::AriaHidden => open.hints.hidden |= value.eq_ignore_ascii_case(b"true"),
            // Found again with `until-found` by browsers, and so text.
            Attribute::Hidden => open.hints.hidden = !value.eq_ignore_ascii_case(b"until-found"),
            Attribute::Style => {
                let compact: Vec<u8> = short.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
                let has = |what: &[u8]| memchr::memmem::find(&compact, what).is_some();
                open.hints.hidden |= has(b"display:none") || has(b"visibility:hidden");
            }
            Attribute::Href if open.href.is_none() => open.href = Some(text()),
            Attribute::Lang if open.lang.is_none() => open.lang = Some(text()),
            Attribute::Property => open.is_title |= value.eq_ignore_ascii_case(b"og:title"),
            Attribute::Content => open.content = Some(text()),
            _ => {}
        }
    }

    fn start(&mut self, self_closing: bool) {
        let name = std::mem::take(&mut self.open.name);
        self.begin(&name, self_closing);
        self.open.name = name;
    }

    fn begin(&mut self, name: &[u8], self_closing: bool) {
        if let Some((unread, open)) = &mut self.unread {
            *open += usize::from(unread == name && !self_closing);
            return;
        }
        match name {
            b"title" => {
                self.in_title = self.tree.title.is_empty();
                return;
            }
            b"meta" => {
                if self.open.is_title && self.og_title.is_none() {
                    self.og_title = self.open.content.take();
                }
                return;
            }
            b"base" => {
                if self.tree.base.is_none() {
                    self.tree.base = self.open.href.take();
                }
                return;
            }
            _ if is_unread(name) => {
                if !self_closing {
                    self.unread = Some((name.to_owned(), 1));
                }
                return;
            }
            b"head" | b"img" | b"input" | b"link" | b"area" | b"col" | b"embed" | b"param" | b"source" | b"track" | b"wbr" | b"frame" => {
                return;
            }
            _ => {}
        }
        let tag = Tag::of(name).unwrap_or(Tag::Inline);
        if self.tree.lang.is_none() && matches!(tag, Tag::Html | Tag::Body) {
            self.tree.lang = self.open.lang.take().filter(|lang| !lang.is_empty());
        }
        // Only one of each: more of them say nothing.
        if tag == Tag::Html && self.stack.len() > 1 {
            return;
        }
        self.close_implied(tag);
        let node = self.append(tag);
        let (start, end) = match self.open.href.take().filter(|_| tag == Tag::Link) {
            Some(href) => {
                let start = self.tree.addresses.len();
                self.tree.addresses.push_str(&href);
                (start, self.tree.addresses.len())
            }
            None => (0, 0),
        };
        let hints = self.hints(tag);
        if let Some(node) = self.tree.nodes.get_mut(node as usize) {
            (node.start, node.end) = (u32_of(start), u32_of(end));
            node.hints = hints;
        }
        if is_void(name) {
            return;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.too_deep += 1;
        } else {
            self.stack.push((node, Name::of(name)));
        }
    }

    /// What the names and attributes of the tag that was read say.
    fn hints(&mut self, tag: Tag) -> Hints {
        let mut hints = self.open.hints;
        let names = &self.open.names;
        if !names.is_empty() && !matches!(tag, Tag::Html | Tag::Body) {
            let words = names.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            for word in words {
                hints.unlikely |= is_unlikely(word);
                hints.likely |= is_likely(word);
                hints.permalink |= matches!(word, b"headerlink" | b"permalink" | b"headinganchor");
            }
        }
        hints.permalink &= tag == Tag::Link;
        hints
    }

    /// Ends what a start tag of `tag` ends without saying so.
    fn close_implied(&mut self, tag: Tag) {
        if self.too_deep > 0 {
            return;
        }
        let (ended, within): (Test, Test) = match tag {
            Tag::Item => (|tag| tag == Tag::Item, |tag| matches!(tag, Tag::List | Tag::OrderedList | Tag::Table | Tag::Aside)),
            Tag::Term | Tag::Definition => {
                (|tag| matches!(tag, Tag::Term | Tag::Definition), |tag| matches!(tag, Tag::Definitions | Tag::Table))
            }
            Tag::Cell => (|tag| tag == Tag::Cell, |tag| matches!(tag, Tag::Row | Tag::Table)),
            Tag::Row => (|tag| tag == Tag::Row, |tag| matches!(tag, Tag::TableSection | Tag::Table)),
            Tag::TableSection => (|tag| tag == Tag::TableSection, |tag| tag == Tag::Table),
            // A link in a link is two links.
            Tag::Link => (|tag| tag == Tag::Link, |tag| !tag.is_inline()),
            _ if tag.ends_paragraph() => (|tag| tag == Tag::Paragraph, |tag| !tag.is_inline() && tag != Tag::Paragraph),
            _ => return,
        };
        let open = self.stack.iter().enumerate().rev().take(LOOK_BACK);
        for (at, (node, _)) in open {
            let tag = self.tree.nodes[*node as usize].tag;
            if ended(tag) {
                self.stack.truncate(at);
                return;
            }
            if within(tag) {
                return;
            }
        }
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((unread, open)) = &mut self.unread {
            if unread == name {
                *open -= 1;
                if *open == 0 {
                    self.unread = None;
                }
            }
            return;
        }
        match name {
            b"title" => {
                self.in_title = false;
                return;
            }
            b"br" => {
                self.append(Tag::Break);
                return;
            }
            b"html" | b"body" | b"head" => return, // what follows is still of the page
            _ => {}
        }
        if self.too_deep > 0 {
            self.too_deep -= usize::from(!is_void(name));
            return;
        }
        let wanted = Name::of(name);
        let is_inline = Tag::of(name).is_none_or(Tag::is_inline);
        for (at, (node, name)) in self.stack.iter().enumerate().skip(1).rev().take(LOOK_BACK) {
            if *name == wanted {
                self.stack.truncate(at);
                return;
            }
            let tag = self.tree.nodes[*node as usize].tag;
            // The end of what stands in a line does not end a block, nor that of what is in a cell the cell.
            if is_inline && !tag.is_inline()
                || matches!(tag, Tag::Cell | Tag::Table) && !matches!(name_tag(wanted), Some(Tag::Row | Tag::TableSection | Tag::Table))
            {
                return;
            }
        }
    }

    fn text(&mut self, value: &[u8]) {
        if self.unread.is_some() {
            return;
        }
        let text = String::from_utf8_lossy(value);
        if self.in_title {
            self.tree.title.push_str(&text);
            return;
        }
        if text.is_empty() {
            return;
        }
        let start = self.tree.texts.len();
        self.tree.texts.push_str(&text);
        let end = self.tree.texts.len();
        let node = self.append(Tag::Text);
        if let Some(node) = self.tree.nodes.get_mut(node as usize) {
            (node.start, node.end) = (u32_of(start), u32_of(end));
        }
    }

    /// A new last child of the open element.
    fn append(&mut self, tag: Tag) -> u32 {
        let parent = self.stack.last().map_or(0, |(node, _)| *node);
        let node = u32_of(self.tree.nodes.len());
        let last = std::mem::replace(&mut self.tree.nodes[parent as usize].last_child, node);
        match last {
            NONE => self.tree.nodes[parent as usize].first_child = node,
            last => self.tree.nodes[last as usize].next = node,
        }
        self.tree.nodes.push(Node {
            tag,
            hints: Hints::default(),
            parent,
            first_child: NONE,
            last_child: NONE,
            next: NONE,
            start: 0,
            end: 0,
        });
        node
    }
}

fn name_tag(name: Name) -> Option<Tag> {
    let end = name.0.iter().position(|byte| *byte == 0).unwrap_or(name.0.len());
    Tag::of(&name.0[..end])
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX - 1)
}

/// Words in names of what is not the content.
///
/// The words are those that Readability (Arc90, 2010, and Mozilla's) looks for, as far as they stand alone in a name.
fn is_unlikely(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 63] = [
        b"ad",
        b"ads",
        b"advert",
        b"advertisement",
        b"adbox",
        b"agegate",
        b"banner",
        b"breadcrumb",
        b"breadcrumbs",
        b"byline",
        b"combx",
        b"comment",
        b"comments",
        b"community",
        b"cookie",
        b"cookies",
        b"consent",
        b"cover",
        b"disqus",
        b"extra",
        b"footer",
        b"gdpr",
        b"hidden",
        b"legends",
        b"login",
        b"masthead",
        b"menu",
        b"modal",
        b"nav",
        b"navbar",
        b"navigation",
        b"navigate",
        b"newsletter",
        b"outbrain",
        b"overlay",
        b"pager",
        b"pagination",
        b"popup",
        b"promo",
        b"promoted",
        b"recommended",
        b"related",
        b"remark",
        b"replies",
        b"rss",
        b"share",
        b"sharing",
        b"shoutbox",
        b"sidebar",
        b"signup",
        b"skyscraper",
        b"social",
        b"sponsor",
        b"sponsored",
        b"subscribe",
        b"supplemental",
        b"taboola",
        b"tags",
        b"toc",
        b"toolbar",
        b"topbar",
        b"widget",
        b"yom",
    ];
    WORDS.contains(&word)
}

/// Words in names of the content.
fn is_likely(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 16] = [
        b"article",
        b"articlebody",
        b"body",
        b"blog",
        b"column",
        b"content",
        b"contents",
        b"documentation",
        b"entry",
        b"hentry",
        b"main",
        b"page",
        b"post",
        b"shadow",
        b"story",
        b"text",
    ];
    WORDS.contains(&word)
}
