//! Queues through the C interface: bad pointers, bad structs, impossible sizes and tokens, handles that are closed or of
//! another kind, and what the functions return on success.

use super::common::{Folder, Name};
use super::lock::{LOCK, managed};
use super::structure::Newer;
use super::*;
use shmkit::capi::lock::{shmkit_lock, shmkit_lock_close};
use shmkit::capi::object::SHMKIT_EXCLUSIVE;
use shmkit::capi::queue::*;
use shmkit::capi::segment::SHMKIT_TRUST;
use shmkit::capi::wait::{SHMKIT_FOREVER, SHMKIT_NOWAIT};

type H = shmkit_queue;

/// Returns options as in C: all zeros but their size.
fn queue_options() -> shmkit_queue_options {
    shmkit_queue_options {
        struct_size: size_of::<shmkit_queue_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: null(),
        capacity: 0,
        maxsize: 0,
        max_bytes: 0,
    }
}

fn queue_info() -> shmkit_queue_info {
    // SAFETY: it contains only integers, for which zeros are valid.
    let mut info: shmkit_queue_info = unsafe { std::mem::zeroed() };
    info.struct_size = size_of::<shmkit_queue_info>() as u32;
    info.puts = UNTOUCHED;
    info
}

/// Creates an unnamed object.
fn unnamed(given: &shmkit_queue_options) -> *mut H {
    let mut out = null_mut();
    // SAFETY: no name, options, and an output that can be written.
    let status = unsafe { shmkit_queue_create(null(), given, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    out
}

/// Creates one with room for one message.
pub fn of_one() -> *mut H {
    unnamed(&shmkit_queue_options {
        maxsize: 1,
        ..queue_options()
    })
}

fn close(queue: *mut H) {
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { shmkit_queue_close(queue) }, SHMKIT_OK);
}

pub fn put(queue: *mut H, bytes: &[u8]) -> shmkit_status {
    let (data, size) = (bytes.as_ptr().cast(), bytes.len() as u64);
    // SAFETY: a handle, or what the function promises to recognize; bytes that can be read.
    unsafe { shmkit_queue_put(queue, data, size, SHMKIT_NOWAIT, 0) }
}

/// Gets a message of up to 64 bytes.
pub fn get(queue: *mut H) -> Result<Vec<u8>, shmkit_status> {
    let (mut buffer, mut size) = ([0x5au8; 64], UNTOUCHED);
    let (room, out) = (buffer.as_mut_ptr().cast(), &raw mut size);
    // SAFETY: a handle, or what the function promises to recognize; memory that can be written.
    let status = unsafe { shmkit_queue_get(queue, room, 64, SHMKIT_NOWAIT, 0, out) };
    if status != SHMKIT_OK {
        assert_eq!(
            (buffer, size),
            ([0x5a; 64], UNTOUCHED),
            "the output was written on failure"
        );
        return Err(status);
    }
    assert!(buffer[size as usize..].iter().all(|&byte| byte == 0x5a));
    Ok(buffer[..size as usize].to_vec())
}

fn info_of(queue: *mut H) -> shmkit_queue_info {
    let mut info = queue_info();
    // SAFETY: a handle, and a struct that can be written.
    let status = unsafe { shmkit_queue_stat(queue, &raw mut info) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    info
}

/// Returns an address that is aligned only for bytes.
fn misaligned<T>(place: &mut [u64; 16]) -> *mut T {
    (&raw mut *place).cast::<u8>().wrapping_add(1).cast()
}

/// A function with all arguments bound but the handle.
type Function = fn(*mut H) -> shmkit_status;

fn untouched(status: shmkit_status, is: bool) -> shmkit_status {
    assert!(
        status == SHMKIT_OK || is,
        "the output was written on failure"
    );
    status
}

const NOTHING: *mut c_void = UNTOUCHED as *mut c_void;

/// All functions that take a handle first, with their status on a new queue after the calls before them. Outputs must be
/// untouched on failure.
const FUNCTIONS: [(&str, Function, shmkit_status); 20] = [
    ("put", |queue| put(queue, b"a"), SHMKIT_OK),
    (
        "peek",
        |queue| {
            let (mut byte, mut size) = (7u8, UNTOUCHED);
            let (room, out) = ((&raw mut byte).cast(), &raw mut size);
            // SAFETY: the caller passes what the function promises to recognize; memory that can be written.
            let status = unsafe { shmkit_queue_peek(queue, room, 1, SHMKIT_NOWAIT, 0, out) };
            untouched(status, (byte, size) == (7, UNTOUCHED))
        },
        SHMKIT_OK,
    ),
    (
        "get",
        |queue| get(queue).err().unwrap_or(SHMKIT_OK),
        SHMKIT_OK,
    ),
    (
        "put_many",
        |queue| {
            let one = shmkit_queue_message {
                data: null(),
                size: 0,
            };
            let mut out = UNTOUCHED;
            // SAFETY: as above; one message, which has no bytes.
            let status =
                unsafe { shmkit_queue_put_many(queue, &one, 1, SHMKIT_NOWAIT, 0, &raw mut out) };
            untouched(status, out == UNTOUCHED)
        },
        SHMKIT_OK,
    ),
    (
        "get_many",
        |queue| {
            let (mut size, mut count) = (UNTOUCHED, UNTOUCHED);
            let (sizes, out) = (&raw mut size, &raw mut count);
            // SAFETY: as above; room for no bytes and one size.
            let status = unsafe {
                shmkit_queue_get_many(queue, null_mut(), 0, sizes, 1, SHMKIT_NOWAIT, 0, out)
            };
            untouched(status, (size, count) == (UNTOUCHED, UNTOUCHED))
        },
        SHMKIT_OK,
    ),
    (
        "reserve",
        |queue| {
            let (mut data, mut token) = (NOTHING, UNTOUCHED);
            let (at, by) = (&raw mut data, &raw mut token);
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_reserve(queue, 9, SHMKIT_NOWAIT, 0, at, by) };
            if status == SHMKIT_OK {
                // SAFETY: a handle.
                assert_eq!(unsafe { shmkit_queue_abort(queue, token) }, SHMKIT_OK);
            }
            untouched(status, (data, token) == (NOTHING, UNTOUCHED))
        },
        SHMKIT_OK,
    ),
    (
        "commit",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_commit(queue, 0, 0) },
        SHMKIT_ERR_NOT_OWNER,
    ),
    (
        "abort",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_abort(queue, 0) },
        SHMKIT_ERR_NOT_OWNER,
    ),
    (
        "lease",
        |queue| {
            let (mut data, mut attempts) = (NOTHING.cast_const(), 7);
            let (mut size, mut token) = (UNTOUCHED, UNTOUCHED);
            let (at, length, by) = (&raw mut data, &raw mut size, &raw mut token);
            // SAFETY: as above.
            let status = unsafe {
                shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, at, length, by, &raw mut attempts)
            };
            let numbers = (size, token, attempts) == (UNTOUCHED, UNTOUCHED, 7);
            untouched(status, data == NOTHING && numbers)
        },
        SHMKIT_ERR_EMPTY,
    ),
    (
        "ack",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_ack(queue, 0) },
        SHMKIT_ERR_NOT_OWNER,
    ),
    (
        "nack",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_nack(queue, 0) },
        SHMKIT_ERR_NOT_OWNER,
    ),
    (
        "join",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_join(queue, SHMKIT_NOWAIT, 0) },
        SHMKIT_OK,
    ),
    (
        "fileno",
        |queue| {
            let mut out = -77;
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_fileno(queue, SHMKIT_QUEUE_MESSAGES, &raw mut out) };
            untouched(status, out == -77)
        },
        SHMKIT_OK,
    ),
    (
        "is_full",
        |queue| {
            let mut out = 77;
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_is_full(queue, &raw mut out) };
            untouched(status, out == 77)
        },
        SHMKIT_OK,
    ),
    (
        "stat",
        |queue| {
            let mut out = queue_info();
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_stat(queue, &raw mut out) };
            untouched(status, out.puts == UNTOUCHED)
        },
        SHMKIT_OK,
    ),
    (
        "fd",
        |queue| {
            let (mut out, mut offset) = (-77, UNTOUCHED);
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_fd(queue, &raw mut out, &raw mut offset) };
            untouched(status, (out, offset) == (-77, UNTOUCHED))
        },
        SHMKIT_OK,
    ),
    (
        "segment",
        |queue| {
            let mut out = UNTOUCHED as *mut shmkit_segment;
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_segment(queue, &raw mut out) };
            if status == SHMKIT_OK {
                drop(Handle(out));
            }
            untouched(status, out as u64 == UNTOUCHED)
        },
        SHMKIT_OK,
    ),
    (
        "unlink",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_unlink(queue) },
        SHMKIT_OK,
    ),
    (
        "shutdown",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_shutdown(queue) },
        SHMKIT_OK,
    ),
    (
        "close",
        // SAFETY: as above.
        |queue| unsafe { shmkit_queue_close(queue) },
        SHMKIT_OK,
    ),
];

/// Calls each function that returns a handle, with these options and this place for it.
fn makers(
    given: *const shmkit_queue_options,
    out: *mut *mut H,
) -> Vec<(&'static str, shmkit_status)> {
    let (segment, name) = (managed(1 << 17), Name::new());
    let whole = unnamed(&queue_options());
    let (mut fd, mut offset) = (-1, 0);
    // SAFETY: a handle, and outputs that can be written.
    let status = unsafe { shmkit_queue_fd(whole, &raw mut fd, &raw mut offset) };
    assert_eq!(status, SHMKIT_OK);
    let mut results = Vec::new();
    type ByName = unsafe extern "C" fn(
        *const c_char,
        *const shmkit_queue_options,
        *mut *mut H,
    ) -> shmkit_status;
    let by_name: [(_, ByName); 3] = [
        ("create", shmkit_queue_create),
        ("open", shmkit_queue_open),
        ("open_or_create", shmkit_queue_open_or_create),
    ];
    for (what, function) in by_name {
        // SAFETY: a name; options and a place that the function promises to check.
        results.push((what, unsafe { function(name.as_ptr(), given, out) }));
    }
    // SAFETY: a handle, and the rest as above.
    let status = unsafe { shmkit_queue_create_at(segment.0, 0, given, out) };
    results.push(("create_at", status));
    // SAFETY: as above.
    let status = unsafe { shmkit_queue_open_at(segment.0, 0, given, out) };
    results.push(("open_at", status));
    // SAFETY: a descriptor, and the rest as above.
    let status = unsafe { shmkit_queue_open_fd(fd, offset, given, out) };
    results.push(("open_fd", status));
    close(whole);
    results
}

#[test]
fn invalid_handles_are_recognized_by_every_function() {
    let mut block = [UNTOUCHED; 16];
    let (segment, lock): (_, *mut shmkit_lock) = (managed(64), LOCK.unnamed());
    for (name, function, _) in FUNCTIONS {
        if name.ends_with("close") {
            assert_eq!(function(null_mut()), SHMKIT_OK);
        } else {
            assert_eq!(function(null_mut()), SHMKIT_ERR_INVALID, "{name}");
            assert!(last_text().contains("NULL"), "{name}: {}", last_text());
        }
        let odd = misaligned(&mut block);
        assert_eq!(function(odd), SHMKIT_ERR_INVALID, "{name}");
        for wrong in [segment.0.cast(), lock.cast(), (&raw mut block).cast()] {
            assert_eq!(function(wrong), SHMKIT_ERR_WRONG_KIND, "{name}");
        }
    }
    assert_eq!(block, [UNTOUCHED; 16]);
    let queue = unnamed(&queue_options());
    for (name, function, expected) in FUNCTIONS {
        assert_eq!(function(queue), expected, "{name}: {}", last_text());
    }
    for (name, function, _) in FUNCTIONS {
        assert_eq!(function(queue), SHMKIT_ERR_CLOSED, "{name}");
    }
    for (name, function) in functions_of_a_handle() {
        let queue = unnamed(&queue_options());
        assert_eq!(function(queue.cast()), SHMKIT_ERR_WRONG_KIND, "{name}");
        close(queue);
    }
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { shmkit_lock_close(lock) }, SHMKIT_OK);
}

/// Checks that each of these calls fails with INVALID.
macro_rules! refuse {
    ($($function:ident($($argument:expr),*);)*) => {$(
        // SAFETY: a handle, and pointers that the function promises to check.
        let status = unsafe { $function($($argument),*) };
        assert_eq!(status, SHMKIT_ERR_INVALID, "{}: {}", stringify!($function), last_text());
    )*};
}

#[test]
fn null_and_misaligned_outputs_are_invalid() {
    let (queue, mut block) = (unnamed(&queue_options()), [UNTOUCHED; 16]);
    assert_eq!(put(queue, b"stays"), SHMKIT_OK);
    let (mut fd, mut number, mut place) = (-77, UNTOUCHED, NOTHING);
    let (mut buffer, mut leased) = ([0x5au8; 8], NOTHING.cast_const());
    let (out, at, from) = (&raw mut number, &raw mut place, &raw mut leased);
    let one = shmkit_queue_message {
        data: null(),
        size: 0,
    };
    for bad in [null_mut(), misaligned::<c_void>(&mut block)] {
        let room = buffer.as_mut_ptr().cast();
        refuse! {
            shmkit_queue_get(queue, room, 8, 0, 0, bad.cast());
            shmkit_queue_peek(queue, room, 8, 0, 0, bad.cast());
            shmkit_queue_put_many(queue, &one, 1, 0, 0, bad.cast());
            shmkit_queue_put_many(queue, bad.cast(), 1, 0, 0, out);
            shmkit_queue_get_many(queue, room, 8, out, 1, 0, 0, bad.cast());
            shmkit_queue_get_many(queue, room, 8, bad.cast(), 1, 0, 0, out);
            shmkit_queue_reserve(queue, 1, 0, 0, bad.cast(), out);
            shmkit_queue_reserve(queue, 1, 0, 0, at, bad.cast());
            shmkit_queue_lease(queue, 0, 0, bad.cast(), out, out, null_mut());
            shmkit_queue_lease(queue, 0, 0, from, bad.cast(), out, null_mut());
            shmkit_queue_lease(queue, 0, 0, from, out, bad.cast(), null_mut());
            shmkit_queue_fileno(queue, 0, bad.cast());
            shmkit_queue_is_full(queue, bad.cast());
            shmkit_queue_stat(queue, bad.cast());
            shmkit_queue_fd(queue, bad.cast(), out);
            shmkit_queue_fd(queue, &raw mut fd, bad.cast());
            shmkit_queue_segment(queue, bad.cast());
            shmkit_queue_size(null(), bad.cast());
        }
        for (name, status) in makers(null(), bad.cast()) {
            assert_eq!(status, SHMKIT_ERR_INVALID, "{name}");
        }
    }
    let odd = misaligned(&mut block);
    refuse! { shmkit_queue_lease(queue, 0, 0, from, out, out, odd); }
    // Bytes need no alignment, but must not be NULL.
    refuse! {
        shmkit_queue_put(queue, null(), 1, 0, 0);
        shmkit_queue_get(queue, null_mut(), 1, 0, 0, out);
        shmkit_queue_peek(queue, null_mut(), 1, 0, 0, out);
        shmkit_queue_get_many(queue, null_mut(), 1, out, 1, 0, 0, out);
    }
    let nowhere = shmkit_queue_message {
        data: null(),
        size: 1,
    };
    refuse! { shmkit_queue_put_many(queue, [one, nowhere].as_ptr(), 2, 0, 0, out); }
    let numbers = (number, place, leased);
    assert_eq!(numbers, (UNTOUCHED, NOTHING, NOTHING.cast_const()));
    assert_eq!((fd, block, buffer), (-77, [UNTOUCHED; 16], [0x5a; 8]));
    let info = info_of(queue);
    assert_eq!((info.messages, info.reserved, info.leased), (1, 0, 0));
    assert_eq!(get(queue).unwrap(), b"stays");
    close(queue);
}

#[test]
fn impossible_sizes_times_and_flags_are_invalid() {
    let queue = unnamed(&shmkit_queue_options {
        capacity: 1024,
        ..queue_options()
    });
    assert_eq!(put(queue, b"stays"), SHMKIT_OK);
    let mut number = UNTOUCHED;
    let (mut place, mut leased) = (NOTHING, NOTHING.cast_const());
    let (out, at, from) = (&raw mut number, &raw mut place, &raw mut leased);
    let one = shmkit_queue_message {
        data: null(),
        size: 0,
    };
    let none = null_mut();
    let bad = [
        (-2, 0),
        (i64::MIN, 0),
        (SHMKIT_FOREVER, 2),
        (SHMKIT_NOWAIT, 1 << 31),
        (SHMKIT_NOWAIT, u32::MAX),
    ];
    for (time, flags) in bad {
        refuse! {
            shmkit_queue_put(queue, null(), 0, time, flags);
            shmkit_queue_get(queue, none, 0, time, flags, out);
            shmkit_queue_peek(queue, none, 0, time, flags, out);
            shmkit_queue_put_many(queue, &one, 1, time, flags, out);
            shmkit_queue_get_many(queue, none, 0, out, 1, time, flags, out);
            shmkit_queue_reserve(queue, 1, time, flags, at, out);
            shmkit_queue_lease(queue, time, flags, from, out, out, null_mut());
            shmkit_queue_join(queue, time, flags);
        }
    }
    // Only put_many accepts this flag.
    let all = SHMKIT_QUEUE_ALL;
    refuse! {
        shmkit_queue_put(queue, null(), 0, 0, all);
        shmkit_queue_get(queue, none, 0, 0, all, out);
        shmkit_queue_join(queue, 0, all);
        shmkit_queue_fileno(queue, 2, (&raw mut number).cast());
        shmkit_queue_fileno(queue, u32::MAX, (&raw mut number).cast());
    }
    let byte = 7u8;
    let bytes = (&raw const byte).cast();
    for size in [513, 1 << 40, i64::MAX as u64, u64::MAX] {
        if size > i64::MAX as u64 {
            // SAFETY: a handle; the size is impossible, so the memory is not accessed.
            let status = unsafe { shmkit_queue_put(queue, bytes, size, SHMKIT_FOREVER, 0) };
            assert_eq!(status, SHMKIT_ERR_TOO_LARGE, "{size}");
            let huge = shmkit_queue_message { data: bytes, size };
            // SAFETY: as above.
            let status = unsafe { shmkit_queue_put_many(queue, &huge, 1, SHMKIT_FOREVER, 0, out) };
            assert_eq!(status, SHMKIT_ERR_TOO_LARGE, "{size}");
        }
        // SAFETY: a handle, and outputs that can be written.
        let status = unsafe { shmkit_queue_reserve(queue, size, SHMKIT_FOREVER, 0, at, out) };
        assert_eq!(status, SHMKIT_ERR_TOO_LARGE, "{size}");
    }
    assert_eq!(put(queue, &[0; 513]), SHMKIT_ERR_TOO_LARGE);
    for count in [u64::MAX, u64::MAX / 16, 1 << 60] {
        // SAFETY: the number is impossible, so no message is accessed.
        let status = unsafe { shmkit_queue_put_many(queue, &one, count, SHMKIT_NOWAIT, 0, out) };
        assert_eq!(status, SHMKIT_ERR_TOO_LARGE, "{count}");
        // SAFETY: the number is impossible, so no size is written.
        let status =
            unsafe { shmkit_queue_get_many(queue, none, 0, out, count, SHMKIT_NOWAIT, 0, out) };
        assert_eq!(status, SHMKIT_ERR_TOO_LARGE, "{count}");
    }
    // The message does not fit into an empty buffer.
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_queue_get(queue, none, 0, SHMKIT_NOWAIT, 0, out) };
    assert_eq!(status, SHMKIT_ERR_TOO_LARGE);
    // SAFETY: as above.
    let status = unsafe { shmkit_queue_get_many(queue, none, 0, out, 1, SHMKIT_NOWAIT, 0, out) };
    assert_eq!(status, SHMKIT_ERR_TOO_LARGE);
    let outputs = (number, place, leased);
    assert_eq!(outputs, (UNTOUCHED, NOTHING, NOTHING.cast_const()));
    assert_eq!(get(queue).unwrap(), b"stays");
    assert_eq!(info_of(queue).puts, 1);
    close(queue);
}

#[test]
fn empty_batches_put_and_get_nothing() {
    let (queue, mut out) = (unnamed(&queue_options()), UNTOUCHED);
    // SAFETY: a handle, no messages, and an output that can be written.
    let status =
        unsafe { shmkit_queue_put_many(queue, null(), 0, SHMKIT_FOREVER, 0, &raw mut out) };
    assert_eq!((status, out), (SHMKIT_OK, 0));
    let (none, count) = (null_mut::<u64>(), &raw mut out);
    out = UNTOUCHED;
    // SAFETY: a handle, no room, and an output that can be written.
    let status =
        unsafe { shmkit_queue_get_many(queue, none.cast(), 0, none, 0, SHMKIT_FOREVER, 0, count) };
    assert_eq!((status, out), (SHMKIT_OK, 0));
    // SAFETY: a handle, and a message without bytes.
    let status = unsafe { shmkit_queue_put(queue, null(), 0, SHMKIT_FOREVER, 0) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!(get(queue).unwrap(), b"");
    close(queue);
}

#[test]
fn tokens_of_no_message_are_not_owned() {
    let queue = unnamed(&queue_options());
    assert_eq!(put(queue, b"a"), SHMKIT_OK);
    let (mut data, mut token, mut from, mut size) = (null_mut(), 0, null(), 0);
    // SAFETY: a handle, and outputs that can be written.
    let status =
        unsafe { shmkit_queue_reserve(queue, 10, SHMKIT_NOWAIT, 0, &raw mut data, &raw mut token) };
    assert_eq!((status, data as usize % 32), (SHMKIT_OK, 0));
    let (at, by, mut lease) = (&raw mut from, &raw mut size, 0);
    let none = null_mut();
    // SAFETY: as above; the count may be NULL.
    let status =
        unsafe { shmkit_queue_lease(queue, SHMKIT_NOWAIT, 0, at, by, &raw mut lease, none) };
    assert_eq!((status, size, from as usize % 32), (SHMKIT_OK, 1, 0));
    let bad = [0, 1, 32, token + 1, token + 32, lease ^ 1 << 63, u64::MAX];
    let calls = |token, expected| {
        // SAFETY: a handle; a token may be any number.
        assert_eq!(unsafe { shmkit_queue_ack(queue, token) }, expected);
        // SAFETY: as above.
        assert_eq!(unsafe { shmkit_queue_nack(queue, token) }, expected);
    };
    let more = |token, expected| {
        // SAFETY: as above.
        assert_eq!(unsafe { shmkit_queue_commit(queue, token, 0) }, expected);
        // SAFETY: as above.
        assert_eq!(unsafe { shmkit_queue_abort(queue, token) }, expected);
    };
    for bad in bad {
        calls(bad, SHMKIT_ERR_NOT_OWNER);
        more(bad, SHMKIT_ERR_NOT_OWNER);
    }
    // A lease cannot be committed, nor a reservation acknowledged.
    calls(token, SHMKIT_ERR_NOT_OWNER);
    more(lease, SHMKIT_ERR_NOT_OWNER);
    // SAFETY: a handle.
    let status = unsafe { shmkit_queue_commit(queue, token, 11) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    // SAFETY: as above.
    assert_eq!(unsafe { shmkit_queue_commit(queue, token, 10) }, SHMKIT_OK);
    // SAFETY: as above.
    assert_eq!(unsafe { shmkit_queue_ack(queue, lease) }, SHMKIT_OK);
    calls(lease, SHMKIT_ERR_NOT_OWNER);
    more(token, SHMKIT_ERR_NOT_OWNER);
    assert_eq!(get(queue).unwrap().len(), 10);
    close(queue);
}

/// Checks that all functions that take options fail with `expected`, and create nothing.
fn expect(given: &Newer<shmkit_queue_options>, expected: shmkit_status) {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let given = Newer {
        known: shmkit_queue_options {
            directory: directory.as_ptr(),
            ..given.known
        },
        unknown: given.unknown,
    };
    let mut out = UNTOUCHED as *mut H;
    for (name, status) in makers((&raw const given).cast(), &raw mut out) {
        assert_eq!(status, expected, "{name}: {}", last_text());
    }
    assert_eq!(out as u64, UNTOUCHED);
    assert!(folder.entries().is_empty());
    let mut size = UNTOUCHED;
    // SAFETY: options as long as their size, and an output that can be written.
    let status = unsafe { shmkit_queue_size((&raw const given).cast(), &raw mut size) };
    assert_eq!((status, size), (expected, UNTOUCHED));
}

#[test]
fn options_of_older_and_newer_callers_are_checked() {
    let known = size_of::<shmkit_queue_options>() as u32;
    let with = |options, unknown| Newer {
        known: options,
        unknown: [unknown; 4],
    };
    let sized = |struct_size| shmkit_queue_options {
        struct_size,
        ..queue_options()
    };
    for struct_size in [0, 1, 4, known - 1, 4097, u32::MAX] {
        expect(&with(sized(struct_size), UNTOUCHED), SHMKIT_ERR_INVALID);
    }
    expect(&with(sized(known + 32), 1), SHMKIT_ERR_UNSUPPORTED);
    let flags = SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE | SHMKIT_TRUST | SHMKIT_EXCLUSIVE;
    let base = queue_options;
    let mut bad: Vec<_> = (0..32)
        .map(|bit| 1 << bit)
        .filter(|bit| flags & bit == 0)
        .map(|flags| shmkit_queue_options { flags, ..base() })
        .collect();
    bad.push(shmkit_queue_options {
        flags: SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE,
        ..base()
    });
    bad.extend([0o1000, u32::MAX].map(|mode| shmkit_queue_options { mode, ..base() }));
    let capacities = [1, 992, 1025, 4100, (1 << 46) + 32, u64::MAX];
    bad.extend(capacities.map(|capacity| shmkit_queue_options { capacity, ..base() }));
    for options in bad {
        expect(&with(options, UNTOUCHED), SHMKIT_ERR_INVALID);
    }
    let mut out = UNTOUCHED as *mut H;
    for participants in [4097, u32::MAX] {
        let given = shmkit_queue_options {
            participants,
            ..base()
        };
        // SAFETY: no name, options, and an output that can be written.
        let status = unsafe { shmkit_queue_create(null(), &given, &raw mut out) };
        assert_eq!((status, out as u64), (SHMKIT_ERR_INVALID, UNTOUCHED));
    }
    // New fields that are zero do not matter.
    let mut size = 0;
    let newer = with(
        shmkit_queue_options {
            flags: flags & !SHMKIT_QUEUE_FAIL,
            capacity: 4096,
            maxsize: u64::MAX,
            max_bytes: u64::MAX,
            ..sized(known + 32)
        },
        0,
    );
    // SAFETY: options as long as their size, and an output that can be written.
    let status = unsafe { shmkit_queue_size((&raw const newer).cast(), &raw mut size) };
    assert_eq!((status, size), (SHMKIT_OK, 704 + 4096));
    // SAFETY: no options, and an output that can be written.
    let status = unsafe { shmkit_queue_size(null(), &raw mut size) };
    assert_eq!((status, size), (SHMKIT_OK, 704 + 65536));
}

#[test]
fn stat_fills_the_structs_of_older_and_newer_callers() {
    let queue = unnamed(&shmkit_queue_options {
        flags: SHMKIT_QUEUE_FAIL,
        capacity: 4096,
        maxsize: 9,
        max_bytes: 700,
        ..queue_options()
    });
    let whole = size_of::<shmkit_queue_info>() as u32;
    for struct_size in [0, 4, whole - 1] {
        let mut small = shmkit_queue_info {
            struct_size,
            ..queue_info()
        };
        // SAFETY: a handle, and a struct that can be written.
        let status = unsafe { shmkit_queue_stat(queue, &raw mut small) };
        assert_eq!((status, small.puts), (SHMKIT_ERR_INVALID, UNTOUCHED));
    }
    for message in [&b"a"[..], b"bc", b"def"] {
        assert_eq!(put(queue, message), SHMKIT_OK);
    }
    assert_eq!(get(queue).unwrap(), b"a");
    let mut newer = Newer {
        known: queue_info(),
        unknown: [UNTOUCHED; 4],
    };
    newer.known.struct_size = size_of_val(&newer) as u32;
    // SAFETY: as above; the struct is as long as its size.
    let status = unsafe { shmkit_queue_stat(queue, (&raw mut newer).cast()) };
    assert_eq!((status, newer.known.struct_size), (SHMKIT_OK, whole));
    assert_eq!(newer.unknown, [UNTOUCHED; 4]);
    let info = newer.known;
    assert_eq!(
        (info.flags, info.messages, info.bytes),
        (SHMKIT_QUEUE_FAIL, 2, 5)
    );
    assert_eq!(
        (info.puts, info.gets, info.reserved, info.leased),
        (3, 1, 0, 0)
    );
    assert_eq!(
        (info.capacity, info.maxsize, info.max_bytes),
        (4096, 9, 700)
    );
    assert_eq!(
        (info.largest, info.memory, info.offset),
        (700, 4096 + 128, 0)
    );
    assert_eq!(
        (info.overwritten, info.skipped, info.redelivered),
        (0, 0, 0)
    );
    assert_eq!((info.get_waits, info.put_waits, info.unused), (0, 0, 0));
    let held_up = (
        info.held_up_by_ticket,
        info.held_up_by_pid,
        info.held_up_by_namespace,
    );
    assert_eq!(held_up, (0, 0, 0));
    // The process that delays the others is reported.
    while get(queue).is_ok() {}
    let (mut data, mut token) = (null_mut(), 0);
    // SAFETY: a handle, and outputs that can be written.
    let status =
        unsafe { shmkit_queue_reserve(queue, 1, SHMKIT_NOWAIT, 0, &raw mut data, &raw mut token) };
    assert_eq!(status, SHMKIT_OK);
    // SAFETY: a handle.
    assert_eq!(unsafe { shmkit_queue_shutdown(queue) }, SHMKIT_OK);
    let info = info_of(queue);
    assert_eq!(info.flags, SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_SHUTDOWN);
    assert_eq!(
        (info.held_up_by_pid, info.reserved),
        (std::process::id(), 1)
    );
    assert!(info.held_up_by_ticket != 0 && info.held_up_by_namespace != 0);
    close(queue);
}

#[test]
fn batches_put_and_get_several_messages() {
    let queue = unnamed(&shmkit_queue_options {
        maxsize: 3,
        ..queue_options()
    });
    let texts = [&b"one"[..], b"", b"three", b"four"];
    let messages = texts.map(|text| shmkit_queue_message {
        data: text.as_ptr().cast(),
        size: text.len() as u64,
    });
    let put_many = |count, flags| {
        let mut out = UNTOUCHED;
        let (given, put) = (messages.as_ptr(), &raw mut out);
        // SAFETY: a handle, as many messages as passed, and an output that can be written.
        let status =
            unsafe { shmkit_queue_put_many(queue, given, count, SHMKIT_NOWAIT, flags, put) };
        (status, out)
    };
    assert_eq!(
        put_many(4, SHMKIT_QUEUE_ALL),
        (SHMKIT_ERR_TOO_LARGE, UNTOUCHED)
    );
    assert_eq!(put_many(4, 0), (SHMKIT_OK, 3));
    assert_eq!(put_many(1, 0), (SHMKIT_ERR_FULL, UNTOUCHED));
    let (mut buffer, mut sizes, mut count) = ([0u8; 7], [UNTOUCHED; 4], 0);
    let get_many = |buffer: &mut [u8], sizes: &mut [u64], count: &mut u64| {
        let (to, capacity) = (buffer.as_mut_ptr().cast(), buffer.len() as u64);
        let (lengths, most) = (sizes.as_mut_ptr(), sizes.len() as u64);
        // SAFETY: a handle, and memory that can be written.
        unsafe {
            shmkit_queue_get_many(queue, to, capacity, lengths, most, SHMKIT_NOWAIT, 0, count)
        }
    };
    assert_eq!(get_many(&mut buffer, &mut sizes, &mut count), SHMKIT_OK);
    assert_eq!(
        (count, sizes, &buffer[..3]),
        (2, [3, 0, UNTOUCHED, UNTOUCHED], &b"one"[..])
    );
    assert_eq!(put_many(3, SHMKIT_QUEUE_ALL), (SHMKIT_ERR_FULL, UNTOUCHED));
    assert_eq!(put_many(2, SHMKIT_QUEUE_ALL), (SHMKIT_OK, 2));
    assert_eq!(
        get_many(&mut [0; 64], &mut sizes[..1], &mut count),
        SHMKIT_OK
    );
    assert_eq!((count, sizes[0]), (1, 5));
    assert_eq!(
        (get(queue).unwrap(), get(queue).unwrap()),
        (b"one".to_vec(), vec![])
    );
    close(queue);
}
