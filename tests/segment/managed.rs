//! Managed segments: the control area before the data, which form each open accepts, and growth.

use super::common::Folder;
use super::{Relaxed, byte, fill, is_filled, put, within};
use shmkit::layout::{HEADER, Header, MAJOR, MINOR};
use shmkit::segment::{Form, Growth, Options, Segment};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Returns the options of a managed segment in this folder.
pub fn managed(folder: &Folder) -> Options {
    Options {
        form: Form::Managed,
        ..within(folder)
    }
}

pub fn each_form(folder: &Folder) -> [Options; 3] {
    [Form::Either, Form::Plain, Form::Managed].map(|form| Options {
        form,
        ..within(folder)
    })
}

pub fn file(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

pub fn header(path: &Path) -> Header {
    let mut bytes = [0; HEADER];
    file(path).read_exact_at(&mut bytes, 0).unwrap();
    Header::parse(&bytes).unwrap().unwrap()
}

#[test]
fn the_data_begins_on_a_page_after_the_control_area() {
    let folder = Folder::new();
    for (participants, size) in [(0, 5000), (1, 1), (4096, 4096), (60, 4097)] {
        let options = Options {
            participants,
            mode: Some(0o640),
            ..managed(&folder)
        };
        let made = Segment::create(Some(c"a"), size, &options).unwrap();
        assert!(
            made.bytes()
                .unwrap()
                .iter()
                .all(|byte| byte.load(Relaxed) == 0)
        );
        fill(&made);
        let found = Segment::open(c"a", size, &within(&folder)).unwrap();
        assert!(is_filled(&found));
        let header = header(&folder.path().join("a"));
        for segment in [&made, &found] {
            let stat = segment.stat().unwrap();
            assert_eq!(stat.header, Some(header));
            assert_eq!((segment.size(), stat.size), (Ok(size), size));
            assert_eq!(stat.file.size, header.control_bytes + size);
            assert_eq!(stat.file.mode, 0o640);
            assert!(
                stat.file.allocated >= header.control_bytes + size,
                "{stat:?}"
            );
        }
        let expected = if participants == 0 { 128 } else { participants };
        assert_eq!((header.participants, header.flags), (expected, 0));
        assert_eq!(
            (header.major, header.minor, header.size),
            (MAJOR, MINOR, size)
        );
        assert!(header.control_bytes >= u64::from(expected) * 64 + 256);
        assert!(header.control_bytes.is_multiple_of(4096));
        assert_eq!(made.data() as u64 % 4096, 0);
        made.unlink().unwrap();
    }
    for participants in [4097, u32::MAX] {
        let options = Options {
            participants,
            ..managed(&folder)
        };
        refused!(Invalid, Segment::create(Some(c"a"), 1, &options));
    }
    assert!(folder.entries().is_empty());
}

#[test]
fn each_managed_segment_has_its_own_number() {
    let folder = Folder::new();
    let id = |segment: Segment| segment.stat().unwrap().header.unwrap().id;
    let ids: std::collections::BTreeSet<_> = (0..100)
        .map(|_| id(Segment::create(None, 1, &managed(&folder)).unwrap()))
        .collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn open_fails_for_a_segment_of_the_other_form() {
    let folder = Folder::new();
    let [either, plain, managed] = each_form(&folder);
    Segment::create(Some(c"managed"), 4096, &managed).unwrap();
    for (name, form) in [(c"plain", &plain), (c"either", &either)] {
        let made = Segment::create(Some(name), 4096, form).unwrap();
        assert_eq!(made.stat().unwrap().header, None);
        assert_eq!(made.stat().unwrap().file.size, 4096);
        refused!(WrongKind, Segment::open(name, 0, &managed));
        refused!(WrongKind, Segment::open_or_create(Some(name), 1, &managed));
        refused!(WrongKind, Segment::open_fd(made.fd(), 0, &managed));
    }
    assert!(
        Segment::open(c"managed", 0, &either)
            .unwrap()
            .stat()
            .unwrap()
            .header
            .is_some()
    );
    let bare = Segment::open(c"managed", 0, &plain).unwrap();
    assert_eq!((byte(&bare, 0), bare.stat().unwrap().header), (b's', None));
    assert!(bare.size().unwrap() > 4096);
    for form in [Form::Either, Form::Plain] {
        for (participants, ephemeral) in [(1, false), (0, true)] {
            let options = Options {
                form,
                participants,
                ephemeral,
                ..within(&folder)
            };
            refused!(Invalid, Segment::create(Some(c"a"), 1, &options));
        }
    }
}

#[test]
fn the_creator_sets_the_capacity_and_an_opener_may_pass_another() {
    let folder = Folder::new();
    let roomy = Options {
        capacity: 1 << 20,
        ..managed(&folder)
    };
    let made = Segment::create(Some(c"a"), 5000, &roomy).unwrap();
    let found = Segment::open(c"a", 0, &within(&folder)).unwrap();
    assert_eq!((made.capacity(), found.capacity()), (1 << 20, 1 << 20));
    let narrow = Options {
        capacity: 8192,
        ..within(&folder)
    };
    let narrow = Segment::open(c"a", 0, &narrow).unwrap();
    found.resize(1 << 20, &Growth::default()).unwrap();
    put(&made, (1 << 20) - 1, 9);
    assert_eq!(byte(&found, (1 << 20) - 1), 9);
    assert_eq!((made.size(), narrow.size()), (Ok(1 << 20), Ok(8192)));
    assert_eq!(header(&folder.path().join("a")).size, 1 << 20);
    refused!(Invalid, made.resize(5000, &Growth::default()));
    refused!(TooLarge, made.resize((1 << 20) + 1, &Growth::default()));
}

#[test]
fn the_next_resize_uses_what_a_killed_grower_left() {
    let folder = Folder::new();
    let roomy = Options {
        capacity: 1 << 20,
        ..managed(&folder)
    };
    let made = Segment::create(Some(c"a"), 5000, &roomy).unwrap();
    fill(&made);
    // The grower is killed before its last step: the file is longer than the size in the header.
    let long = made.stat().unwrap().file.size + 100_000;
    file(&folder.path().join("a")).set_len(long).unwrap();
    let found = Segment::open(c"a", 0, &roomy).unwrap();
    for segment in [&made, &found] {
        assert_eq!(
            (segment.size(), segment.stat().unwrap().size),
            (Ok(5000), 5000)
        );
        assert!(is_filled(segment));
    }
    found.resize(6000, &Growth::default()).unwrap();
    assert_eq!((made.size(), byte(&made, 5999)), (Ok(6000), 0));
    made.resize(200_000, &Growth::default()).unwrap();
    assert_eq!(found.size(), Ok(200_000));
    let memory = found.stat().unwrap().file;
    assert!(memory.allocated >= memory.size);
}
