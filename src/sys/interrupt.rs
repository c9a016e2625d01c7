//! The interrupt hook of the process: long operations call it and end if it asks for that.

use super::fork::Origin;
use crate::error::{Error, Result};
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function that returns nonzero to end the operation that calls it.
pub type Hook = unsafe extern "C" fn(argument: *mut c_void) -> i32;

/// A hook that was installed once. Nodes are never freed or changed, so a reader needs no lock, and a child that is
/// forked at any moment finds them whole.
struct Installed {
    hook: Hook,
    argument: *mut c_void,
    /// The node that was made before this one.
    older: *const Installed,
}

/// The hook of this process; null: none.
static INSTALLED: AtomicPtr<Installed> = AtomicPtr::new(std::ptr::null_mut());
/// The node that was made last. A hook that is installed again gets its old node.
static NEWEST: AtomicPtr<Installed> = AtomicPtr::new(std::ptr::null_mut());

/// Returns the node of this hook, made at its first use.
fn node(hook: Hook, argument: *mut c_void) -> *mut Installed {
    // PAIRS hook.node: a reader of the address sees the node.
    let mut newest = NEWEST.load(Ordering::Acquire);
    let mut made: *mut Installed = std::ptr::null_mut();
    loop {
        let mut at = newest.cast_const();
        // SAFETY: a node is never freed, and `older` ends with null.
        while let Some(node) = unsafe { at.as_ref() } {
            if std::ptr::fn_addr_eq(node.hook, hook) && node.argument == argument {
                return at.cast_mut();
            }
            at = node.older;
        }
        if made.is_null() {
            made = Box::into_raw(Box::new(Installed {
                hook,
                argument,
                older: std::ptr::null(),
            }));
        }
        // SAFETY: `made` was made above, and no other thread knows it yet.
        unsafe { (*made).older = newest };
        // PAIRS hook.node
        match NEWEST.compare_exchange(newest, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return made,
            Err(now) => newest = now,
        }
    }
}

/// Installs the hook of this process; `None` removes it.
///
/// # Safety
/// Any thread may call `hook` with `argument` until another hook is installed and all operations begun before have
/// ended.
pub unsafe fn set(hook: Option<Hook>, argument: *mut c_void) {
    let node = hook.map_or(std::ptr::null_mut(), |hook| node(hook, argument));
    // PAIRS hook.node
    INSTALLED.store(node, Ordering::Release);
}

/// Calls the hook if the operation is interruptible.
///
/// `Interrupted`: the hook ends the operation. `Forked`: this is not the process that began it, `origin`.
pub fn ask(interruptible: bool, origin: Origin) -> Result<()> {
    let asked = match interruptible {
        true => call(),
        false => Ok(()),
    };
    origin.check().and(asked)
}

fn call() -> Result<()> {
    // PAIRS hook.node
    let installed = INSTALLED.load(Ordering::Acquire);
    // SAFETY: null, or a node, which is never freed.
    let Some(Installed { hook, argument, .. }) = (unsafe { installed.as_ref() }) else {
        return Ok(());
    };
    // SAFETY: the caller of `set` guarantees that any thread may call the hook with this argument.
    match unsafe { hook(*argument) } {
        0 => Ok(()),
        _ => Err(Error::Interrupted(
            "the interrupt hook ended the operation".into(),
        )),
    }
}
