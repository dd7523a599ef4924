//! Calling decoders that may panic on what anyone may have written.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; if it panics, gives the panic's message, which is then not printed to stderr: what failed is told as a rejection or an error.
///
/// # Errors
/// The message of the panic.
pub fn catch_quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let caught = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    caught.map_err(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        message.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_else(|| "no reason given".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message() {
        let place = |at: usize| [1, 2][at];
        assert_eq!(catch_quietly(|| place(1)), Ok(2));
        assert!(catch_quietly(|| place(2)).unwrap_err().contains("out of bounds"));
        assert!(!QUIET.get());
    }
}
