//! Timeouts: how long a call waits, in nanoseconds.

use super::interrupt::SHMKIT_INTERRUPTIBLE;
use crate::error::{Error, Result};
use crate::raw::{Limit, Patience};

/// As a timeout: wait without limit.
pub const SHMKIT_FOREVER: i64 = -1;
/// As a timeout: do not wait. If the call would have to wait, it fails with SHMKIT_ERR_WOULD_BLOCK;
/// a call of a queue fails with SHMKIT_ERR_EMPTY or SHMKIT_ERR_FULL.
pub const SHMKIT_NOWAIT: i64 = 0;

/// Returns whether timeout and flags are valid.
#[inline(always)]
pub(super) fn is_valid(timeout_ns: i64, flags: u32) -> bool {
    timeout_ns >= SHMKIT_FOREVER && flags & !SHMKIT_INTERRUPTIBLE == 0
}

/// Converts timeout and flags.
pub(super) fn patience(timeout_ns: i64, flags: u32) -> Result<Patience> {
    if !is_valid(timeout_ns, flags) {
        return Err(Error::Invalid(
            format!("timeout {timeout_ns} ns, flags {flags:#x}: neither SHMKIT_FOREVER nor a time from 0 on, or flags that mean nothing here").into(),
        ));
    }
    Ok(Patience {
        limit: match timeout_ns {
            SHMKIT_FOREVER => Limit::Forever,
            SHMKIT_NOWAIT => Limit::Now,
            time => Limit::Within(time as u64),
        },
        interruptible: flags & SHMKIT_INTERRUPTIBLE != 0,
    })
}
