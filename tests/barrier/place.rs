//! Where a barrier stands: at an offset, in a file of its own, in an arena; how many parties it can have.

use super::common::pass::{receive, send};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{at, await_waiting, full, told, unnamed, use_once, wait, waiter};
use shmkit::barrier::{Barrier, Create, FileOptions, Last, MOST, Options};
use shmkit::error::Result;
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Segment};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;

fn open_fd(fd: i32, offset: u64) -> Result<Barrier> {
    Barrier::open_fd(fd, offset, &Options::default())
}

#[test]
fn parties_that_cannot_be() {
    let segment = full(4096);
    let name = Name::new();
    for parties in [0, MOST + 1, 1 << 15, (1 << 15) + 1, 1 << 16, u32::MAX] {
        let options = Options::of(parties);
        refused!(Invalid, options.size());
        refused!(Invalid, told(Barrier::unnamed(&options)));
        for create in [Create::Always, Create::IfMissing] {
            refused!(Invalid, told(Barrier::named(&name, create, &options)));
            refused!(Invalid, told(Barrier::at(&segment, 0, create, &options)));
        }
    }
    refused!(
        NotFound,
        told(Barrier::named(&name, Create::Never, &Options::default()))
    );
    refused!(
        NotFound,
        told(Barrier::at(&segment, 0, Create::Never, &Options::default()))
    );
}

#[test]
fn its_size_is_that_of_its_parties() {
    for (parties, size) in [(1, 192), (2, 192), (3, 256), (8, 384), (MOST, 128 + 65536)] {
        let options = Options::of(parties);
        assert_eq!(options.size(), Ok(size));
        let segment = full(size + 64);
        let barrier = Barrier::at(&segment, 64, Create::Always, &options).unwrap();
        assert_eq!((barrier.parties(), barrier.offset()), (parties, 64));
        let cause = refused!(
            Invalid,
            told(Barrier::at(&segment, 128, Create::Always, &options))
        );
        assert!(cause.text.contains("64"), "{cause}");
    }
}

#[test]
fn at_an_offset_it_is_made_and_found() {
    alone(|| {
        let segment = full(4096);
        let made = at(&segment, 256, 3);
        let found = Barrier::at(&segment, 256, Create::Never, &Options::default()).unwrap();
        assert_eq!(found.parties(), 3);
        use_once(&made);
        use_once(&found);
        refused!(
            Exists,
            told(Barrier::at(&segment, 256, Create::Always, &Options::of(3)))
        );
        for parties in [1, 2, 4] {
            let other = Barrier::at(&segment, 256, Create::IfMissing, &Options::of(parties));
            refused!(Invalid, told(other));
            // Who opens it takes it as it is.
            let found = Barrier::at(&segment, 256, Create::Never, &Options::of(parties)).unwrap();
            assert_eq!(found.parties(), 3);
        }
        for wrong in [257, 264, 4096, 1 << 63, u64::MAX - 63] {
            refused!(
                Invalid,
                told(Barrier::at(&segment, wrong, Create::Never, &Options::of(3)))
            );
        }
        refused!(
            WrongKind,
            told(Lock::at(&segment, 256, Create::Never, &Default::default()))
        );
        Lock::at(&segment, 64, Create::Always, &Default::default()).unwrap();
        refused!(
            WrongKind,
            told(Barrier::at(&segment, 64, Create::Never, &Options::of(3)))
        );
        let plain = Segment::create(None, 4096, &segment::Options::default()).unwrap();
        let plain = std::sync::Arc::new(plain);
        refused!(
            WrongKind,
            told(Barrier::at(&plain, 0, Create::IfMissing, &Options::of(3)))
        );
        refused!(Invalid, made.unlink());
        refused!(Invalid, made.export());
    });
}

#[test]
fn made_where_others_have_been_it_is_new() {
    alone(|| {
        let segment = full(4096);
        let barrier = at(&segment, 0, 2);
        waiter(&barrier, 0).kill();
        refused!(Broken, wait(&barrier));
        // Its tag alone goes.
        for byte in &segment.bytes().unwrap()[..8] {
            byte.store(0, Relaxed);
        }
        let barrier = Barrier::at(&segment, 0, Create::Always, &Options::of(2)).unwrap();
        let stat = barrier.stat();
        assert_eq!((stat.broken, stat.breaks, stat.turns), (false, 0, 0));
        use_once(&barrier);
    });
}

#[test]
fn by_name() {
    alone(|| {
        let folder = Folder::new();
        let options = |parties| Options {
            parties,
            file: FileOptions {
                directory: folder.directory(),
                participants: 9,
                mode: Some(0o640),
                ..FileOptions::default()
            },
        };
        let named = |create, parties| Barrier::named(c"a", create, &options(parties));
        let made = named(Create::IfMissing, 4).unwrap();
        refused!(Exists, told(named(Create::Always, 4)));
        refused!(Invalid, told(named(Create::IfMissing, 5)));
        let found = named(Create::Never, 0).unwrap();
        assert_eq!(found.parties(), 4);
        let stat = found.segment().stat().unwrap();
        assert_eq!(
            (stat.file.mode, stat.header.unwrap().participants),
            (0o640, 9)
        );
        assert_eq!(stat.size, 256);
        use_once(&found);
        let lock = Lock::named(
            c"a",
            shmkit::lock::Create::Never,
            &shmkit::lock::Options {
                file: options(0).file,
                ..Default::default()
            },
        );
        refused!(WrongKind, told(lock));
        found.unlink().unwrap();
        assert!(folder.entries().is_empty());
        refused!(NotFound, made.unlink());
        use_once(&made);
    });
}

#[test]
fn handed_over_within_one_process_and_to_another() {
    alone(|| {
        let barrier = unnamed(2);
        let (fd, offset) = barrier.export().unwrap();
        let same = open_fd(fd, offset).unwrap();
        assert_eq!(same.parties(), 2);
        refused!(
            WrongKind,
            told(Lock::open_fd(fd, offset, &Default::default()))
        );
        refused!(
            NotFound,
            told(open_fd(fd, same.segment().size().unwrap() - 192))
        );
        for wrong in [offset + 1, offset + 8, 1 << 63, u64::MAX - 63] {
            refused!(Invalid, told(open_fd(fd, wrong)));
        }
        refused!(Invalid, told(open_fd(-1, 0)));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let words = shared_words(1);
        let child = fork(|| {
            let file = receive(&theirs);
            let barrier = open_fd(file.as_raw_fd(), words[0].load(Relaxed)).unwrap();
            drop(file);
            assert_eq!(wait(&barrier), Ok(0));
        });
        // Made after the fork: the child has nothing of that arena but what it is given.
        let late = unnamed(2);
        let (fd, offset) = late.export().unwrap();
        words[0].store(offset, Relaxed);
        send(&ours, fd);
        await_waiting(&late, 1);
        assert_eq!(wait(&late), Ok(1));
        child.succeed();
    });
}

#[test]
fn hundreds_without_a_name_share_one_descriptor() {
    let all: Vec<_> = (1..=300).map(|parties| unnamed(1 + parties % 7)).collect();
    for barrier in &all {
        assert_eq!(barrier.segment().fd(), all[0].segment().fd());
        refused!(Invalid, barrier.unlink());
        let once = barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes);
        match barrier.parties() {
            1 => assert_eq!(once, Ok(0)),
            _ => drop(refused!(WouldBlock, once)),
        }
    }
}

#[test]
fn room_for_fewer_processes_than_parties() {
    alone(|| {
        let name = Name::new();
        let options = Options {
            parties: 3,
            file: FileOptions {
                participants: 2,
                ..FileOptions::default()
            },
        };
        let barrier = Barrier::named(&name, Create::Always, &options).unwrap();
        let others = [waiter(&barrier, 0), waiter(&barrier, 1)];
        refused!(Participants, wait(&barrier));
        assert_eq!(barrier.stat().waiting, 2);
        others.into_iter().for_each(|other| other.kill());
        // The dead make room, and then they are found.
        refused!(Broken, wait(&barrier));
        wait_until(|| barrier.stat().broken);
        barrier.unlink().unwrap();
    });
}
