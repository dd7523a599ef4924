//! Web pages: their content, told from what stands around it.

mod content;
#[cfg(test)]
mod tests;
mod tree;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use tree::TooManyNodes;

/// What to favor where it is not clear what is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Favor {
    /// Less of what is not content.
    Precision,
    /// Neither.
    #[default]
    Balanced,
    /// More of what is.
    Recall,
}

/// How pages are read.
#[derive(Debug, Clone)]
pub(super) struct PageOptions {
    pub(super) favor: Favor,
    /// Whether tables of data are kept.
    pub(super) tables: bool,
    /// Whether blocks of code are kept.
    pub(super) code: bool,
    /// Whether links are collected.
    pub(super) links: bool,
    pub(super) max_elements: usize,
}

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) title: String,
    pub(super) lang: Option<String>,
    /// What its links are relative to, if not to its own address.
    pub(super) base: Option<String>,
    pub(super) links: Vec<Link>,
    pub(super) n_links: usize,
}

/// A link within the content, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) url: String,
    pub(super) text: String,
}

/// The content of a page. Takes time in proportion to its length, whatever it holds.
///
/// # Errors
/// [`TooManyNodes`] if it has more elements and runs of text than are allowed.
pub(super) fn read_page(html: &str, options: &PageOptions) -> Result<Page, TooManyNodes> {
    content::extract(html, options)
}
