//! Readers-writer locks as C has them: structs of older and newer callers, and what a second one that upgrades is told.
//! NULL everywhere is tested by `pointer`, all else by tests/c/test_rwlock.c.

use super::common::Folder;
use super::common::process::{fork, shared_words, wait_until};
use super::structure::Newer;
use super::*;
use shmkit::capi::rwlock::*;
use shmkit::capi::wait::SHMKIT_FOREVER;
use std::sync::atomic::Ordering::Relaxed;

fn rwlock_options() -> shmkit_rwlock_options {
    shmkit_rwlock_options {
        struct_size: size_of::<shmkit_rwlock_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: null(),
        readers: 0,
        reserved: 0,
    }
}

fn unnamed() -> *mut shmkit_rwlock {
    let mut out = null_mut();
    // SAFETY: no name, no options, and an output that can be written.
    let status = unsafe { shmkit_rwlock_create(null(), null(), &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    out
}

fn close(lock: *mut shmkit_rwlock) {
    // SAFETY: a handle that nobody else uses.
    assert_eq!(unsafe { shmkit_rwlock_close(lock) }, SHMKIT_OK);
}

#[test]
fn options_of_older_and_newer_callers() {
    let known = size_of::<shmkit_rwlock_options>() as u32;
    let with = |struct_size, unknown| Newer {
        known: shmkit_rwlock_options {
            struct_size,
            ..rwlock_options()
        },
        unknown: [unknown; 4],
    };
    let sizes = [0, 1, 4, 24, known - 1, 4097, u32::MAX];
    let refused = sizes.map(|size| (with(size, UNTOUCHED), SHMKIT_ERR_INVALID));
    let asking = [(with(known + 32, 1), SHMKIT_ERR_UNSUPPORTED)];
    for (mut given, expected) in refused.into_iter().chain(asking) {
        let folder = Folder::new();
        let directory = folder.directory().unwrap();
        given.known.directory = directory.as_ptr();
        let (mut out, mut size) = (UNTOUCHED as *mut shmkit_rwlock, UNTOUCHED);
        let options = (&raw const given).cast();
        // SAFETY: a name, options as long as they say, and an output that can be written.
        let status = unsafe { shmkit_rwlock_create(c"a".as_ptr(), options, &raw mut out) };
        assert_eq!((status, out as u64), (expected, UNTOUCHED));
        // SAFETY: as above.
        let status = unsafe { shmkit_rwlock_size(options, &raw mut size) };
        assert_eq!((status, size), (expected, UNTOUCHED));
        assert!(folder.entries().is_empty());
    }
    // What a newer caller does not ask for is no reason to refuse.
    let (newer, mut size) = (with(known + 32, 0), 0);
    // SAFETY: as above.
    let status = unsafe { shmkit_rwlock_size((&raw const newer).cast(), &raw mut size) };
    assert_eq!((status, size), (SHMKIT_OK, 128 + 128 * 64));
}

#[test]
fn infos_of_older_and_newer_callers() {
    let lock = unnamed();
    let whole = size_of::<shmkit_rwlock_info>() as u32;
    // SAFETY: it holds nothing but integers.
    let mut info: shmkit_rwlock_info = unsafe { std::mem::zeroed() };
    info.writes = UNTOUCHED;
    for struct_size in [0, 4, whole - 1, 4097] {
        info.struct_size = struct_size;
        // SAFETY: a handle, and a struct that can be written.
        let status = unsafe { shmkit_rwlock_stat(lock, &raw mut info) };
        assert_eq!((status, info.writes), (SHMKIT_ERR_INVALID, UNTOUCHED));
    }
    let mut newer = Newer {
        known: info,
        unknown: [UNTOUCHED; 4],
    };
    newer.known.struct_size = size_of_val(&newer) as u32;
    // SAFETY: as above; it is as long as it says.
    let status = unsafe { shmkit_rwlock_stat(lock, (&raw mut newer).cast()) };
    assert_eq!((status, newer.known.struct_size), (SHMKIT_OK, whole));
    assert_eq!((newer.known.writes, newer.unknown), (0, [UNTOUCHED; 4]));
    close(lock);
}

/// Upgrades while another process does, which stays: in a process that has one thread.
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
        // SAFETY: it holds nothing but integers.
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
