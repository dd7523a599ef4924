//! Models that a stage is given: files that anyone may have made.

use stages::fasttext::{FastText, Scratch};

/// fastText's models: an error, or labels for any text.
pub fn languages(data: &[u8]) {
    let Ok(model) = FastText::read(data, data.len() as u64) else { return };
    let mut scratch = Scratch::default();
    for text in ["", "a b ab x", "é 日本語 \0 </s> a", "__label__en a"] {
        for k in [1, 3] {
            let guesses = model.predict(text, k, &mut scratch);
            assert!(guesses.len() <= k && guesses.iter().all(|(_, label)| *label < model.labels().len()), "{guesses:?}");
        }
    }
}
