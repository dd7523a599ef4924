//! The names that a template uses.
//!
//! minijinja says which names a template does not declare itself, but passes over what is sliced (`text[:4]`) and over `{% set text = text | trim %}`.
//! So it is asked about a text of the same names without slices, and words of the code that are columns count too.

use std::collections::BTreeSet;

/// What the code of a template says.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// The template, with `x[[a, b]]` in place of every slice `x[a:b]`: it uses the same names.
    pub(super) unsliced: String,
    /// Words of its code that may be names: none that follow `.` or `|`.
    pub(super) words: BTreeSet<String>,
}

/// A bracket that is open.
struct Open {
    bracket: u8,
    /// Where what is inside begins.
    inside: usize,
    /// Where its own colons are.
    colons: Vec<usize>,
}

/// Reads the code of a template that minijinja has accepted.
pub(super) fn read(source: &str) -> Code {
    let mut code = Code::default();
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (text, block) = rest.split_at(at);
        code.unsliced.push_str(text);
        let length = match block.as_bytes().get(1) {
            Some(b'#') => block.find("#}").map_or(block.len(), |end| end + 2),
            Some(b'{' | b'%') => {
                let inside = block[2..].trim_start_matches(['-', '+']).trim_start();
                if block.starts_with("{%") && inside.starts_with("raw") && inside[3..].trim_start_matches(['-', '+', ' ']).starts_with("%}")
                {
                    block.find("endraw").map_or(block.len(), |end| end + 6)
                } else {
                    rest = &block[code.block(block)..];
                    continue;
                }
            }
            _ => 1,
        };
        code.unsliced.push_str(&block[..length]);
        rest = &block[length..];
    }
    code.unsliced.push_str(rest);
    code
}

impl Code {
    /// Reads the block that `block` begins with; how long it is.
    fn block(&mut self, block: &str) -> usize {
        let bytes = block.as_bytes();
        let end: &[u8] = if bytes.starts_with(b"{%") { b"%}" } else { b"}}" };
        self.unsliced.push_str(&block[..2]);
        let mut open: Vec<Open> = Vec::new();
        let mut before = b'{';
        let mut at = 2;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if rest.starts_with(end) && !(end == b"}}" && open.iter().any(|open| open.bracket == b'{')) {
                self.unsliced.push_str(&block[at..at + 2]);
                return at + 2;
            }
            let length = match rest[0] {
                quote @ (b'"' | b'\'') => quoted(rest, quote),
                byte if is_word(byte) => rest.iter().take_while(|byte| is_word(**byte)).count(),
                _ => block[at..].chars().next().map_or(1, char::len_utf8),
            };
            let part = &block[at..at + length];
            at += length;
            match rest[0] {
                byte if is_word(byte) && !byte.is_ascii_digit() && !matches!(before, b'.' | b'|') => {
                    self.words.insert(part.to_owned());
                }
                b':' => {
                    let here = self.unsliced.len();
                    if let Some(open) = open.last_mut() {
                        open.colons.push(here);
                    }
                }
                b']' | b')' | b'}' => {
                    if let Some(open) = open.pop().filter(|open| open.bracket == b'[' && !open.colons.is_empty()) {
                        self.unslice(&open);
                    }
                }
                _ => {}
            }
            self.unsliced.push_str(part);
            if matches!(rest[0], b'[' | b'(' | b'{') {
                open.push(Open { bracket: rest[0], inside: self.unsliced.len(), colons: Vec::new() });
            }
            if !rest[0].is_ascii_whitespace() {
                before = rest[0];
            }
        }
        bytes.len()
    }

    /// Writes what is inside of a bracket as a list.
    fn unslice(&mut self, open: &Open) {
        let inside = self.unsliced.split_off(open.inside);
        let mut from = 0;
        self.unsliced.push('[');
        for to in open.colons.iter().map(|colon| colon - open.inside).chain([inside.len()]) {
            let bound = inside[from..to].trim();
            self.unsliced.push_str(if bound.is_empty() { "0" } else { bound });
            self.unsliced.push_str(", ");
            from = (to + 1).min(inside.len());
        }
        self.unsliced.push(']');
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Bytes of the text in quotes that `bytes` begin with.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if *byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_written_as_lists_and_all_else_stays() {
        for (source, unsliced) in [
            ("a [1:2] {{ text[:4] }}é{ x[:1] }", "a [1:2] {{ text[[0, 4, ]] }}é{ x[:1] }"),
            ("{{ a[b[1:]:c, ] }}", "{{ a[[b[[1, 0, ]], c,, ]] }}"),
            ("{{ a[::2][1] ~ 'x[:1] }}' }}", "{{ a[[0, 0, 2, ]][1] ~ 'x[:1] }}' }}"),
            ("{{ {'a': {'b': [1]}} }}{# x[:1] #}", "{{ {'a': {'b': [1]}} }}{# x[:1] #}"),
            ("{%- raw -%}{{ ' x[:1] }}{% endraw %}{{ a[:1] }}", "{%- raw -%}{{ ' x[:1] }}{% endraw %}{{ a[[0, 1, ]] }}"),
            ("{{ a[:'é\\'", "{{ a[:'é\\'"),
        ] {
            assert_eq!(read(source).unsliced, unsliced, "{source}");
        }
        let words: Vec<String> = read("text {% set a = b.c | d(e=f['g']) %}{{ 1 }}").words.into_iter().collect();
        assert_eq!(words, ["a", "b", "e", "f", "set"]);
    }
}
