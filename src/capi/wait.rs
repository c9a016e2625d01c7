//! Timeouts: how long a call waits, in nanoseconds.

use super::interrupt::SHMKIT_INTERRUPTIBLE;
use crate::error::{Error, Result};
use crate::raw::{Timeout, WaitOptions};
use std::time::Duration;

/// As a timeout: wait without a time limit.
pub const SHMKIT_FOREVER: i64 = -1;
/// As a timeout: do not wait. If the call would have to wait, it fails with SHMKIT_ERR_WOULD_BLOCK;
/// a call of a queue fails with SHMKIT_ERR_EMPTY or SHMKIT_ERR_FULL.
pub const SHMKIT_NOWAIT: i64 = 0;

/// Returns whether the timeout and the flags are valid.
#[inline(always)]
pub(super) fn is_valid(timeout_ns: i64, flags: u32) -> bool {
    timeout_ns >= SHMKIT_FOREVER && flags & !SHMKIT_INTERRUPTIBLE == 0
}

/// Converts a timeout and flags.
pub(super) fn options(timeout_ns: i64, flags: u32) -> Result<WaitOptions> {
    super::check_flags(flags, SHMKIT_INTERRUPTIBLE)?;
    if timeout_ns < SHMKIT_FOREVER {
        let text = format!(
            "timeout_ns must be SHMKIT_FOREVER, SHMKIT_NOWAIT or positive, not {timeout_ns}"
        );
        return Err(Error::Invalid(text.into()));
    }
    Ok(WaitOptions {
        timeout: match timeout_ns {
            SHMKIT_FOREVER => Timeout::Never,
            SHMKIT_NOWAIT => Timeout::Immediate,
            time => Timeout::After(Duration::from_nanos(time as u64)),
        },
        interruptible: flags & SHMKIT_INTERRUPTIBLE != 0,
    })
}
