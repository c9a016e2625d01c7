//! The interrupt hook of the process: long operations call it and end if it asks for that.

use crate::error::{Error, Result};
use std::ffi::c_void;
use std::sync::RwLock;

/// A function that returns nonzero to end the operation that calls it.
pub type Hook = unsafe extern "C" fn(argument: *mut c_void) -> i32;

#[derive(Clone, Copy)]
struct Installed {
    hook: Hook,
    argument: *mut c_void,
}

// SAFETY: the pointer is only passed to the hook; the caller of `set` guarantees that any thread may do that.
unsafe impl Send for Installed {}
// SAFETY: as for Send; an `Installed` never changes.
unsafe impl Sync for Installed {}

static INSTALLED: RwLock<Option<Installed>> = RwLock::new(None);

/// Installs the hook of this process; `None` removes it.
///
/// # Safety
/// Any thread may call `hook` with `argument` until another hook is installed and all operations begun before have
/// ended.
pub unsafe fn set(hook: Option<Hook>, argument: *mut c_void) {
    let installed = hook.map(|hook| Installed { hook, argument });
    *INSTALLED
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = installed;
}

/// Calls the hook if the operation is interruptible. `Interrupted`: the hook ends the operation.
pub fn ask(interruptible: bool) -> Result<()> {
    if !interruptible {
        return Ok(());
    }
    // A copy, not a reference under the lock: a hook may install another hook.
    let installed = *INSTALLED
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(Installed { hook, argument }) = installed else {
        return Ok(());
    };
    // SAFETY: the caller of `set` guarantees that any thread may call the hook with this argument.
    match unsafe { hook(argument) } {
        0 => Ok(()),
        _ => Err(Error::Interrupted(
            "the interrupt hook ended the operation".into(),
        )),
    }
}
