//! By name: a file that holds one lock and nothing else.

use super::common::kernel::{become_nobody, can_change_user};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{Form, form, holder, recover, stay, transferable, use_once};
use shmkit::error::Result;
use shmkit::lock::{Create, FileOptions, Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::segment::{self, Segment};
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

fn within(folder: &Folder) -> Options {
    by(place(folder))
}

fn told<T>(result: Result<T>) -> Result<()> {
    result.map(drop)
}

#[test]
fn made_found_and_removed() {
    let folder = Folder::new();
    let options = within(&folder);
    let named = |create| Lock::named(c"a", create, &options);
    refused!(NotFound, told(named(Create::Never)));
    assert!(folder.entries().is_empty());
    let made = named(Create::IfMissing).unwrap();
    refused!(Exists, told(named(Create::Always)));
    let found = [Create::Never, Create::IfMissing].map(|create| named(create).unwrap());
    made.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    refused!(WouldBlock, found[0].acquire_with(WaitOptions::NONBLOCKING));
    found[1].release().unwrap();
    assert_eq!(folder.entries(), ["a"]);
    found[0].unlink().unwrap();
    assert!(folder.entries().is_empty());
    refused!(NotFound, made.unlink());
    // Who has it open keeps it; the name is free for another.
    use_once(&made);
    let other = named(Create::Always).unwrap();
    made.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    use_once(&other);
    refused!(NotFound, found[0].unlink());
    other.unlink().unwrap();
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
        let lock = Lock::named(c"a", Create::Always, &options).unwrap();
        let found = Lock::named(c"a", Create::Never, &options).unwrap();
        for lock in [&lock, &found] {
            let stat = lock.segment().stat().unwrap();
            assert_eq!(
                (stat.file.mode, stat.header.unwrap().participants),
                expected
            );
            assert_eq!((stat.size, lock.offset()), (Lock::SIZE, 0));
        }
        lock.unlink().unwrap();
    }
    for participants in [4097, u32::MAX] {
        let options = by(FileOptions {
            participants,
            ..place(&folder)
        });
        refused!(Invalid, told(Lock::named(c"a", Create::Always, &options)));
    }
    assert!(folder.entries().is_empty());
}

#[test]
fn each_file_holds_what_it_holds() {
    let folder = Folder::new();
    let options = within(&folder);
    let segments = |form_| segment::Options {
        directory: folder.directory(),
        ..form(form_)
    };
    Lock::named(c"lock", Create::Always, &options).unwrap();
    RLock::named(c"rlock", Create::Always, &options.file).unwrap();
    Segment::create(Some(c"full"), 4096, &segments(Form::Full)).unwrap();
    Segment::create(Some(c"plain"), 4096, &segments(Form::Plain)).unwrap();
    std::fs::write(folder.path().join("garbage"), [0x2a; 500]).unwrap();
    for name in [c"lock", c"rlock", c"full", c"plain", c"garbage"] {
        for create in [Create::Never, Create::IfMissing] {
            let lock = told(Lock::named(name, create, &options));
            let rlock = told(RLock::named(name, create, &options.file));
            match name.to_str().unwrap() {
                "lock" => assert_eq!(lock, Ok(())),
                _ => drop(refused!(WrongKind, lock)),
            }
            match name.to_str().unwrap() {
                "rlock" => assert_eq!(rlock, Ok(())),
                _ => drop(refused!(WrongKind, rlock)),
            }
        }
        refused!(Exists, told(Lock::named(name, Create::Always, &options)));
    }
    for name in [c"lock", c"rlock"] {
        for form in [Form::Either, Form::Full] {
            let cause = refused!(WrongKind, Segment::open(name, 0, &segments(form)));
            assert!(cause.text.contains("Lock"), "{cause}");
            refused!(
                WrongKind,
                Segment::open_or_create(Some(name), 1, &segments(form))
            );
        }
        // The bare bytes are anybody's.
        Segment::open(name, 0, &segments(Form::Plain)).unwrap();
    }
    assert_eq!(folder.entries().len(), 5);
}

#[test]
fn made_with_other_options() {
    let name = Name::new();
    let made = Lock::named(&name, Create::Always, &transferable()).unwrap();
    let default = Options::default();
    refused!(
        Invalid,
        told(Lock::named(&name, Create::IfMissing, &default))
    );
    assert!(
        Lock::named(&name, Create::Never, &default)
            .unwrap()
            .is_transferable()
    );
    Lock::named(&name, Create::IfMissing, &transferable()).unwrap();
    made.unlink().unwrap();
}

#[test]
fn the_dead_are_taken_over_by_who_opens_it_afterwards() {
    alone(|| {
        let name = Name::new();
        let words = shared_words(1);
        let owner = fork(|| {
            let own = Lock::named(&name, Create::Always, &Options::default()).unwrap();
            own.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        owner.kill();
        let found = Lock::named(&name, Create::IfMissing, &Options::default()).unwrap();
        recover(&found);
        use_once(&found);
    });
}

#[test]
fn room_for_one() {
    alone(|| {
        let name = Name::new();
        let options = by(FileOptions {
            participants: 1,
            ..FileOptions::default()
        });
        let lock = Lock::named(&name, Create::Always, &options).unwrap();
        let child = holder(&lock);
        refused!(Participants, lock.acquire_with(WaitOptions::BLOCKING));
        refused!(NotOwner, lock.release());
        // Gets in once the first has died.
        child.kill();
        recover(&lock);
        fork(|| {
            drop(refused!(
                Participants,
                lock.acquire_with(WaitOptions::BLOCKING)
            ))
        })
        .succeed();
        // And once it has let go, which it does with its last handle.
        let again = Lock::named(&name, Create::Never, &options).unwrap();
        drop(lock);
        fork(|| {
            drop(refused!(
                Participants,
                again.acquire_with(WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        let words = shared_words(1);
        let waiter = fork(|| {
            wait_until(|| words[0].load(Relaxed) == 1);
            let lock = Lock::named(&name, Create::Never, &Options::default()).unwrap();
            use_once(&lock);
        });
        drop(again);
        words[0].store(1, Relaxed);
        waiter.succeed();
    });
}

#[test]
fn anothers_is_opened_by_who_trusts_him() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for (mode, trust) in [(0o666, false), (0o666, true), (0o600, true)] {
            let options = by(FileOptions {
                mode: Some(mode),
                trust,
                ..place(&folder)
            });
            let lock = Lock::named(c"a", Create::Always, &options).unwrap();
            fork(|| {
                become_nobody();
                let opened = Lock::named(c"a", Create::Never, &options);
                match (mode, trust) {
                    (0o600, _) => drop(refused!(Permission, told(opened))),
                    (_, false) => drop(refused!(Untrusted, told(opened))),
                    (_, true) => use_once(&opened.unwrap()),
                }
            })
            .succeed();
            lock.unlink().unwrap();
        }
    });
}
