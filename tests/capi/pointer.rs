//! Pointers: every function fails for NULL and misaligned ones, and writes outputs only on success.

use super::common::process::alone;
use super::common::{Folder, Name};
use super::*;
use shmkit::capi::barrier::*;
use shmkit::capi::condition::*;
use shmkit::capi::event::*;
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::capi::lock::*;
use shmkit::capi::once::*;
use shmkit::capi::queue::*;
use shmkit::capi::rlock::*;
use shmkit::capi::rwlock::*;
use shmkit::capi::semaphore::*;

/// Returns an address that is aligned only for bytes.
fn misaligned<T>(place: &mut [u64; 16]) -> *mut T {
    (&raw mut *place).cast::<u8>().wrapping_add(1).cast()
}

#[test]
fn a_null_or_misaligned_handle_is_invalid() {
    let mut block = [UNTOUCHED; 16];
    for (name, function) in functions_of_a_handle() {
        if name.ends_with("close") {
            assert_eq!(function(null_mut()), SHMKIT_OK);
        } else {
            assert_eq!(function(null_mut()), SHMKIT_ERR_INVALID, "{name}");
            assert!(last_text().contains("NULL"), "{name}: {}", last_text());
        }
        assert_eq!(
            function(misaligned(&mut block)),
            SHMKIT_ERR_INVALID,
            "{name}"
        );
        assert!(last_text().contains("aligned"), "{name}: {}", last_text());
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn a_null_or_misaligned_output_is_invalid() {
    let handle = Handle::anonymous(4096);
    let mut block = [UNTOUCHED; 16];
    /// Calls a function of a handle with a bad output.
    macro_rules! refuses {
        ($function:ident) => {
            // SAFETY: a handle, and an output that the function promises to check.
            let status = unsafe { $function(handle.0, null_mut()) };
            assert_eq!(status, SHMKIT_ERR_INVALID, stringify!($function));
            assert!(
                last_text().contains("out must not be NULL"),
                "{}",
                last_text()
            );
            // SAFETY: as above.
            let status = unsafe { $function(handle.0, misaligned(&mut block)) };
            assert_eq!(status, SHMKIT_ERR_INVALID, stringify!($function));
            assert!(
                last_text().contains("out must be aligned"),
                "{}",
                last_text()
            );
        };
    }
    refuses!(shmkit_segment_data);
    refuses!(shmkit_segment_size);
    refuses!(shmkit_segment_capacity);
    refuses!(shmkit_segment_fd);
    refuses!(shmkit_segment_name);
    refuses!(shmkit_segment_directory);
    refuses!(shmkit_segment_huge);
    refuses!(shmkit_segment_stat);
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn a_null_or_misaligned_place_for_a_handle_creates_nothing() {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let given = shmkit_segment_options {
        directory: directory.as_ptr(),
        ..options()
    };
    let fd_of = Handle::anonymous(4096);
    let mut fd = -1;
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_fd(fd_of.0, &raw mut fd) };
    assert_eq!(status, SHMKIT_OK);
    let mut block = [UNTOUCHED; 16];
    for (name, make) in makers(c"a", fd) {
        assert_eq!(make(&given, null_mut()), SHMKIT_ERR_INVALID, "{name}");
        assert_eq!(
            make(&given, misaligned(&mut block)),
            SHMKIT_ERR_INVALID,
            "{name}"
        );
        assert!(
            folder.entries().is_empty(),
            "{name} has created {:?}",
            folder.entries()
        );
        let mut out = UNTOUCHED as *mut shmkit_segment;
        assert_eq!(
            make(misaligned(&mut block), &raw mut out),
            SHMKIT_ERR_INVALID,
            "{name}"
        );
        assert!(
            last_text().contains("options must be aligned"),
            "{}",
            last_text()
        );
        assert_eq!(out as u64, UNTOUCHED, "{name} wrote its output on failure");
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn a_null_name_is_invalid_where_one_is_needed() {
    let mut out = UNTOUCHED as *mut shmkit_segment;
    // SAFETY: no name, no options, and an output that can be written.
    let status = unsafe { shmkit_segment_open(null(), 0, null(), &raw mut out) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    assert_eq!(out as u64, UNTOUCHED);
    // SAFETY: no name and no directory.
    let status = unsafe { shmkit_segment_unlink_name(null(), null(), 0, 0, 0) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    // open_or_create without a name creates an anonymous segment.
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_open_or_create(null(), 1, null(), &raw mut out) };
    assert_eq!(status, SHMKIT_OK);
    drop(Handle(out));
}

#[test]
fn limits_fails_for_null_and_misaligned_pointers() {
    let mut block = [UNTOUCHED; 16];
    // SAFETY: no directory, and an output that the function promises to check.
    let status = unsafe { shmkit_limits(null(), null_mut()) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    // SAFETY: as above.
    let status = unsafe { shmkit_limits(null(), misaligned(&mut block)) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    assert_eq!(block, [UNTOUCHED; 16]);
    // SAFETY: as above.
    let status = unsafe { shmkit_limits_line(null(), null_mut(), 1024) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    let mut info = limits_info();
    // SAFETY: a directory's name, and an output that can be written.
    let status = unsafe { shmkit_limits(c"/nowhere".as_ptr(), &raw mut info) };
    assert_eq!(
        (status, info.largest_named),
        (SHMKIT_ERR_NOT_FOUND, UNTOUCHED)
    );
}

#[test]
fn a_line_longer_than_its_buffer_is_not_written() {
    let mut buffer = [0x5au8; 1024];
    let write = |buffer: &mut [u8; 1024], room: u64| {
        // SAFETY: no directory, and at least `room` bytes that can be written.
        unsafe { shmkit_limits_line(null(), buffer.as_mut_ptr().cast(), room) }
    };
    for room in [0, 1, 20] {
        assert_eq!(write(&mut buffer, room), SHMKIT_ERR_TOO_LARGE);
        assert!(
            buffer.iter().all(|&byte| byte == 0x5a),
            "the output was written on failure"
        );
    }
    assert_eq!(write(&mut buffer, 1024), SHMKIT_OK);
    let end = buffer
        .iter()
        .position(|&byte| byte == 0)
        .expect("a NUL byte");
    assert!(buffer[..end].starts_with(b"largest segment now: "));
    assert!(
        buffer[end + 1..].iter().all(|&byte| byte == 0x5a),
        "bytes after the NUL byte were written"
    );
}

#[test]
fn a_null_visitor_is_invalid() {
    // SAFETY: no directory, no function.
    let status = unsafe { shmkit_segment_list(null(), None, null_mut()) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
}

#[test]
fn last_error_writes_the_outputs_that_are_not_null() {
    // SAFETY: a pointer that may be NULL.
    let status = unsafe { shmkit_segment_unlink(null_mut()) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    // SAFETY: as above.
    let status = unsafe { shmkit_last_error(null_mut(), null_mut(), null_mut()) };
    assert_eq!(status, SHMKIT_OK);
    let mut code = 0;
    // SAFETY: one output that can be written.
    let status = unsafe { shmkit_last_error(&raw mut code, null_mut(), null_mut()) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!(code, SHMKIT_ERR_INVALID);
}

#[test]
fn last_error_refuses_misaligned_outputs() {
    // Following such a pointer is undefined behavior, so the test runs in a process of its own.
    alone(|| {
        let mut block = [UNTOUCHED; 16];
        let code = misaligned::<shmkit_status>(&mut block);
        // SAFETY: outputs that the function promises to check.
        let status = unsafe { shmkit_last_error(code, null_mut(), null_mut()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        let errno = misaligned::<i32>(&mut block);
        // SAFETY: as above.
        let status = unsafe { shmkit_last_error(null_mut(), errno, null_mut()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        let text = misaligned::<*const c_char>(&mut block);
        // SAFETY: as above.
        let status = unsafe { shmkit_last_error(null_mut(), null_mut(), text) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        assert_eq!(block, [UNTOUCHED; 16]);
    });
}

#[test]
fn a_failed_call_writes_no_output() {
    let name = Name::new();
    let mut out = UNTOUCHED as *mut shmkit_segment;
    // SAFETY: a name, no options, and an output that can be written.
    let status = unsafe { shmkit_segment_open(name.as_ptr(), 0, null(), &raw mut out) };
    assert_eq!((status, out as u64), (SHMKIT_ERR_NOT_FOUND, UNTOUCHED));
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_create(name.as_ptr(), 0, null(), &raw mut out) };
    assert_eq!((status, out as u64), (SHMKIT_ERR_INVALID, UNTOUCHED));
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_open_fd(-1, 0, null(), &raw mut out) };
    assert_eq!((status, out as u64), (SHMKIT_ERR_INVALID, UNTOUCHED));
    // SAFETY: as above.
    let status =
        unsafe { shmkit_segment_open_or_create(name.as_ptr(), u64::MAX, null(), &raw mut out) };
    assert_eq!((status, out as u64), (SHMKIT_ERR_TOO_LARGE, UNTOUCHED));
}

#[test]
fn the_size_of_a_truncated_segment_is_not_written() {
    let name = Name::new();
    let mut out = null_mut();
    // SAFETY: a name, no options, and an output that can be written.
    let status = unsafe { shmkit_segment_create(name.as_ptr(), 8192, null(), &raw mut out) };
    assert_eq!(status, SHMKIT_OK);
    let handle = Handle(out);
    let file = std::fs::File::options().write(true).open(name.path());
    file.and_then(|file| file.set_len(4096)).unwrap();
    let mut size = UNTOUCHED;
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_size(handle.0, &raw mut size) };
    assert_eq!((status, size), (SHMKIT_ERR_CORRUPT, UNTOUCHED));
}

/// The functions without a pointer that could be NULL.
const WITHOUT_POINTERS: [&str; 4] = [
    "shmkit_check_version",
    "shmkit_strerror",
    "shmkit_version",
    "shmkit_version_string",
];

#[test]
fn every_exported_function_recognizes_null() {
    let mut called: std::collections::BTreeSet<_> = WITHOUT_POINTERS.into();
    /// Calls a function with these arguments and expects this status.
    macro_rules! expect {
        ($expected:ident: $($function:ident($($argument:expr),*);)*) => {$(
            // SAFETY: NULL for every pointer, which each function promises to recognize.
            let status = unsafe { $function($($argument),*) };
            assert_eq!(status, $expected, "{}: {}", stringify!($function), last_text());
            assert!(called.insert(stringify!($function)));
        )*};
    }
    expect! { SHMKIT_OK:
        shmkit_last_error(null_mut(), null_mut(), null_mut());
        shmkit_set_interrupt(None, null_mut());
        shmkit_segment_close(null_mut());
        shmkit_lock_close(null_mut());
        shmkit_rlock_close(null_mut());
        shmkit_rwlock_close(null_mut());
        shmkit_condition_close(null_mut());
        shmkit_event_close(null_mut());
        shmkit_once_close(null_mut());
        shmkit_barrier_close(null_mut());
        shmkit_semaphore_close(null_mut());
        shmkit_queue_close(null_mut());
    }
    expect! { SHMKIT_ERR_INVALID:
        shmkit_limits(null(), null_mut());
        shmkit_limits_line(null(), null_mut(), 1024);
        shmkit_segment_create(null(), 64, null(), null_mut());
        shmkit_segment_open(null(), 0, null(), null_mut());
        shmkit_segment_open_or_create(null(), 64, null(), null_mut());
        shmkit_segment_open_fd(0, 0, null(), null_mut());
        shmkit_segment_resize(null_mut(), 64, 0);
        shmkit_segment_data(null(), null_mut());
        shmkit_segment_size(null(), null_mut());
        shmkit_segment_capacity(null(), null_mut());
        shmkit_segment_fd(null(), null_mut());
        shmkit_segment_name(null(), null_mut());
        shmkit_segment_directory(null(), null_mut());
        shmkit_segment_huge(null(), null_mut());
        shmkit_segment_stat(null(), null_mut());
        shmkit_segment_unlink(null_mut());
        shmkit_segment_unlink_name(null(), null(), 0, 0, 0);
        shmkit_segment_list(null(), None, null_mut());
        // Both pointers may be NULL. The flags are invalid, so that nothing is collected.
        shmkit_segment_gc(null(), 2, null_mut());
        shmkit_segment_lock(null(), null_mut());
        shmkit_lock_size(null(), null_mut());
        shmkit_lock_create(null(), null(), null_mut());
        shmkit_lock_open(null(), null(), null_mut());
        shmkit_lock_open_or_create(null(), null(), null_mut());
        shmkit_lock_create_at(null(), 0, null(), null_mut());
        shmkit_lock_open_at(null(), 0, null(), null_mut());
        shmkit_lock_open_fd(0, 0, null(), null_mut());
        shmkit_lock_fd(null(), null_mut(), null_mut());
        shmkit_lock_segment(null(), null_mut());
        shmkit_lock_acquire(null_mut(), 0, 0, null_mut());
        shmkit_lock_release(null_mut());
        shmkit_lock_mark_consistent(null_mut());
        shmkit_lock_stat(null(), null_mut());
        shmkit_lock_unlink(null_mut());
        shmkit_rlock_size(null(), null_mut());
        shmkit_rlock_create(null(), null(), null_mut());
        shmkit_rlock_open(null(), null(), null_mut());
        shmkit_rlock_open_or_create(null(), null(), null_mut());
        shmkit_rlock_create_at(null(), 0, null(), null_mut());
        shmkit_rlock_open_at(null(), 0, null(), null_mut());
        shmkit_rlock_open_fd(0, 0, null(), null_mut());
        shmkit_rlock_fd(null(), null_mut(), null_mut());
        shmkit_rlock_segment(null(), null_mut());
        shmkit_rlock_acquire(null_mut(), 0, 0, null_mut());
        shmkit_rlock_release(null_mut());
        shmkit_rlock_depth(null(), null_mut());
        shmkit_rlock_mark_consistent(null_mut());
        shmkit_rlock_stat(null(), null_mut());
        shmkit_rlock_unlink(null_mut());
        shmkit_rwlock_size(null(), null_mut());
        shmkit_rwlock_create(null(), null(), null_mut());
        shmkit_rwlock_open(null(), null(), null_mut());
        shmkit_rwlock_open_or_create(null(), null(), null_mut());
        shmkit_rwlock_create_at(null(), 0, null(), null_mut());
        shmkit_rwlock_open_at(null(), 0, null(), null_mut());
        shmkit_rwlock_open_fd(0, 0, null(), null_mut());
        shmkit_rwlock_fd(null(), null_mut(), null_mut());
        shmkit_rwlock_segment(null(), null_mut());
        shmkit_rwlock_acquire_read(null_mut(), 0, 0, null_mut());
        shmkit_rwlock_release_read(null_mut());
        shmkit_rwlock_acquire_write(null_mut(), 0, 0, null_mut());
        shmkit_rwlock_release_write(null_mut());
        shmkit_rwlock_upgrade(null_mut(), 0, 0);
        shmkit_rwlock_downgrade(null_mut());
        shmkit_rwlock_mark_consistent(null_mut());
        shmkit_rwlock_stat(null(), null_mut());
        shmkit_rwlock_unlink(null_mut());
        shmkit_condition_size(null(), null_mut());
        shmkit_condition_create(null(), null(), null_mut());
        shmkit_condition_open(null(), null(), null_mut());
        shmkit_condition_open_or_create(null(), null(), null_mut());
        shmkit_condition_create_at(null(), 0, null(), null_mut());
        shmkit_condition_open_at(null(), 0, null(), null_mut());
        shmkit_condition_open_fd(0, 0, null(), null_mut());
        shmkit_condition_fd(null(), null_mut(), null_mut());
        shmkit_condition_segment(null(), null_mut());
        shmkit_condition_wait(null_mut(), null_mut(), 0, 0, null_mut());
        shmkit_condition_notify(null_mut(), null_mut(), 1);
        shmkit_condition_notify_all(null_mut(), null_mut());
        shmkit_condition_stat(null(), null_mut());
        shmkit_condition_unlink(null_mut());
        shmkit_event_size(null(), null_mut());
        shmkit_event_create(null(), null(), null_mut());
        shmkit_event_open(null(), null(), null_mut());
        shmkit_event_open_or_create(null(), null(), null_mut());
        shmkit_event_create_at(null(), 0, null(), null_mut());
        shmkit_event_open_at(null(), 0, null(), null_mut());
        shmkit_event_open_fd(0, 0, null(), null_mut());
        shmkit_event_fd(null(), null_mut(), null_mut());
        shmkit_event_segment(null(), null_mut());
        shmkit_event_set(null_mut());
        shmkit_event_clear(null_mut());
        shmkit_event_is_set(null(), null_mut());
        shmkit_event_wait(null_mut(), 0, 0);
        shmkit_event_stat(null(), null_mut());
        shmkit_event_unlink(null_mut());
        shmkit_once_size(null(), null_mut());
        shmkit_once_create(null(), null(), null_mut());
        shmkit_once_open(null(), null(), null_mut());
        shmkit_once_open_or_create(null(), null(), null_mut());
        shmkit_once_create_at(null(), 0, null(), null_mut());
        shmkit_once_open_at(null(), 0, null(), null_mut());
        shmkit_once_open_fd(0, 0, null(), null_mut());
        shmkit_once_fd(null(), null_mut(), null_mut());
        shmkit_once_segment(null(), null_mut());
        shmkit_once_begin(null_mut(), 0, 0, null_mut(), null_mut());
        shmkit_once_done(null_mut());
        shmkit_once_abort(null_mut());
        shmkit_once_is_done(null(), null_mut());
        shmkit_once_stat(null(), null_mut());
        shmkit_once_unlink(null_mut());
        shmkit_barrier_size(null(), null_mut());
        shmkit_barrier_create(null(), null(), null_mut());
        shmkit_barrier_open(null(), null(), null_mut());
        shmkit_barrier_open_or_create(null(), null(), null_mut());
        shmkit_barrier_create_at(null(), 0, null(), null_mut());
        shmkit_barrier_open_at(null(), 0, null(), null_mut());
        shmkit_barrier_open_fd(0, 0, null(), null_mut());
        shmkit_barrier_fd(null(), null_mut(), null_mut());
        shmkit_barrier_segment(null(), null_mut());
        shmkit_barrier_wait(null_mut(), 0, 0, null_mut());
        shmkit_barrier_release(null_mut());
        shmkit_barrier_reset(null_mut());
        shmkit_barrier_abort(null_mut());
        shmkit_barrier_parties(null(), null_mut());
        shmkit_barrier_waiting(null(), null_mut());
        shmkit_barrier_is_broken(null(), null_mut());
        shmkit_barrier_stat(null(), null_mut());
        shmkit_barrier_unlink(null_mut());
        shmkit_semaphore_size(null(), null_mut());
        shmkit_semaphore_create(null(), null(), null_mut());
        shmkit_semaphore_open(null(), null(), null_mut());
        shmkit_semaphore_open_or_create(null(), null(), null_mut());
        shmkit_semaphore_create_at(null(), 0, null(), null_mut());
        shmkit_semaphore_open_at(null(), 0, null(), null_mut());
        shmkit_semaphore_open_fd(0, 0, null(), null_mut());
        shmkit_semaphore_fd(null(), null_mut(), null_mut());
        shmkit_semaphore_segment(null(), null_mut());
        shmkit_semaphore_acquire(null_mut(), 1, 0, 0);
        shmkit_semaphore_release(null_mut(), 1);
        shmkit_semaphore_value(null(), null_mut());
        shmkit_semaphore_held(null(), null_mut());
        shmkit_semaphore_stat(null(), null_mut());
        shmkit_semaphore_unlink(null_mut());
        shmkit_queue_size(null(), null_mut());
        shmkit_queue_create(null(), null(), null_mut());
        shmkit_queue_open(null(), null(), null_mut());
        shmkit_queue_open_or_create(null(), null(), null_mut());
        shmkit_queue_create_at(null(), 0, null(), null_mut());
        shmkit_queue_open_at(null(), 0, null(), null_mut());
        shmkit_queue_open_fd(0, 0, null(), null_mut());
        shmkit_queue_fd(null(), null_mut(), null_mut());
        shmkit_queue_segment(null(), null_mut());
        shmkit_queue_put(null_mut(), null(), 0, 0, 0);
        shmkit_queue_get(null_mut(), null_mut(), 0, 0, 0, null_mut());
        shmkit_queue_peek(null_mut(), null_mut(), 0, 0, 0, null_mut());
        shmkit_queue_put_many(null_mut(), null(), 0, 0, 0, null_mut());
        shmkit_queue_get_many(null_mut(), null_mut(), 0, null_mut(), 0, 0, 0, null_mut());
        shmkit_queue_reserve(null_mut(), 0, 0, 0, null_mut(), null_mut());
        shmkit_queue_commit(null_mut(), 0, 0);
        shmkit_queue_abort(null_mut(), 0);
        shmkit_queue_lease(null_mut(), 0, 0, null_mut(), null_mut(), null_mut(), null_mut());
        shmkit_queue_ack(null_mut(), 0);
        shmkit_queue_nack(null_mut(), 0);
        shmkit_queue_join(null_mut(), 0, 0);
        shmkit_queue_shutdown(null_mut());
        shmkit_queue_fileno(null_mut(), 0, null_mut());
        shmkit_queue_is_full(null(), null_mut());
        shmkit_queue_stat(null(), null_mut());
        shmkit_queue_unlink(null_mut());
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi/symbols.txt");
    let symbols = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        called,
        symbols.lines().collect(),
        "an exported function is not called here"
    );
}
