//! Structs that grow: what older and newer callers pass, and which values are invalid.

use super::common::Folder;
use super::*;

/// A struct of a newer caller: more fields follow those that this library knows.
#[repr(C)]
pub struct Newer<T> {
    pub known: T,
    pub unknown: [u64; 4],
}

const OPTIONS: u32 = size_of::<shmkit_segment_options>() as u32;

/// Creates and opens a segment with these options in each way, and closes what succeeded.
fn with_each_maker(given: &Newer<shmkit_segment_options>, check: impl Fn(&str, shmkit_status)) {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let known = shmkit_segment_options {
        directory: directory.as_ptr(),
        ..given.known
    };
    let given = Newer {
        known,
        unknown: given.unknown,
    };
    let file = Handle::anonymous(4096);
    let mut fd = -1;
    // SAFETY: a handle, and an output that can be written.
    assert_eq!(unsafe { shmkit_segment_fd(file.0, &raw mut fd) }, SHMKIT_OK);
    for (name, make) in makers(c"a", fd) {
        let mut out = UNTOUCHED as *mut shmkit_segment;
        let status = make((&raw const given).cast(), &raw mut out);
        assert_eq!(status == SHMKIT_OK, out as u64 != UNTOUCHED, "{name}");
        if status == SHMKIT_OK {
            drop(Handle(out));
        }
        check(name, status);
    }
}

/// Checks that each way returns this status.
fn each_creator_returns(expected: shmkit_status, known: shmkit_segment_options) {
    let given = Newer {
        known,
        unknown: [UNTOUCHED; 4],
    };
    with_each_maker(&given, |name, status| {
        assert_eq!(status, expected, "{name}: {}", last_text())
    });
}

#[test]
fn options_of_an_impossible_size_are_invalid() {
    for struct_size in [0, 1, 4, OPTIONS - 1, 4097, u32::MAX] {
        each_creator_returns(
            SHMKIT_ERR_INVALID,
            shmkit_segment_options {
                struct_size,
                ..options()
            },
        );
        assert!(last_text().contains("struct_size"), "{}", last_text());
    }
    // The bytes beyond the caller's size do not matter.
    each_creator_returns(SHMKIT_OK, options());
}

#[test]
fn options_of_a_newer_caller_are_unsupported_unless_their_new_fields_are_zero() {
    let newer = |struct_size, unknown| Newer {
        known: shmkit_segment_options {
            struct_size,
            ..options()
        },
        unknown,
    };
    for struct_size in [OPTIONS + 1, OPTIONS + 8, OPTIONS + 32] {
        with_each_maker(&newer(struct_size, [0; 4]), |name, status| {
            assert_eq!(status, SHMKIT_OK, "{name}: {}", last_text());
        });
    }
    // A field that this version does not know must be zero, up to the last byte.
    for at in [0, 3] {
        let mut unknown = [0; 4];
        unknown[at] = 1 << 56;
        with_each_maker(&newer(OPTIONS + 32, unknown), |name, status| {
            assert_eq!(status, SHMKIT_ERR_UNSUPPORTED, "{name}");
        });
    }
}

#[test]
fn unknown_flags_and_fields_are_invalid() {
    let invalid = |given| each_creator_returns(SHMKIT_ERR_INVALID, given);
    for flags in [
        1 << 1,
        1 << 3,
        SHMKIT_SEGMENT_CREATED,
        SHMKIT_SEGMENT_SEALED,
        1 << 31,
    ] {
        invalid(shmkit_segment_options { flags, ..options() });
        assert!(last_text().contains("flags"), "{}", last_text());
    }
    invalid(shmkit_segment_options {
        participants: 1,
        ..options()
    });
    for mode in [0o1000, 0o4755, 0o100_600, u32::MAX] {
        invalid(shmkit_segment_options { mode, ..options() });
    }
    for flag in [
        SHMKIT_SEGMENT_HUGE,
        SHMKIT_SEGMENT_PREFAULT,
        SHMKIT_SEGMENT_LOCK,
    ] {
        let known = shmkit_segment_options {
            flags: SHMKIT_SEGMENT_SPARSE | flag,
            ..options()
        };
        with_each_maker(
            &Newer {
                known,
                unknown: [0; 4],
            },
            |name, status| {
                // The segment does not exist; NOT_FOUND may come first.
                let nothing = name == "shmkit_segment_open" && status == SHMKIT_ERR_NOT_FOUND;
                assert!(nothing || status == SHMKIT_ERR_INVALID, "{name}: {status}");
            },
        );
    }
}

#[test]
fn unknown_flags_of_resize_unlink_and_gc_are_invalid() {
    let handle = Handle::anonymous(4096);
    let resize = |flags| {
        // SAFETY: a handle.
        unsafe { shmkit_segment_resize(handle.0, 4096, flags) }
    };
    let known = 1 | SHMKIT_SEGMENT_NO_SPACE_CHECK | SHMKIT_SEGMENT_SPARSE;
    assert_eq!(resize(known), SHMKIT_OK);
    for bit in 0..32 {
        let expected = if known & (1 << bit) != 0 {
            SHMKIT_OK
        } else {
            SHMKIT_ERR_INVALID
        };
        assert_eq!(resize(1 << bit), expected, "bit {bit}");
        let unlinked = {
            // SAFETY: a name and no directory.
            unsafe {
                shmkit_segment_unlink_name(c"shmkit-test-none".as_ptr(), null(), 0, 0, 1 << bit)
            }
        };
        let expected = if bit == 0 {
            SHMKIT_ERR_NOT_FOUND
        } else {
            SHMKIT_ERR_INVALID
        };
        assert_eq!(unlinked, expected, "bit {bit}");
        let mut removed = UNTOUCHED;
        // SAFETY: a missing directory, and an output that can be written.
        let collected =
            unsafe { shmkit_segment_gc(c"/nowhere".as_ptr(), 1 << bit, &raw mut removed) };
        assert_eq!((collected, removed), (expected, UNTOUCHED), "bit {bit}");
    }
}

#[test]
fn stat_and_limits_fill_the_structs_of_older_and_newer_callers() {
    let handle = Handle::anonymous(4096);
    let full = size_of::<shmkit_segment_info>() as u32;
    for size in [0, 4, full - 1] {
        let mut small = shmkit_segment_info {
            struct_size: size,
            ..info()
        };
        // SAFETY: a handle, and a struct that can be written.
        let status = unsafe { shmkit_segment_stat(handle.0, &raw mut small) };
        assert_eq!(
            (status, small.struct_size, small.size),
            (SHMKIT_ERR_INVALID, size, UNTOUCHED)
        );
    }
    let mut newer = Newer {
        known: info(),
        unknown: [UNTOUCHED; 4],
    };
    newer.known.struct_size = size_of_val(&newer) as u32;
    // SAFETY: as above; the struct is as long as its size.
    let status = unsafe { shmkit_segment_stat(handle.0, (&raw mut newer).cast()) };
    assert_eq!((status, newer.known.size), (SHMKIT_OK, 4096));
    assert_eq!(
        newer.known.struct_size, full,
        "the size of the filled fields"
    );
    assert_eq!(newer.unknown, [UNTOUCHED; 4]);

    let full = size_of::<shmkit_limits_info>() as u32;
    for size in [0, 4, full - 1] {
        let mut small = shmkit_limits_info {
            struct_size: size,
            ..limits_info()
        };
        // SAFETY: no directory, and a struct that can be written.
        let status = unsafe { shmkit_limits(null(), &raw mut small) };
        assert_eq!(
            (status, small.largest_named),
            (SHMKIT_ERR_INVALID, UNTOUCHED)
        );
    }
    let mut newer = Newer {
        known: limits_info(),
        unknown: [UNTOUCHED; 4],
    };
    newer.known.struct_size = size_of_val(&newer) as u32;
    // SAFETY: as above; the struct is as long as its size.
    let status = unsafe { shmkit_limits(null(), (&raw mut newer).cast()) };
    assert_eq!((status, newer.known.struct_size), (SHMKIT_OK, full));
    assert_ne!(newer.known.largest_named, UNTOUCHED);
    assert_eq!(newer.unknown, [UNTOUCHED; 4]);
}
