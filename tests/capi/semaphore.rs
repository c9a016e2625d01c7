//! Semaphores through the C interface: bad pointers, bad structs, impossible numbers, handles that are closed or of
//! another kind.

use super::common::{Folder, Name};
use super::lock::{LOCK, managed};
use super::structure::Newer;
use super::*;
use shmkit::capi::lock::{shmkit_lock, shmkit_lock_close};
use shmkit::capi::object::SHMKIT_EXCLUSIVE;
use shmkit::capi::segment::SHMKIT_TRUST;
use shmkit::capi::semaphore::*;
use shmkit::capi::wait::{SHMKIT_FOREVER, SHMKIT_NOWAIT};

type H = shmkit_semaphore;

/// Returns options as in C: all zeros but their size and one permit.
fn semaphore_options() -> shmkit_semaphore_options {
    shmkit_semaphore_options {
        struct_size: size_of::<shmkit_semaphore_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: null(),
        value: 1,
        maximum: 0,
        processes: 0,
        reserved: 0,
    }
}

fn semaphore_info() -> shmkit_semaphore_info {
    // SAFETY: it contains only integers, for which zeros are valid.
    let mut info: shmkit_semaphore_info = unsafe { std::mem::zeroed() };
    info.struct_size = size_of::<shmkit_semaphore_info>() as u32;
    info.value = UNTOUCHED;
    info
}

/// Creates an unnamed object.
fn unnamed(given: &shmkit_semaphore_options) -> *mut H {
    let mut out = null_mut();
    // SAFETY: no name, options, and an output that can be written.
    let status = unsafe { shmkit_semaphore_create(null(), given, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    out
}

/// Creates one with undo.
fn undo(value: u64) -> *mut H {
    unnamed(&shmkit_semaphore_options {
        flags: SHMKIT_SEMAPHORE_UNDO,
        value,
        ..semaphore_options()
    })
}

fn close(semaphore: *mut H) {
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { shmkit_semaphore_close(semaphore) }, SHMKIT_OK);
}

fn acquire(semaphore: *mut H, n: u32) -> shmkit_status {
    // SAFETY: a handle, or what the function promises to recognize.
    unsafe { shmkit_semaphore_acquire(semaphore, n, SHMKIT_NOWAIT, 0) }
}

fn release(semaphore: *mut H, n: u32) -> shmkit_status {
    // SAFETY: as above.
    unsafe { shmkit_semaphore_release(semaphore, n) }
}

fn value(semaphore: *mut H) -> u64 {
    let mut out = UNTOUCHED;
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_semaphore_value(semaphore, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    out
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

/// All functions that take a handle first; their outputs must be untouched on failure.
const FUNCTIONS: [(&str, Function); 9] = [
    ("acquire", |semaphore| acquire(semaphore, 1)),
    ("release", |semaphore| release(semaphore, 1)),
    ("value", |semaphore| {
        let mut out = UNTOUCHED;
        // SAFETY: the caller passes what the function promises to recognize; an output that can be written.
        let status = unsafe { shmkit_semaphore_value(semaphore, &raw mut out) };
        untouched(status, out == UNTOUCHED)
    }),
    ("held", |semaphore| {
        let mut out = UNTOUCHED;
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_held(semaphore, &raw mut out) };
        untouched(status, out == UNTOUCHED)
    }),
    ("stat", |semaphore| {
        let mut out = semaphore_info();
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_stat(semaphore, &raw mut out) };
        untouched(status, out.value == UNTOUCHED)
    }),
    ("fd", |semaphore| {
        let (mut out, mut offset) = (-77, UNTOUCHED);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_fd(semaphore, &raw mut out, &raw mut offset) };
        untouched(status, (out, offset) == (-77, UNTOUCHED))
    }),
    ("segment", |semaphore| {
        let mut out = UNTOUCHED as *mut shmkit_segment;
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_segment(semaphore, &raw mut out) };
        if status == SHMKIT_OK {
            drop(Handle(out));
        }
        untouched(status, out as u64 == UNTOUCHED)
    }),
    ("unlink", |semaphore| {
        // SAFETY: as above.
        unsafe { shmkit_semaphore_unlink(semaphore) }
    }),
    ("close", |semaphore| {
        // SAFETY: as above.
        unsafe { shmkit_semaphore_close(semaphore) }
    }),
];

/// Calls each function that returns a handle, with these options and this place for it.
fn makers(
    given: *const shmkit_semaphore_options,
    out: *mut *mut H,
) -> Vec<(&'static str, shmkit_status)> {
    let (segment, name) = (managed(65536), Name::new());
    let whole = unnamed(&semaphore_options());
    let (mut fd, mut offset) = (-1, 0);
    // SAFETY: a handle, and outputs that can be written.
    let status = unsafe { shmkit_semaphore_fd(whole, &raw mut fd, &raw mut offset) };
    assert_eq!(status, SHMKIT_OK);
    let mut results = Vec::new();
    type ByName = unsafe extern "C" fn(
        *const c_char,
        *const shmkit_semaphore_options,
        *mut *mut H,
    ) -> shmkit_status;
    let by_name: [(_, ByName); 3] = [
        ("create", shmkit_semaphore_create),
        ("open", shmkit_semaphore_open),
        ("open_or_create", shmkit_semaphore_open_or_create),
    ];
    for (what, function) in by_name {
        // SAFETY: a name; options and a place that the function promises to check.
        results.push((what, unsafe { function(name.as_ptr(), given, out) }));
    }
    // SAFETY: a handle, and the rest as above.
    let status = unsafe { shmkit_semaphore_create_at(segment.0, 0, given, out) };
    results.push(("create_at", status));
    // SAFETY: as above.
    let status = unsafe { shmkit_semaphore_open_at(segment.0, 0, given, out) };
    results.push(("open_at", status));
    // SAFETY: a descriptor, and the rest as above.
    let status = unsafe { shmkit_semaphore_open_fd(fd, offset, given, out) };
    results.push(("open_fd", status));
    close(whole);
    results
}

#[test]
fn invalid_handles_are_recognized_by_every_function() {
    let mut block = [UNTOUCHED; 16];
    let (segment, lock): (_, *mut shmkit_lock) = (managed(64), LOCK.unnamed());
    for (name, function) in FUNCTIONS {
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
    let (semaphore, recorded) = (unnamed(&semaphore_options()), undo(1));
    for (name, function) in FUNCTIONS {
        let expected = |has_undo: bool| match name {
            "unlink" => SHMKIT_ERR_INVALID,
            "held" if !has_undo => SHMKIT_ERR_INVALID,
            _ => SHMKIT_OK,
        };
        assert_eq!(function(semaphore), expected(false), "{name}");
        assert_eq!(function(recorded), expected(true), "{name}");
    }
    for (name, function) in FUNCTIONS {
        assert_eq!(function(semaphore), SHMKIT_ERR_CLOSED, "{name}");
        assert_eq!(function(recorded), SHMKIT_ERR_CLOSED, "{name}");
    }
    for (name, function) in functions_of_a_handle() {
        let semaphore = unnamed(&semaphore_options());
        assert_eq!(function(semaphore.cast()), SHMKIT_ERR_WRONG_KIND, "{name}");
        close(semaphore);
    }
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { shmkit_lock_close(lock) }, SHMKIT_OK);
}

#[test]
fn null_and_misaligned_outputs_are_invalid() {
    let (semaphore, mut block) = (undo(1), [UNTOUCHED; 16]);
    let (mut fd, mut offset) = (-77, UNTOUCHED);
    for bad in [null_mut(), misaligned::<c_void>(&mut block)] {
        // SAFETY: a handle, and outputs that the function promises to check.
        let status = unsafe { shmkit_semaphore_fd(semaphore, bad.cast(), &raw mut offset) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_fd(semaphore, &raw mut fd, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_segment(semaphore, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_stat(semaphore, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_value(semaphore, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_held(semaphore, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_semaphore_size(null(), bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        for (name, status) in makers(null(), bad.cast()) {
            assert_eq!(status, SHMKIT_ERR_INVALID, "{name}");
        }
    }
    assert_eq!((fd, offset, block), (-77, UNTOUCHED, [UNTOUCHED; 16]));
    close(semaphore);
}

#[test]
fn impossible_numbers_times_and_flags_are_invalid() {
    let two = unnamed(&shmkit_semaphore_options {
        value: 2,
        maximum: 3,
        ..semaphore_options()
    });
    for n in [0, 4, u32::MAX] {
        // SAFETY: a handle.
        let status = unsafe { shmkit_semaphore_acquire(two, n, SHMKIT_FOREVER, 0) };
        assert_eq!(status, SHMKIT_ERR_INVALID, "{n}");
    }
    for time in [-2, i64::MIN] {
        // SAFETY: a handle.
        let status = unsafe { shmkit_semaphore_acquire(two, 1, time, 0) };
        assert_eq!(status, SHMKIT_ERR_INVALID, "{time}");
    }
    for flags in [2, 1 << 31, u32::MAX] {
        // SAFETY: a handle.
        let status = unsafe { shmkit_semaphore_acquire(two, 1, SHMKIT_NOWAIT, flags) };
        assert_eq!(status, SHMKIT_ERR_INVALID, "{flags:#x}");
    }
    assert_eq!(release(two, 0), SHMKIT_ERR_INVALID);
    for n in [2, 1 << 31, u32::MAX] {
        assert_eq!(release(two, n), SHMKIT_ERR_OVERFLOW, "{n}");
    }
    assert_eq!(acquire(two, 3), SHMKIT_ERR_WOULD_BLOCK);
    // SAFETY: a handle.
    let status = unsafe { shmkit_semaphore_acquire(two, 3, 1, 0) };
    assert_eq!(status, SHMKIT_ERR_TIMEOUT);
    assert_eq!(value(two), 2, "the value has changed");
    assert_eq!((acquire(two, 2), release(two, 3)), (SHMKIT_OK, SHMKIT_OK));
    close(two);
    let one = undo(1);
    assert_eq!(release(one, 1), SHMKIT_ERR_NOT_OWNER);
    assert_eq!(
        (acquire(one, 1), acquire(one, 1)),
        (SHMKIT_OK, SHMKIT_ERR_WOULD_BLOCK)
    );
    assert_eq!(release(one, 2), SHMKIT_ERR_NOT_OWNER);
    assert_eq!((release(one, 1), value(one)), (SHMKIT_OK, 1));
    close(one);
    let many = undo(70_000);
    assert_eq!(acquire(many, 65_536), SHMKIT_ERR_OVERFLOW);
    assert_eq!(acquire(many, 65_535), SHMKIT_OK);
    let mut held = 0;
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_semaphore_held(many, &raw mut held) };
    assert_eq!((status, held), (SHMKIT_OK, 65_535));
    close(many);
}

/// Checks that all functions that take options fail with `expected`, and create nothing.
fn expect(given: &Newer<shmkit_semaphore_options>, expected: shmkit_status) {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let given = Newer {
        known: shmkit_semaphore_options {
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
    let status = unsafe { shmkit_semaphore_size((&raw const given).cast(), &raw mut size) };
    assert_eq!((status, size), (expected, UNTOUCHED));
}

#[test]
fn options_of_older_and_newer_callers_are_checked() {
    let known = size_of::<shmkit_semaphore_options>() as u32;
    let with = |options, unknown| Newer {
        known: options,
        unknown: [unknown; 4],
    };
    let sized = |struct_size| shmkit_semaphore_options {
        struct_size,
        ..semaphore_options()
    };
    for struct_size in [0, 1, 4, known - 1, 4097, u32::MAX] {
        expect(&with(sized(struct_size), UNTOUCHED), SHMKIT_ERR_INVALID);
    }
    expect(&with(sized(known + 32), 1), SHMKIT_ERR_UNSUPPORTED);
    let flags = SHMKIT_SEMAPHORE_UNDO | SHMKIT_TRUST | SHMKIT_EXCLUSIVE;
    let base = semaphore_options;
    let mut bad: Vec<_> = (0..32)
        .map(|bit| 1 << bit)
        .filter(|bit| flags & bit == 0)
        .map(|flags| shmkit_semaphore_options { flags, ..base() })
        .collect();
    bad.extend([0o1000, u32::MAX].map(|mode| shmkit_semaphore_options { mode, ..base() }));
    bad.extend([1 << 31, u64::MAX].map(|value| shmkit_semaphore_options { value, ..base() }));
    bad.extend([1 << 31, u64::MAX].map(|maximum| shmkit_semaphore_options { maximum, ..base() }));
    bad.push(shmkit_semaphore_options {
        value: 3,
        maximum: 2,
        ..base()
    });
    bad.push(shmkit_semaphore_options {
        flags: SHMKIT_SEMAPHORE_UNDO,
        maximum: 2,
        ..base()
    });
    bad.push(shmkit_semaphore_options {
        processes: 1,
        ..base()
    });
    bad.push(shmkit_semaphore_options {
        flags: SHMKIT_SEMAPHORE_UNDO,
        processes: 4097,
        ..base()
    });
    bad.push(shmkit_semaphore_options {
        reserved: 1,
        ..base()
    });
    for options in bad {
        expect(&with(options, UNTOUCHED), SHMKIT_ERR_INVALID);
    }
    // New fields that are zero do not matter.
    let mut size = 0;
    let newer = with(
        shmkit_semaphore_options {
            flags,
            processes: 3,
            ..sized(known + 32)
        },
        0,
    );
    // SAFETY: options as long as their size, and an output that can be written.
    let status = unsafe { shmkit_semaphore_size((&raw const newer).cast(), &raw mut size) };
    assert_eq!((status, size), (SHMKIT_OK, 128 + 3 * 64));
    // A semaphore with undo has at least one permit.
    let mut out = UNTOUCHED as *mut H;
    let none = shmkit_semaphore_options {
        flags: SHMKIT_SEMAPHORE_UNDO,
        value: 0,
        ..base()
    };
    // SAFETY: no name, options, and an output that can be written.
    let status = unsafe { shmkit_semaphore_create(null(), &none, &raw mut out) };
    assert_eq!((status, out as u64), (SHMKIT_ERR_INVALID, UNTOUCHED));
}

#[test]
fn stat_fills_the_structs_of_older_and_newer_callers() {
    let semaphore = undo(3);
    let whole = size_of::<shmkit_semaphore_info>() as u32;
    for struct_size in [0, 4, whole - 1] {
        let mut small = shmkit_semaphore_info {
            struct_size,
            ..semaphore_info()
        };
        // SAFETY: a handle, and a struct that can be written.
        let status = unsafe { shmkit_semaphore_stat(semaphore, &raw mut small) };
        assert_eq!((status, small.value), (SHMKIT_ERR_INVALID, UNTOUCHED));
    }
    assert_eq!(acquire(semaphore, 2), SHMKIT_OK);
    let mut newer = Newer {
        known: semaphore_info(),
        unknown: [UNTOUCHED; 4],
    };
    newer.known.struct_size = size_of_val(&newer) as u32;
    // SAFETY: as above; the struct is as long as its size.
    let status = unsafe { shmkit_semaphore_stat(semaphore, (&raw mut newer).cast()) };
    assert_eq!((status, newer.known.struct_size), (SHMKIT_OK, whole));
    assert_eq!(newer.unknown, [UNTOUCHED; 4]);
    let filled = newer.known;
    assert_eq!((filled.value, filled.maximum, filled.holders), (1, 3, 1));
    assert_eq!(
        (filled.flags, filled.processes),
        (SHMKIT_SEMAPHORE_UNDO, 128)
    );
    assert_eq!(
        (filled.waits, filled.recoveries, filled.reserved),
        (0, 0, 0)
    );
    close(semaphore);
}
