//! Holds the one interrupt hook of the process: long operations ask it whether to go on.

use crate::error::{Error, Result};
use std::ffi::c_void;
use std::sync::RwLock;

/// A function that returns nonzero to end the operation that asks it.
pub type Hook = unsafe extern "C" fn(argument: *mut c_void) -> i32;

#[derive(Clone, Copy)]
struct Installed {
    hook: Hook,
    argument: *mut c_void,
}

// SAFETY: the pointer is only handed back to the hook; whoever installs it promises in `set` that any thread may do so.
unsafe impl Send for Installed {}
// SAFETY: as for Send; `Installed` is never changed after it was made.
unsafe impl Sync for Installed {}

static INSTALLED: RwLock<Option<Installed>> = RwLock::new(None);

/// Installs the hook of this process, or takes it away with `None`.
///
/// # Safety
/// Any thread may call `hook` with `argument` until another hook stands here and every operation begun before has ended.
pub unsafe fn set(hook: Option<Hook>, argument: *mut c_void) {
    let installed = hook.map(|hook| Installed { hook, argument });
    *INSTALLED
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = installed;
}

/// Asks the hook whether to go on, where the operation is interruptible at all.
pub fn ask(interruptible: bool) -> Result<()> {
    if !interruptible {
        return Ok(());
    }
    // Copied out, so that a hook may install another hook.
    let installed = *INSTALLED
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(Installed { hook, argument }) = installed else {
        return Ok(());
    };
    // SAFETY: whoever called `set` promised that any thread may call the hook with this argument.
    match unsafe { hook(argument) } {
        0 => Ok(()),
        _ => Err(Error::Interrupted(
            "the interrupt hook ended the operation".into(),
        )),
    }
}
