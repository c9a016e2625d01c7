//! Threads of the library itself.

use super::refused;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use std::thread::{Builder, JoinHandle};

/// Starts a thread that blocks all signals, which are the program's. `Unsupported`: the kernel starts no thread.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    let started = Builder::new().name(name.to_owned()).spawn(body);
    if let Ok(before) = before {
        // It cannot fail for a set that the kernel has returned.
        let _ = before.thread_set_mask();
    }
    started.map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        match refused(errno, "cannot start a thread") {
            Error::System(cause) => Error::Unsupported(cause),
            other => other,
        }
    })
}
