//! By name: a file that holds one queue and nothing else.

use super::common::kernel::{become_nobody, can_change_user};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{LONG, NOW, drain, told};
use shmkit::lock::Lock;
use shmkit::queue::{Create, FileOptions, Options, Overflow, Queue};
use shmkit::segment::{self, Form, Segment};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::Relaxed;

fn place(folder: &Folder) -> FileOptions {
    FileOptions {
        directory: folder.directory(),
        ..FileOptions::default()
    }
}

fn by(file: FileOptions) -> Options {
    Options {
        file,
        ..Options::default()
    }
}

#[test]
fn made_found_and_removed() {
    let folder = Folder::new();
    let options = by(place(&folder));
    let named = |create| Queue::named(c"a", create, &options);
    refused!(NotFound, told(named(Create::Never)));
    assert!(folder.entries().is_empty());
    let made = named(Create::IfMissing).unwrap();
    refused!(Exists, told(named(Create::Always)));
    let found = [Create::Never, Create::IfMissing].map(|create| named(create).unwrap());
    made.put_with(b"one", NOW).unwrap();
    found[0].put_with(b"two", NOW).unwrap();
    assert_eq!(drain(&found[1]), [b"one", b"two"]);
    assert_eq!(folder.entries(), ["a"]);
    found[0].unlink().unwrap();
    assert!(folder.entries().is_empty());
    refused!(NotFound, made.unlink());
    // Who has it open keeps it; the name is free for another.
    made.put_with(b"old", NOW).unwrap();
    let other = named(Create::Always).unwrap();
    assert_eq!(drain(&other), [b""; 0]);
    assert_eq!(drain(&found[1]), [b"old"]);
    refused!(NotFound, found[0].unlink());
    other.unlink().unwrap();
}

#[test]
fn what_is_in_it_outlives_its_processes() {
    alone(|| {
        let name = Name::new();
        let large = vec![7; 3 << 20];
        let put = |message: &[u8]| {
            let queue = Queue::named(&name, Create::IfMissing, &Options::default()).unwrap();
            queue.put_with(message, NOW).unwrap();
        };
        fork(|| put(b"small")).succeed();
        fork(|| put(&large)).succeed();
        let queue = Queue::named(&name, Create::Never, &Options::default()).unwrap();
        assert_eq!(drain(&queue), [&b"small"[..], &large]);
        queue.unlink().unwrap();
    });
}

#[test]
fn found_with_other_options() {
    let folder = Folder::new();
    let options = Options {
        capacity: 1 << 20,
        messages: 3,
        overflow: Overflow::Fail,
        ..by(place(&folder))
    };
    let made = Queue::named(c"a", Create::Always, &options).unwrap();
    for other in [
        by(place(&folder)),
        Options {
            capacity: 2 << 20,
            ..options.clone()
        },
        Options {
            messages: 4,
            ..options.clone()
        },
        Options {
            bytes: 4,
            ..options.clone()
        },
        Options {
            overflow: Overflow::Overwrite,
            ..options.clone()
        },
    ] {
        refused!(Invalid, told(Queue::named(c"a", Create::IfMissing, &other)));
        // Who only opens it takes it as it is.
        let found = Queue::named(c"a", Create::Never, &other).unwrap();
        assert_eq!(
            (found.bounds(), found.overflow()),
            ((1 << 20, 3, 0), Overflow::Fail)
        );
    }
    drop(Queue::named(c"a", Create::IfMissing, &options).unwrap());
    made.unlink().unwrap();
}

#[test]
fn the_file_has_the_mode_and_the_places_asked_for() {
    let folder = Folder::new();
    for (mode, participants, expected) in [(None, 0, (0o600, 128)), (Some(0o640), 7, (0o640, 7))] {
        let options = by(FileOptions {
            mode,
            participants,
            ..place(&folder)
        });
        let queue = Queue::named(c"a", Create::Always, &options).unwrap();
        let stat = queue.segment().stat().unwrap();
        assert_eq!(
            (stat.file.mode, stat.header.unwrap().participants),
            expected
        );
        assert_eq!(queue.offset(), 0);
        queue.unlink().unwrap();
    }
}

#[test]
fn each_file_holds_what_it_holds() {
    let folder = Folder::new();
    let options = by(place(&folder));
    let segments = |form| segment::Options {
        directory: folder.directory(),
        form,
        ..segment::Options::default()
    };
    let locks = shmkit::lock::Options {
        file: place(&folder),
        ..Default::default()
    };
    Lock::named(c"lock", Create::Always, &locks).unwrap();
    Segment::create(Some(c"full"), 1 << 20, &segments(Form::Full)).unwrap();
    Segment::create(Some(c"plain"), 1 << 20, &segments(Form::Plain)).unwrap();
    std::fs::write(folder.path().join("garbage"), [0x2a; 5000]).unwrap();
    for name in [c"lock", c"full", c"plain", c"garbage"] {
        for create in [Create::Never, Create::IfMissing] {
            refused!(WrongKind, told(Queue::named(name, create, &options)));
        }
        refused!(Exists, told(Queue::named(name, Create::Always, &options)));
    }
    drop(Queue::named(c"queue", Create::Always, &options).unwrap());
    refused!(
        WrongKind,
        told(Lock::named(c"queue", Create::Never, &locks))
    );
    refused!(
        WrongKind,
        Segment::open(c"queue", 0, &segments(Form::Full)).map(drop)
    );
    assert_eq!(folder.entries().len(), 5);
}

#[test]
fn of_several_that_race_one_makes_it() {
    alone(|| {
        let folder = Folder::new();
        let options = by(place(&folder));
        let words = shared_words(1);
        for round in 0..20u64 {
            let children: Vec<_> = (0..4u8)
                .map(|number| {
                    let options = &options;
                    fork(move || {
                        wait_until(|| words[0].load(Relaxed) > round);
                        let queue = Queue::named(c"race", Create::IfMissing, options).unwrap();
                        queue.put_with(&[number], NOW).unwrap();
                    })
                })
                .collect();
            words[0].store(round + 1, Relaxed);
            let queue = Queue::named(c"race", Create::IfMissing, &options).unwrap();
            let mut had = [0; 4].map(|_: u8| queue.get_with(LONG).unwrap()[0]);
            had.sort_unstable();
            assert_eq!(had, [0, 1, 2, 3]);
            for child in children {
                child.succeed();
            }
            queue.unlink().unwrap();
        }
        assert!(folder.entries().is_empty());
    });
}

#[test]
fn anothers_is_opened_by_who_trusts_him() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let options = by(FileOptions {
            mode: Some(0o666),
            ..place(&folder)
        });
        let queue = Queue::named(c"a", Create::Always, &options).unwrap();
        queue.put_with(b"for nobody", NOW).unwrap();
        fork(|| {
            become_nobody();
            for create in [Create::Never, Create::IfMissing] {
                refused!(Untrusted, told(Queue::named(c"a", create, &options)));
            }
            let trusting = by(FileOptions {
                trust: true,
                ..place(&folder)
            });
            let queue = Queue::named(c"a", Create::Never, &trusting).unwrap();
            assert_eq!(drain(&queue), [b"for nobody"]);
            // It grows by the hand of whoever has something to put.
            queue.put_with(&[9; 1 << 20], NOW).unwrap();
        })
        .succeed();
        assert_eq!(drain(&queue), [[9; 1 << 20]]);
        // Without the permission nothing is to be had.
        let own = by(place(&folder));
        let queue = Queue::named(c"own", Create::Always, &own).unwrap();
        fork(|| {
            become_nobody();
            let trusting = by(FileOptions {
                trust: true,
                ..place(&folder)
            });
            refused!(
                Permission,
                told(Queue::named(c"own", Create::Never, &trusting))
            );
        })
        .succeed();
        drop(queue);
    });
}
