//! Reads the clocks, in nanoseconds.

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable; both clocks exist everywhere, so nothing can fail.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    /// Nanoseconds in a second.
    const SECOND: u64 = 1_000_000_000;
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// Returns the time since some point before this machine's start; it never goes back (CLOCK_MONOTONIC).
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Returns the time since 1970, as people set it (CLOCK_REALTIME).
pub fn realtime() -> u64 {
    read(libc::CLOCK_REALTIME)
}
