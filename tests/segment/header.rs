//! Headers of managed segments: other layouts, forged fields, and truncated files.

use super::common::Folder;
use super::common::process::{alone, fork};
use super::managed::{each_form, file, header, managed};
use super::within;
use shmkit::error::{Error, Result};
use shmkit::layout::{HEADER, Header, MAJOR, MINOR, SIZE};
use shmkit::lock::{Create, Lock};
use shmkit::raw::WaitOptions;
use shmkit::segment::{Growth, Options, Segment};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A change of a header.
type Lie = fn(&mut Header);

/// Creates a managed segment of 5000 bytes and forges its header with `change`, with a valid checksum.
fn lie(folder: &Folder, change: impl FnOnce(&mut Header)) -> Header {
    let path = folder.path().join("a");
    let _ = std::fs::remove_file(&path);
    Segment::create(Some(c"a"), 5000, &managed(folder)).unwrap();
    let mut header = header(&path);
    change(&mut header);
    file(&path).write_all_at(&header.to_bytes(), 0).unwrap();
    header
}

/// Opens it with either form and as a managed segment; both results must be equal.
fn open(folder: &Folder) -> Result<()> {
    let [either, _, managed] = each_form(folder);
    let opened = Segment::open(c"a", 0, &either).map(drop);
    let same = Segment::open(c"a", 0, &managed).map(drop);
    assert_eq!(opened, same);
    let reading = Options {
        readonly: true,
        ..managed
    };
    assert_eq!(Segment::open(c"a", 0, &reading).map(drop), same);
    opened
}

#[test]
fn another_major_layout_is_a_version_mismatch_and_a_newer_minor_one_opens() {
    let folder = Folder::new();
    for major in [0, MAJOR + 1, u16::MAX] {
        lie(&folder, |header| header.major = major);
        let cause = refused!(VersionMismatch, open(&folder));
        assert!(cause.text.contains(&major.to_string()), "{cause}");
        // A newer layout may compute its checksum in another way.
        file(&folder.path().join("a"))
            .write_all_at(&[1; 4], 48)
            .unwrap();
        refused!(VersionMismatch, open(&folder));
        // The bytes can always be opened as a plain segment.
        Segment::open(c"a", 0, &each_form(&folder)[1]).unwrap();
    }
    for minor in [MINOR + 1, u16::MAX] {
        lie(&folder, |header| header.minor = minor);
        assert_eq!(open(&folder), Ok(()));
        let segment = Arc::new(Segment::open(c"a", 0, &managed(&folder)).unwrap());
        drop(Lock::of(&segment).unwrap().acquire().unwrap());
    }
    for kind in [0, 12, 15, u32::MAX] {
        lie(&folder, |header| header.kind = kind);
        refused!(WrongKind, open(&folder));
    }
}

#[test]
fn a_header_with_one_wrong_bit_is_corrupt() {
    let folder = Folder::new();
    lie(&folder, |_| {});
    let path = folder.path().join("a");
    let mut good = [0; HEADER];
    file(&path).read_exact_at(&mut good, 0).unwrap();
    for bit in 0..8 * 52 {
        let mut bytes = good;
        bytes[bit / 8] ^= 1 << (bit % 8);
        file(&path).write_all_at(&bytes, 0).unwrap();
        let asked = Segment::open(c"a", 0, &managed(&folder)).map(drop);
        match bit / 8 {
            // Without the magic number, any bytes are a plain segment.
            0..8 => drop(refused!(WrongKind, asked)),
            8..10 => drop(refused!(VersionMismatch, asked)),
            _ => drop(refused!(Corrupt, asked)),
        }
    }
    file(&path).write_all_at(&good, 0).unwrap();
    assert_eq!(open(&folder), Ok(()));
}

#[test]
fn forged_fields_with_a_valid_checksum_are_corrupt() {
    let folder = Folder::new();
    let lies: [(&str, Lie); 20] = [
        ("no participants", |h| h.participants = 0),
        ("more than there may be", |h| h.participants = 4097),
        ("more than there can be", |h| h.participants = u32::MAX),
        ("more than have room", |h| h.participants = 4096),
        ("one more than has room", |h| {
            h.participants = (h.control_bytes / 64) as u32 - 3
        }),
        ("no control area", |h| h.control_bytes = 0),
        ("a control area of a part of a page", |h| {
            h.control_bytes += 64
        }),
        ("one too small", |h| h.control_bytes = 4096),
        ("one larger than the file", |h| h.control_bytes += 1 << 20),
        ("one beyond any file", |h| h.control_bytes = 1 << 62),
        ("one at the end of numbers", |h| h.control_bytes = u64::MAX),
        ("one in the last page of numbers", |h| {
            h.control_bytes = u64::MAX - 4095
        }),
        ("no data", |h| h.size = 0),
        ("one byte more than the file", |h| h.size += 1),
        ("more data than the file", |h| h.size = 1 << 40),
        ("data at the end of numbers", |h| h.size = u64::MAX),
        ("data that wraps around", |h| {
            h.size = u64::MAX - h.control_bytes + 2
        }),
        ("no capacity", |h| h.capacity = 0),
        ("a capacity of less than the data", |h| {
            h.capacity = h.control_bytes + h.size - 1
        }),
        ("a capacity of the control area", |h| {
            h.capacity = h.control_bytes
        }),
    ];
    for (what, change) in lies {
        lie(&folder, change);
        match open(&folder) {
            Err(Error::Corrupt(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    // A larger control area than needed is valid if the file contains it, and so is a smaller size.
    lie(&folder, |h| {
        h.control_bytes += 4096;
        h.size = 1;
    });
    assert_eq!(open(&folder), Ok(()));
}

#[test]
fn a_capacity_beyond_the_address_space_fails_unless_the_caller_passes_another() {
    let folder = Folder::new();
    for capacity in [1 << 50, 1 << 62, u64::MAX - 4096, u64::MAX] {
        lie(&folder, |header| header.capacity = capacity);
        let refused = open(&folder);
        assert!(
            matches!(refused, Err(Error::NoMemory(_) | Error::TooLarge(_))),
            "{refused:?}"
        );
        // A capacity of the caller overrides the header's.
        let options = Options {
            capacity: 8192,
            ..managed(&folder)
        };
        assert_eq!(Segment::open(c"a", 0, &options).unwrap().capacity(), 8192);
    }
}

#[test]
fn a_truncated_file_is_corrupt() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path().join("a");
        let header = lie(&folder, |_| {});
        let whole = header.control_bytes + header.size;
        let opened = Segment::open(c"a", 0, &within(&folder)).unwrap();
        for length in [whole - 1, header.control_bytes, 4096, 128, 127, 52, 9, 8] {
            file(&path).set_len(length).unwrap();
            refused!(Corrupt, open(&folder));
        }
        // These files are too short to show that they were managed.
        for length in [7, 1] {
            file(&path).set_len(length).unwrap();
            refused!(WrongKind, Segment::open(c"a", 0, &managed(&folder)));
        }
        file(&path).set_len(0).unwrap();
        refused!(Corrupt, open(&folder));
        // A process that has it mapped gets an error without an access to the missing pages.
        for length in [0, 100, header.control_bytes] {
            file(&path).set_len(length).unwrap();
            fork(|| {
                refused!(Corrupt, opened.size());
                refused!(Corrupt, opened.resize(5000, &Growth::default()));
                assert_eq!(opened.stat().unwrap().size, 0);
            })
            .succeed();
        }
        // A file truncated within the data is corrupt to a process that has it mapped, and nothing is placed there.
        lie(&folder, |_| {});
        let segment = Arc::new(Segment::open(c"a", 0, &managed(&folder)).unwrap());
        let lock = Lock::at(&segment, 0, Create::Always, &Default::default()).unwrap();
        file(&path).set_len(header.control_bytes + 4096).unwrap();
        refused!(Corrupt, segment.size());
        refused!(Corrupt, segment.bytes().map(drop));
        let another = Lock::at(&segment, 4800, Create::Always, &Default::default());
        refused!(Corrupt, another.map(drop));
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    });
}

#[test]
fn a_forged_size_in_a_mapped_header_is_corrupt() {
    let folder = Folder::new();
    let path = folder.path().join("a");
    for size in [0, 1, 4999, 5001, 1 << 40, u64::MAX, u64::MAX - 12_000] {
        lie(&folder, |_| {});
        let options = Options {
            capacity: 1 << 20,
            ..managed(&folder)
        };
        let segment = Arc::new(Segment::open(c"a", 0, &options).unwrap());
        file(&path)
            .write_all_at(&u64::to_ne_bytes(size), SIZE)
            .unwrap();
        refused!(Corrupt, segment.size());
        refused!(Corrupt, segment.bytes().map(drop));
        let lock = Lock::at(&segment, 0, Create::IfMissing, &Default::default());
        refused!(Corrupt, lock.map(drop));
        assert!(segment.stat().unwrap().size <= 5000);
        // A resize either fails or yields bytes that the file has.
        match segment.resize(8192, &Growth::default()) {
            Ok(()) => assert_eq!(segment.bytes().unwrap().len(), 8192),
            Err(error) => assert!(
                matches!(error, Error::Corrupt(_) | Error::Invalid(_)),
                "{error:?}"
            ),
        }
    }
}

#[test]
fn a_managed_segment_that_others_can_shrink_is_untrusted() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::fd::AsRawFd;
    let folder = Folder::new();
    lie(&folder, |_| {});
    let bytes = std::fs::read(folder.path().join("a")).unwrap();
    let memory = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
    memory.write_all_at(&bytes, 0).unwrap();
    refused!(
        Untrusted,
        Segment::open_fd(memory.as_raw_fd(), 0, &managed(&folder))
    );
    let trusting = Options {
        trust: true,
        ..managed(&folder)
    };
    let opened = Segment::open_fd(memory.as_raw_fd(), 0, &trusting).unwrap();
    assert_eq!(opened.size(), Ok(5000));
}
