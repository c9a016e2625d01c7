//! The clocks, in nanoseconds.

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable. Every Linux has both clocks, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    /// Nanoseconds in a second.
    const SECOND: u64 = 1_000_000_000;
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// Returns the time since an unspecified point; it never decreases (CLOCK_MONOTONIC).
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Returns the time since 1970 by the clock that users can set (CLOCK_REALTIME).
pub fn realtime() -> u64 {
    read(libc::CLOCK_REALTIME)
}
