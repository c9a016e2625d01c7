//! Statuses: each is provoked, each has a text, and each thread has its own last error.
//!
//! A caught panic becomes SHMKIT_ERR_INTERNAL. No call is known to panic, and a C function that is passed to a call
//! cannot unwind into it, so these tests cannot provoke it.

use super::common::kernel::{become_unprivileged, limit};
use super::common::process::{alone, end_after_one_step, fork, shared_words, wait_until};
use super::common::{Folder, Watchdog, is_root, skip};
use super::*;
use nix::sys::resource::Resource;
use shmkit::capi::barrier::*;
use shmkit::capi::event::*;
use shmkit::capi::interrupt::{SHMKIT_INTERRUPTIBLE, shmkit_set_interrupt};
use shmkit::capi::lock::*;
use shmkit::capi::rlock::*;
use shmkit::capi::version::*;
use shmkit::capi::wait::{SHMKIT_FOREVER, SHMKIT_NOWAIT};
use std::sync::atomic::Ordering::Relaxed;

/// Acquires a lock that a forked process holds. With `lost`, this process closes all its descriptors after it has
/// claimed an identity.
fn acquire_taken(participants: u32, timeout: i64, lost: bool) -> shmkit_status {
    let words = shared_words(1);
    let segment = {
        let mut out = null_mut();
        let given = shmkit_segment_options {
            flags: SHMKIT_SEGMENT_MANAGED,
            participants,
            ..options()
        };
        // SAFETY: no name, options, and an output that can be written.
        let status = unsafe { shmkit_segment_create(null(), 64, &given, &raw mut out) };
        assert_eq!(status, SHMKIT_OK);
        Handle(out)
    };
    let mut lock = null_mut();
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_lock(segment.0, &raw mut lock) };
    assert_eq!(status, SHMKIT_OK);
    if lost {
        // SAFETY: a handle.
        let taken = unsafe { shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, null_mut()) };
        // SAFETY: as above.
        let given = unsafe { shmkit_lock_release(lock) };
        assert_eq!((taken, given), (SHMKIT_OK, SHMKIT_OK));
    }
    let _owner = fork(|| {
        // SAFETY: a handle.
        let status = unsafe { shmkit_lock_acquire(lock, -1, 0, null_mut()) };
        assert_eq!(status, SHMKIT_OK);
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    if lost {
        // SAFETY: closing descriptors accesses no memory; nothing uses them any more.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
        assert_eq!(closed, 0);
    }
    // SAFETY: a handle.
    unsafe { shmkit_lock_acquire(lock, timeout, 0, null_mut()) }
}

/// Acquires a recursive lock whose depth is the maximum.
fn acquire_once_too_often() -> shmkit_status {
    /// The offset of the depth in the lock, in words.
    const DEPTH: usize = 3;
    let (segment, mut lock, mut data) = (super::lock::managed(64), null_mut(), null_mut());
    // SAFETY: a handle, no options, and an output that can be written.
    let status = unsafe { shmkit_rlock_create_at(segment.0, 0, null(), &raw mut lock) };
    assert_eq!(status, SHMKIT_OK);
    // SAFETY: a handle.
    let status = unsafe { shmkit_rlock_acquire(lock, -1, 0, null_mut()) };
    assert_eq!(status, SHMKIT_OK);
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_data(segment.0, &raw mut data) };
    assert_eq!(status, SHMKIT_OK);
    // SAFETY: the lock has eight words.
    let depth = unsafe { data.cast::<u64>().add(DEPTH) };
    // SAFETY: as above; nothing else uses them meanwhile.
    unsafe { depth.write_volatile(u64::MAX) };
    // SAFETY: a handle.
    unsafe { shmkit_rlock_acquire(lock, -1, 0, null_mut()) }
}

fn create(name: Option<&CStr>, size: u64, given: &shmkit_segment_options) -> shmkit_status {
    let mut out = null_mut();
    let name = name.map_or(null(), CStr::as_ptr);
    // SAFETY: a name or none, options, and an output that can be written.
    let status = unsafe { shmkit_segment_create(name, size, given, &raw mut out) };
    if status == SHMKIT_OK {
        drop(Handle(out));
    }
    status
}

fn open(name: &CStr, given: &shmkit_segment_options) -> shmkit_status {
    let mut out = null_mut();
    // SAFETY: a name, options, and an output that can be written.
    let status = unsafe { shmkit_segment_open(name.as_ptr(), 0, given, &raw mut out) };
    if status == SHMKIT_OK {
        drop(Handle(out));
    }
    status
}

/// Provokes a status in the folder of these options.
fn provoke(
    status: shmkit_status,
    folder: &Folder,
    given: &shmkit_segment_options,
) -> shmkit_status {
    match status {
        SHMKIT_OK => create(None, 1, given),
        SHMKIT_ERR_INVALID => create(None, 0, given),
        SHMKIT_ERR_CLOSED => {
            let handle = Handle::anonymous(1);
            handle.close();
            handle.close()
        }
        SHMKIT_ERR_WRONG_KIND => {
            std::fs::create_dir(folder.path().join("folder")).unwrap();
            open(c"folder", given)
        }
        SHMKIT_ERR_NOT_FOUND => open(c"nothing", given),
        SHMKIT_ERR_EXISTS => {
            create(Some(c"a"), 1, given);
            create(Some(c"a"), 1, given)
        }
        SHMKIT_ERR_PERMISSION => {
            std::fs::set_permissions(
                folder.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o500),
            )
            .unwrap();
            if is_root() {
                become_unprivileged();
            }
            create(Some(c"b"), 1, given)
        }
        SHMKIT_ERR_UNTRUSTED => {
            std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
            open(c"link", given)
        }
        SHMKIT_ERR_NO_SPACE => {
            end_after_one_step();
            let flags = SHMKIT_INTERRUPTIBLE;
            create(None, 1 << 50, &shmkit_segment_options { flags, ..*given })
        }
        SHMKIT_ERR_NO_MEMORY => create(
            None,
            1,
            &shmkit_segment_options {
                capacity: 1 << 60,
                ..*given
            },
        ),
        SHMKIT_ERR_INTERRUPTED => {
            end_after_one_step();
            create(
                None,
                128 << 20,
                &shmkit_segment_options {
                    flags: SHMKIT_INTERRUPTIBLE,
                    ..*given
                },
            )
        }
        SHMKIT_ERR_TOO_LARGE => create(None, u64::MAX, given),
        SHMKIT_ERR_TIMEOUT => acquire_taken(0, 1, false),
        SHMKIT_ERR_WOULD_BLOCK => acquire_taken(0, SHMKIT_NOWAIT, false),
        SHMKIT_ERR_TOO_MANY_PROCESSES => acquire_taken(1, SHMKIT_FOREVER, false),
        SHMKIT_ERR_LIVENESS_UNKNOWN => acquire_taken(0, SHMKIT_FOREVER, true),
        SHMKIT_ERR_NOT_OWNER => {
            // SAFETY: a handle.
            unsafe { shmkit_lock_release(super::lock::LOCK.unnamed()) }
        }
        SHMKIT_ERR_OVERFLOW => acquire_once_too_often(),
        SHMKIT_ERR_BROKEN => {
            // SAFETY: integers and one pointer, for which zeros are valid.
            let mut two: shmkit_barrier_options = unsafe { std::mem::zeroed() };
            two.struct_size = size_of::<shmkit_barrier_options>() as u32;
            two.parties = 2;
            let mut barrier = null_mut();
            // SAFETY: no name, options, and an output that can be written.
            let made = unsafe { shmkit_barrier_create(null(), &raw const two, &raw mut barrier) };
            assert_eq!(made, SHMKIT_OK);
            // SAFETY: a handle that is open.
            assert_eq!(unsafe { shmkit_barrier_abort(barrier) }, SHMKIT_OK);
            // SAFETY: as above; the output may be NULL.
            unsafe { shmkit_barrier_wait(barrier, SHMKIT_FOREVER, 0, null_mut()) }
        }
        SHMKIT_ERR_DEADLOCK => super::rwlock::upgrade_as_second(),
        SHMKIT_ERR_EMPTY => super::queue::get(super::queue::of_one()).unwrap_err(),
        SHMKIT_ERR_FULL => {
            let queue = super::queue::of_one();
            assert_eq!(super::queue::put(queue, b""), SHMKIT_OK);
            super::queue::put(queue, b"")
        }
        SHMKIT_ERR_SHUT_DOWN => {
            let queue = super::queue::of_one();
            // SAFETY: a handle that is open.
            let shut_down = unsafe { shmkit::capi::queue::shmkit_queue_shutdown(queue) };
            assert_eq!(shut_down, SHMKIT_OK);
            super::queue::put(queue, b"")
        }
        SHMKIT_ERR_FORKED => forked(),
        SHMKIT_ERR_READ_LOCKED => {
            let mut out = null_mut();
            let file = folder.path().join("locked");
            // SAFETY: a name, options, and an output that can be written.
            let made = unsafe { shmkit_segment_create(c"locked".as_ptr(), 1, given, &raw mut out) };
            assert_eq!(made, SHMKIT_OK);
            // Another process locks the byte RESIZE, as in the layout.
            let reader = std::fs::File::open(file).unwrap();
            super::common::byte::share(&reader, (1 << 61) + 2, 1);
            // SAFETY: the handle is open.
            unsafe { shmkit_segment_resize(out, 1, 0) }
        }
        SHMKIT_ERR_CORRUPT => {
            std::fs::write(folder.path().join("empty"), "").unwrap();
            open(c"empty", given)
        }
        SHMKIT_ERR_VERSION_MISMATCH => shmkit_check_version(SHMKIT_VERSION + 1),
        SHMKIT_ERR_UNSUPPORTED => {
            let mut longer = [*given, options()];
            longer[0].struct_size *= 2;
            let mut out = null_mut();
            // SAFETY: no name, options as long as their size, and an output that can be written.
            unsafe { shmkit_segment_create(null(), 1, longer.as_ptr(), &raw mut out) }
        }
        SHMKIT_ERR_SYSTEM => {
            limit(Resource::RLIMIT_NOFILE, 0);
            create(None, 1, given)
        }
        _ => unreachable!("no call provokes {status}"),
    }
}

/// Forks in the interrupt hook; the parent ends with the status of the child's call.
fn forked() -> shmkit_status {
    unsafe extern "C" fn hook(_: *mut std::ffi::c_void) -> i32 {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => 0,
            child => {
                let mut status = 0;
                // SAFETY: the status can be written.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                // SAFETY: _exit ends the process.
                unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
            }
        }
    }
    let mut event = null_mut();
    // SAFETY: no name, no options, and an output that can be written.
    let made = unsafe { shmkit_event_create(null(), null(), &raw mut event) };
    assert_eq!(made, SHMKIT_OK);
    // SAFETY: the hook needs no argument.
    let set = unsafe { shmkit_set_interrupt(Some(hook), null_mut()) };
    assert_eq!(set, SHMKIT_OK);
    // SAFETY: the handle is open.
    unsafe { shmkit_event_wait(event, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE) }
}

#[test]
fn every_status_is_provoked() {
    alone(|| {
        for status in SHMKIT_ERR_READ_LOCKED..=SHMKIT_OK {
            if status == SHMKIT_ERR_INTERNAL {
                continue;
            }
            // This process owns the folder, and can remove it whatever user the child becomes.
            let folder = Folder::new();
            fork(|| {
                let directory = folder.directory().unwrap();
                let given = shmkit_segment_options {
                    directory: directory.as_ptr(),
                    ..options()
                };
                assert_eq!(provoke(status, &folder, &given), status, "{}", last_text());
                if status == SHMKIT_OK {
                    return assert_eq!(last_error(), (SHMKIT_OK, 0, String::new()));
                }
                let (code, errno, text) = last_error();
                assert_eq!(code, status);
                assert!(text.len() > 10, "{status}: {text:?}");
                let by_the_kernel = match status {
                    SHMKIT_ERR_NOT_FOUND => libc::ENOENT,
                    SHMKIT_ERR_EXISTS => libc::EEXIST,
                    SHMKIT_ERR_PERMISSION => libc::EACCES,
                    SHMKIT_ERR_UNTRUSTED => libc::ELOOP,
                    SHMKIT_ERR_NO_SPACE => libc::ENOSPC,
                    SHMKIT_ERR_NO_MEMORY => libc::ENOMEM,
                    SHMKIT_ERR_SYSTEM => libc::EMFILE,
                    SHMKIT_ERR_WRONG_KIND => libc::EISDIR,
                    _ => 0,
                };
                assert_eq!(errno, by_the_kernel, "{status}: {text}");
            })
            .succeed();
        }
        if !is_root() {
            skip("PERMISSION was provoked without changing the user");
        }
    });
}

#[test]
fn every_status_has_a_text_of_its_own_and_an_unknown_one_the_same_text() {
    let mut sentences: Vec<_> = (SHMKIT_ERR_READ_LOCKED..=SHMKIT_OK)
        .map(|s| text_at(shmkit_strerror(s)))
        .collect();
    assert_eq!(sentences.len(), 30);
    assert!(
        sentences
            .iter()
            .all(|text| text.len() > 5 && !text.ends_with('.')),
        "{sentences:?}"
    );
    sentences.sort();
    sentences.dedup();
    assert_eq!(sentences.len(), 30, "two texts are equal");
    for nonsense in [1, SHMKIT_ERR_READ_LOCKED - 1, i32::MIN, i32::MAX, 99] {
        assert_eq!(text_at(shmkit_strerror(nonsense)), "not a status of shmkit");
    }
}

#[test]
fn each_thread_has_a_last_error_of_its_own() {
    // If one of the two failed, the other would wait forever.
    let _watchdog = Watchdog::start();
    let barrier = &std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let fail = |status, text: &'static str| {
            move || {
                assert_eq!(
                    last_error(),
                    (SHMKIT_OK, 0, String::new()),
                    "no call has failed on this thread yet"
                );
                let given = options();
                let answer = match status {
                    SHMKIT_ERR_INVALID => create(None, 0, &given),
                    _ => open(c"shmkit-test-none", &given),
                };
                assert_eq!(answer, status);
                barrier.wait();
                let (code, _, reported) = last_error();
                assert!(code == status && reported.contains(text), "{reported}");
                // A call that succeeds changes nothing.
                assert_eq!(create(None, 1, &given), SHMKIT_OK);
                assert_eq!(last_error().0, status);
                barrier.wait();
            }
        };
        scope.spawn(fail(SHMKIT_ERR_INVALID, "at least one byte"));
        scope.spawn(fail(SHMKIT_ERR_NOT_FOUND, "shmkit-test-none"));
    });
}

#[test]
fn the_version_is_checked_against_the_headers() {
    assert_eq!(shmkit_version(), SHMKIT_VERSION);
    assert_eq!(text_at(shmkit_version_string()), env!("CARGO_PKG_VERSION"));
    let parts = [
        SHMKIT_VERSION_MAJOR,
        SHMKIT_VERSION_MINOR,
        SHMKIT_VERSION_PATCH,
    ];
    assert_eq!(
        parts.map(|part| part.to_string()).join("."),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(shmkit_check_version(SHMKIT_VERSION), SHMKIT_OK);
    let series = if SHMKIT_VERSION_MAJOR == 0 {
        1_000
    } else {
        1_000_000
    };
    let first = SHMKIT_VERSION / series * series;
    assert_eq!(shmkit_check_version(first), SHMKIT_OK);
    for other in [0, first - 1, SHMKIT_VERSION + 1, first + series, u32::MAX] {
        assert_eq!(
            shmkit_check_version(other),
            SHMKIT_ERR_VERSION_MISMATCH,
            "{other}"
        );
    }
    assert!(last_text().contains("built for"), "{}", last_text());
}

extern "C" fn replace(argument: *mut c_void) -> i32 {
    // A hook may call any function of the library, and remove itself.
    let created = create(None, 1, &options());
    // SAFETY: NULL removes the hook.
    let replaced = unsafe { shmkit_set_interrupt(None, null_mut()) };
    // SAFETY: the test below passes a word of its own that nothing else uses.
    unsafe { argument.cast::<i32>().write(created | replaced | 77) };
    0
}

#[test]
fn an_interrupt_hook_may_call_the_library() {
    alone(|| {
        let mut answer = 0;
        // SAFETY: the hook takes a word, which lives until the process ends.
        let status = unsafe { shmkit_set_interrupt(Some(replace), (&raw mut answer).cast()) };
        assert_eq!(status, SHMKIT_OK);
        let given = shmkit_segment_options {
            flags: SHMKIT_INTERRUPTIBLE,
            ..options()
        };
        assert_eq!(
            create(None, 256 << 20, &given),
            SHMKIT_OK,
            "{}",
            last_text()
        );
        assert_eq!(answer, 77);
    });
}
