//! The status of a second reader that upgrades. `object` tests the structs, tests/c/test_rwlock.c all else.

use super::common::process::{fork, shared_words, wait_until};
use super::*;
use shmkit::capi::rwlock::*;
use shmkit::capi::wait::SHMKIT_FOREVER;
use std::sync::atomic::Ordering::Relaxed;

fn unnamed() -> *mut shmkit_rwlock {
    let mut out = null_mut();
    // SAFETY: no name, no options, and an output that can be written.
    let status = unsafe { shmkit_rwlock_create(null(), null(), &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    out
}

/// Upgrades while another process upgrades and stays there. This process must have one thread.
pub fn upgrade_as_second() -> shmkit_status {
    let (lock, words) = (unnamed(), shared_words(1));
    let read = || {
        // SAFETY: a handle.
        let status = unsafe { shmkit_rwlock_acquire_read(lock, SHMKIT_FOREVER, 0, null_mut()) };
        assert_eq!(status, SHMKIT_OK);
    };
    read();
    let _first = fork(|| {
        read();
        words[0].store(1, Relaxed);
        // SAFETY: a handle.
        unsafe { shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0) };
    });
    let waits = || {
        // SAFETY: it contains only integers, for which zeros are valid.
        let mut info: shmkit_rwlock_info = unsafe { std::mem::zeroed() };
        info.struct_size = size_of::<shmkit_rwlock_info>() as u32;
        // SAFETY: a handle, and a struct that can be written.
        let status = unsafe { shmkit_rwlock_stat(lock, &raw mut info) };
        assert_eq!(status, SHMKIT_OK);
        info.flags & SHMKIT_RWLOCK_WAITING != 0
    };
    wait_until(waits);
    // SAFETY: a handle.
    unsafe { shmkit_rwlock_upgrade(lock, SHMKIT_FOREVER, 0) }
}
