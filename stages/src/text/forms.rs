//! Unicode's normal forms.

use std::sync::OnceLock;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick};

/// A normal form.
///
/// Source: Unicode Standard Annex #15, *Unicode normalization forms*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Letters and their accents in one character, where there is one.
    Nfc,
    /// Letters and their accents in characters of their own.
    Nfd,
    /// `Nfc`, and characters that look different but mean the same in one way: `ﬁ` is `fi`, `²` is `2`.
    Nfkc,
    /// `Nfd` of what `Nfkc` has.
    Nfkd,
}

/// Brings texts to a normal form.
#[derive(Debug)]
pub(crate) struct Normalizer {
    form: Form,
    plain: &'static [u64],
}

/// For each form and each character up to U+FFFF, whether it is normal beside any others that are: a bit each.
static PLAIN: [OnceLock<Vec<u64>>; 4] = [const { OnceLock::new() }; 4];

impl Normalizer {
    pub(crate) fn new(form: Form) -> Self {
        let plain = PLAIN[form as usize].get_or_init(|| {
            let mut plain = vec![0_u64; 0x1_0000 / 64];
            for character in '\0'..='\u{ffff}' {
                let at = character as usize;
                plain[at / 64] |= u64::from(is_plain(form, character)) << (at % 64);
            }
            plain
        });
        Self { form, plain }
    }

    fn is_plain(&self, character: char) -> bool {
        let at = character as usize;
        self.plain.get(at / 64).map_or_else(|| is_plain(self.form, character), |word| (word >> (at % 64)) & 1 == 1)
    }

    /// `text` in the normal form; `None` if it is.
    pub(crate) fn normalize(&self, text: &str) -> Option<String> {
        if text.is_ascii() || text.chars().all(|character| self.is_plain(character)) {
            return None;
        }
        if quick(self.form, text.chars()) == IsNormalized::Yes {
            return None;
        }
        let normal: String = match self.form {
            Form::Nfc => text.nfc().collect(),
            Form::Nfd => text.nfd().collect(),
            Form::Nfkc => text.nfkc().collect(),
            Form::Nfkd => text.nfkd().collect(),
        };
        (normal != text).then_some(normal)
    }
}

fn quick(form: Form, text: impl Iterator<Item = char>) -> IsNormalized {
    match form {
        Form::Nfc => is_nfc_quick(text),
        Form::Nfd => is_nfd_quick(text),
        Form::Nfkc => is_nfkc_quick(text),
        Form::Nfkd => is_nfkd_quick(text),
    }
}

fn is_plain(form: Form, character: char) -> bool {
    quick(form, std::iter::once(character)) == IsNormalized::Yes && canonical_combining_class(character) == 0
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn normal(form: Form, text: &str) -> String {
        Normalizer::new(form).normalize(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn forms_are_those_of_unicode() {
        // From UAX #15, figures 3 to 6.
        assert_eq!(normal(Form::Nfc, "\u{212b}\u{2126} o\u{302}\u{323}"), "Å\u{3a9} \u{1ed9}");
        assert_eq!(normal(Form::Nfd, "\u{1ed9} \u{ac00}"), "o\u{323}\u{302} \u{1100}\u{1161}");
        assert_eq!(normal(Form::Nfkc, "\u{fb01}2\u{2075} \u{1e9b}\u{323}"), "fi25 \u{1e69}");
        assert_eq!(normal(Form::Nfkd, "\u{fb01} \u{1e9b}\u{323}"), "fi s\u{323}\u{307}");
        for form in [Form::Nfc, Form::Nfd, Form::Nfkc, Form::Nfkd] {
            let normalizer = Normalizer::new(form);
            for text in ["", "plain", "日本語", "😀👨‍👩‍👧"] {
                assert_eq!(normalizer.normalize(text), None, "{form:?} {text}");
            }
        }
    }

    #[test]
    fn a_million_marks_take_no_longer_than_letters() {
        let marks = format!("a{}", "\u{301}\u{323}".repeat(500_000));
        let normal = normal(Form::Nfc, &marks);
        assert!(normal.starts_with("\u{1ea1}\u{323}") && normal.chars().count() == 1_000_000);
    }

    static ALL: LazyLock<[Normalizer; 4]> = LazyLock::new(|| [Form::Nfc, Form::Nfd, Form::Nfkc, Form::Nfkd].map(Normalizer::new));

    proptest! {
        #[test]
        fn what_is_normal_stays(text in "\\PC{0,40}[a\u{301}\u{323}\u{1100}\u{1161}ﬁ²]{0,8}") {
            for normalizer in &*ALL {
                let once = normalizer.normalize(&text).unwrap_or_else(|| text.clone());
                prop_assert_eq!(normalizer.normalize(&once), None);
            }
        }
    }
}
