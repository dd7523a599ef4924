//! Which strings spaCy takes for an address of the web, and leaves in one piece.

use super::tables::{LOWER, Tables};

/// Whether all of `text`, which has no white space, reads as a URL: a scheme and a user if there are, a host of labels and a domain in small
/// letters or a public IPv4 address, a port if there is, and anything behind `/`, `?` or `#`.
///
/// Source: spaCy 3.8, `lang/tokenizer_exceptions.py`, `URL_PATTERN`, after Diego Perini's.
pub(super) fn is_url(tables: &Tables, text: &str) -> bool {
    let is_host_at = |at: usize| is_host(tables, &text[at..]);
    // The host stands at the start, behind a scheme, or behind any `@` that has something before it.
    is_host_at(0)
        || scheme_length(tables, text).is_some_and(is_host_at)
        || text.match_indices('@').any(|(at, _)| at > 0 && is_host_at(at + 1))
}

/// The length of a scheme with `://`.
fn scheme_length(tables: &Tables, text: &str) -> Option<usize> {
    let end = text.find("://")?;
    let is_in_scheme = |character: char| tables.is_word(character) || matches!(character, '+' | '-' | '.');
    (text[..end].chars().all(is_in_scheme) && text[..end].chars().nth(1).is_some()).then_some(end + 3)
}

/// Whether a text begins with a host, and goes on as a URL does to its end.
fn is_host(tables: &Tables, text: &str) -> bool {
    // What ends a host is no part of one, so that it may be looked for by itself; in hostile text only as far as a host could reach.
    let is_inside = |character: char| is_label(character) || matches!(character, '.' | '_' | '-') || tables.class(character) & LOWER != 0;
    let end = text.find(|character| !is_inside(character)).unwrap_or(text.len());
    is_tail(tables, &text[end..]) && (is_domain(tables, &text[..end]) || is_public_address(tables, &text[..end]))
}

/// Whether a text is a port, a path, both or nothing.
fn is_tail(tables: &Tables, text: &str) -> bool {
    let rest = match text.strip_prefix(':') {
        Some(port) => {
            let end = port.find(|character| !tables.is_decimal(character)).unwrap_or(port.len());
            if !(2..=5).contains(&port[..end].chars().count()) {
                return false;
            }
            &port[end..]
        }
        None => text,
    };
    rest.is_empty() || rest.starts_with(['/', '?', '#'])
}

fn is_label(character: char) -> bool {
    character.is_ascii_alphanumeric() || ('\u{A1}'..='\u{FFFF}').contains(&character)
}

fn is_domain(tables: &Tables, text: &str) -> bool {
    let Some((labels, top)) = text.rsplit_once('.') else { return false };
    let is_good = |label: &str| {
        let edges = [label.chars().next(), label.chars().next_back()];
        let is_inside = |character: char| is_label(character) || matches!(character, '_' | '-');
        edges.into_iter().all(|edge| edge.is_some_and(is_label)) && label.chars().all(is_inside) && label.chars().count() <= 64
    };
    (2..=63).contains(&top.chars().count())
        && top.chars().all(|character| tables.class(character) & LOWER != 0)
        && labels.split('.').all(is_good)
}

/// Whether a text is an IPv4 address that is not of a private network, of this host, of a group, or the first or last of its network.
fn is_public_address(tables: &Tables, text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(a), Some(b), Some(c), Some(d), None) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // The rules name ASCII digits where a range is limited, and take digits of any script elsewhere.
    let digits = |part: &str| -> Option<Vec<char>> {
        let digits: Vec<char> = part.chars().take(4).collect();
        ((1..=3).contains(&digits.len()) && digits.iter().all(|digit| tables.is_decimal(*digit))).then_some(digits)
    };
    let [Some(first), Some(second), Some(third), Some(last)] = [a, b, c, d].map(digits) else { return false };
    let is_first = matches!(first.as_slice(), ['1'..='9'] | ['1'..='9', _] | ['1', _, _] | ['2', '0' | '1', _] | ['2', '2', '0'..='3']);
    let is_middle = |part: &[char]| matches!(part, [_] | [_, _] | ['1', _, _] | ['2', '0'..='4', _] | ['2', '5', '0'..='5']);
    let is_last = matches!(last.as_slice(), ['1'..='9'] | ['1'..='9', _] | ['1', _, _] | ['2', '0'..='4', _] | ['2', '5', '0'..='4']);
    let is_private = matches!(a, "10" | "127")
        || matches!((a, b), ("169", "254") | ("192", "168"))
        || (a == "172" && matches!(second.as_slice(), ['1', '6'..='9'] | ['2', _] | ['3', '0' | '1']));
    is_first && is_middle(&second) && is_middle(&third) && is_last && !is_private
}
