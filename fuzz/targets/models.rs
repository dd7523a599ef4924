//! Models that a stage is given: files that anyone may have made.

use stages::fasttext::{FastText, Scratch};
use stages::safetensors::Safetensors;

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

/// Safetensors: an error, or finite numbers as many as the shapes say, and no more bytes of them than the file has.
pub fn safetensors(data: &[u8]) {
    let Ok(file) = Safetensors::read(data, data.len() as u64) else { return };
    let mut numbers = 0;
    for tensor in &file.tensors {
        assert_eq!(tensor.shape.iter().product::<u64>(), tensor.numbers.len() as u64, "{tensor:?}");
        assert!(tensor.numbers.iter().all(|number| number.is_finite()), "{tensor:?}");
        assert_eq!(file.get(&tensor.name), Some(tensor));
        numbers += tensor.numbers.len();
    }
    assert!(2 * numbers <= data.len(), "{numbers} numbers in {} bytes", data.len());
}
