//! Creating segments: exact sizes, reserved memory, exact modes, and nothing left after a failure.

use super::common::process::{alone, end_after_one_step};
use super::common::{Folder, Name};
use super::{byte, fill, is_filled, plain, put, within};
use nix::sys::stat::{Mode, umask};
use shmkit::segment::{Options, Segment};
use std::os::unix::fs::MetadataExt;

const PAGE: u64 = 4096;

#[test]
fn a_segment_has_exactly_the_requested_size() {
    for size in [1, 4095, 4096, 4097, 5000, 3 << 20] {
        let name = Name::new();
        let named = Segment::create(Some(&name), size, &plain()).unwrap();
        let anonymous = Segment::create(None, size, &plain()).unwrap();
        for segment in [&named, &anonymous] {
            assert_eq!(segment.size().unwrap(), size);
            assert_eq!(segment.bytes().unwrap().len() as u64, size);
            assert_eq!(segment.capacity(), size.next_multiple_of(PAGE));
            let zero = |byte: &std::sync::atomic::AtomicU8| byte.load(super::Relaxed) == 0;
            assert!(segment.bytes().unwrap().iter().all(zero));
            fill(segment);
            assert!(is_filled(segment));
            assert!(segment.stat().unwrap().created);
        }
        assert_eq!(std::fs::metadata(name.path()).unwrap().len(), size);
        let opened = Segment::open(&name, size, &plain()).unwrap();
        assert_eq!(opened.size().unwrap(), size);
        assert!(is_filled(&opened));
        assert!(!opened.stat().unwrap().created);
    }
}

#[test]
fn create_fails_with_impossible_sizes() {
    let folder = Folder::new();
    let options = within(&folder);
    for name in [Some(c"a"), None] {
        refused!(Invalid, Segment::create(name, 0, &options));
        refused!(Invalid, Segment::open_or_create(name, 0, &options));
        refused!(
            TooLarge,
            Segment::create(name, i64::MAX as u64 + 1, &options)
        );
        refused!(TooLarge, Segment::create(name, u64::MAX, &options));
        let capacity = |capacity| Options {
            capacity,
            ..options.clone()
        };
        refused!(Invalid, Segment::create(name, 5000, &capacity(4999)));
        refused!(TooLarge, Segment::create(name, 1, &capacity(u64::MAX)));
        refused!(TooLarge, Segment::create(name, 1, &capacity(1 << 63)));
        // The processor cannot address this much.
        refused!(NoMemory, Segment::create(name, 1, &capacity(1 << 62)));
        let sparse = Options {
            sparse: true,
            ..options.clone()
        };
        refused!(NoMemory, Segment::create(name, 1 << 62, &sparse));
        assert!(folder.entries().is_empty(), "{:?}", folder.entries());
    }
}

#[test]
fn create_fails_with_contradictory_options() {
    let folder = Folder::new();
    let wrong = [
        Options {
            readonly: true,
            ..within(&folder)
        },
        Options {
            sparse: true,
            huge: true,
            ..within(&folder)
        },
        Options {
            sparse: true,
            prefault: true,
            ..within(&folder)
        },
        Options {
            sparse: true,
            lock: true,
            ..within(&folder)
        },
    ];
    for options in wrong {
        refused!(Invalid, Segment::create(Some(c"a"), 1, &options));
        refused!(Invalid, Segment::create(None, 1, &options));
    }
    assert!(folder.entries().is_empty());
}

#[test]
fn create_leaves_an_existing_file_unchanged() {
    alone(|| {
        let folder = Folder::new();
        // Some of these sizes are larger than any memory.
        end_after_one_step();
        let options = Options {
            interruptible: true,
            ..within(&folder)
        };
        let made = Segment::create(Some(c"a"), 5000, &options).unwrap();
        fill(&made);
        // Above a megabyte the name is checked before memory is reserved.
        for size in [1, 5000, 1 << 20, (1 << 20) + 1, 1 << 40] {
            let cause = refused!(Exists, Segment::create(Some(c"a"), size, &options));
            assert!(cause.text.contains("/a"), "{cause}");
        }
        assert!(is_filled(&made));
        assert_eq!(made.size().unwrap(), 5000);
        assert_eq!(folder.entries(), ["a"]);
        for name in ["folder", "file"] {
            match name {
                "folder" => std::fs::create_dir(folder.path().join(name)).unwrap(),
                _ => std::fs::write(folder.path().join(name), "").unwrap(),
            }
            let name = std::ffi::CString::new(name).unwrap();
            refused!(Exists, Segment::create(Some(&name), 1, &options));
            refused!(Exists, Segment::create(Some(&name), 2 << 20, &options));
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        refused!(Exists, Segment::create(Some(c"dangling"), 1, &options));
        assert!(!folder.path().join("nowhere").exists());
        assert_eq!(folder.entries(), ["a", "dangling", "file", "folder"]);
    });
}

#[test]
fn memory_is_reserved_before_the_first_access() {
    let folder = Folder::new();
    let options = within(&folder);
    let sparse = Options {
        sparse: true,
        ..options.clone()
    };
    for size in [1, 5000, 70 << 20] {
        for name in [Some(c"a"), None] {
            let made = Segment::create(name, size, &options).unwrap();
            let allocated = made.stat().unwrap().file.allocated;
            assert!(allocated >= size, "{allocated} of {size}");
            if name.is_some() {
                made.unlink().unwrap();
            }
            let made = Segment::create(name, size, &sparse).unwrap();
            assert_eq!(made.stat().unwrap().file.allocated, 0);
            assert_eq!(made.size().unwrap(), size);
            put(&made, size - 1, 1);
            let allocated = made.stat().unwrap().file.allocated;
            assert!((1..=2 << 20).contains(&allocated), "{allocated}");
            if name.is_some() {
                made.unlink().unwrap();
            }
        }
    }
}

#[test]
fn a_segment_can_exceed_4_gib() {
    let folder = Folder::new();
    let options = Options {
        sparse: true,
        ..within(&folder)
    };
    let size = (9 << 29) + 5;
    let mark = 4 << 30;
    let places = [
        (0, 1),
        (mark - 1, 2),
        (mark, 3),
        (mark + 1, 4),
        (size - 1, 5),
    ];
    for name in [Some(c"large"), None] {
        let made = Segment::create(name, size, &options).unwrap();
        assert_eq!(made.size().unwrap(), size);
        for (at, value) in places {
            put(&made, at, value);
        }
        let opened = match name {
            Some(name) => Segment::open(name, size, &options).unwrap(),
            None => Segment::open_fd(made.fd(), size, &options).unwrap(),
        };
        assert_eq!(opened.bytes().unwrap().len() as u64, size);
        for (at, value) in places {
            assert_eq!(byte(&opened, at), value, "at {at}");
        }
        assert_eq!(byte(&opened, 4096), 0);
        let allocated = made.stat().unwrap().file.allocated;
        assert!(allocated <= 16 << 20, "{allocated} bytes for five touched");
    }
}

#[test]
fn the_mode_is_exact_whatever_the_umask() {
    alone(|| {
        for taken in [0o000, 0o022, 0o077, 0o277, 0o777] {
            umask(Mode::from_bits_truncate(taken));
            for mode in [0o600, 0o666, 0o640, 0o400, 0o660, 0o604] {
                let folder = Folder::new();
                std::fs::set_permissions(
                    folder.path(),
                    std::os::unix::fs::PermissionsExt::from_mode(0o700),
                )
                .unwrap();
                let options = Options {
                    mode: Some(mode),
                    ..within(&folder)
                };
                let named = Segment::create(Some(c"a"), 1, &options).unwrap();
                let anonymous = Segment::create(None, 1, &options).unwrap();
                for segment in [&named, &anonymous] {
                    let found = segment.stat().unwrap().file.mode;
                    assert_eq!(found, mode, "{found:o} for {mode:o} under umask {taken:o}");
                }
                let file = std::fs::metadata(folder.path().join("a")).unwrap();
                assert_eq!(file.mode() & 0o7777, mode);
            }
        }
    });
}

#[test]
fn the_default_mode_is_0600_and_0666_without_a_name() {
    alone(|| {
        for taken in [0o000, 0o022, 0o077, 0o277, 0o777] {
            umask(Mode::from_bits_truncate(taken));
            let name = Name::new();
            let named = Segment::create(Some(&name), 1, &plain()).unwrap();
            let anonymous = Segment::create(None, 1, &plain()).unwrap();
            for (segment, mode) in [(&named, 0o600), (&anonymous, 0o666)] {
                let found = segment.stat().unwrap().file.mode;
                assert_eq!(found, mode, "{found:o} under umask {taken:o}");
            }
        }
    });
}

#[test]
fn an_anonymous_segment_has_no_execute_bits() {
    for (mode, got) in [(0o700, 0o600), (0o755, 0o644), (0o111, 0)] {
        let options = Options {
            mode: Some(mode),
            ..plain()
        };
        let made = Segment::create(None, 1, &options).unwrap();
        assert_eq!(made.stat().unwrap().file.mode, got);
    }
}

#[test]
fn a_creator_killed_before_the_name_leaves_nothing() {
    alone(|| {
        let folder = Folder::new();
        let maker = super::signal::stalled(2, || {
            let options = Options {
                interruptible: true,
                ..within(&folder)
            };
            Segment::create(Some(c"a"), 256 << 20, &options).unwrap();
        });
        maker.kill();
        assert!(folder.entries().is_empty(), "{:?}", folder.entries());
    });
}
