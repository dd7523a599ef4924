//! Which lines of a text are gone, and which are new.

/// More lines than this, on both sides of what differs, are not lined up: all are gone, all are new.
const MOST_LINED_UP: usize = 2000;

/// A line of one text, of the other, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// The lines of both texts, in order, as many of them the same as can be.
pub(super) fn diff<'t>(before: &'t str, now: &'t str) -> Vec<Line<'t>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), now.lines().collect());
    let n_first = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let (a_rest, b_rest) = (&a[n_first..], &b[n_first..]);
    let n_last = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a_middle, b_middle) = (&a_rest[..a_rest.len() - n_last], &b_rest[..b_rest.len() - n_last]);
    let mut lines: Vec<Line<'t>> = a[..n_first].iter().map(|line| Line::Same(line)).collect();
    if a_middle.len() > MOST_LINED_UP || b_middle.len() > MOST_LINED_UP {
        lines.extend(a_middle.iter().map(|line| Line::Gone(line)));
        lines.extend(b_middle.iter().map(|line| Line::New(line)));
    } else {
        line_up(a_middle, b_middle, &mut lines);
    }
    lines.extend(a_rest[a_rest.len() - n_last..].iter().map(|line| Line::Same(line)));
    lines
}

/// By the longest common subsequence.
fn line_up<'t>(a: &[&'t str], b: &[&'t str], lines: &mut Vec<Line<'t>>) {
    let width = b.len() + 1;
    // How many lines the rests from (i, j) on have in common.
    let mut common = vec![0_u16; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] =
                if a[i] == b[j] { common[(i + 1) * width + j + 1] + 1 } else { common[(i + 1) * width + j].max(common[i * width + j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Gone(a[i]));
            i += 1;
        } else {
            lines.push(Line::New(b[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(before: &str, now: &str) -> String {
        let line = |line: &Line<'_>| match line {
            Line::Same(text) => format!(" {text}"),
            Line::Gone(text) => format!("-{text}"),
            Line::New(text) => format!("+{text}"),
        };
        diff(before, now).iter().map(line).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn gone_lines_stand_before_the_new_ones_in_their_place() {
        assert_eq!(shown("a\nb\nc\nd", "a\nx\nc\ne\nd"), " a|-b|+x| c|+e| d");
        assert_eq!(shown("a\n", "a"), " a");
        assert_eq!(shown("", "a\na"), "+a|+a");
        assert_eq!(shown("a\na\na", "a"), " a|-a|-a");
    }

    #[test]
    fn texts_too_long_to_line_up_are_all_gone_and_all_new() {
        let text = |from: usize| (from..from + 3000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        let (before, now) = (format!("head\n{}\nfoot", text(0)), format!("head\n{}\nfoot", text(1)));
        let lines = diff(&before, &now);
        assert_eq!(lines.iter().filter(|line| matches!(line, Line::Same(_))).count(), 2);
        assert_eq!(lines.len(), 6002);
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_off_the_lines(a in prop::collection::vec("[abc]", 0..20), b in prop::collection::vec("[abc]", 0..20)) {
            let (a, b) = (a.join("\n"), b.join("\n"));
            let lines = diff(&a, &b);
            let before: Vec<&str> = lines.iter().filter_map(|line| match line { Line::Same(text) | Line::Gone(text) => Some(*text), Line::New(_) => None }).collect();
            let now: Vec<&str> = lines.iter().filter_map(|line| match line { Line::Same(text) | Line::New(text) => Some(*text), Line::Gone(_) => None }).collect();
            prop_assert_eq!(before.join("\n"), a.as_str());
            prop_assert_eq!(now.join("\n"), b.as_str());
        }
    }
}
