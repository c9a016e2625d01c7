//! Where a semaphore is stored, and how it was created: at an offset, by name, by a descriptor.

use super::common::Name;
use super::common::pass::{receive, send};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{
    MAX_VALUE, all_are_there, debug_of, holder, managed, options, plain, stay, undo, with_undo,
};
use shmkit::error::Result;
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use shmkit::semaphore::{Create, Options, Semaphore};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn at(segment: &Arc<Segment>, offset: u64, create: Create, options: &Options) -> Result<Semaphore> {
    Semaphore::at(segment, offset, create, options)
}

#[test]
fn an_existing_semaphore_with_other_options_is_refused() {
    let segment = managed(65536);
    let all = [
        options(2),
        Options {
            maximum: 7,
            ..options(2)
        },
        with_undo(2),
        with_undo(3),
        Options {
            processes: 3,
            ..with_undo(2)
        },
    ];
    for (place, made) in all.iter().enumerate() {
        let place = place as u64 * 8448;
        drop(at(&segment, place, Create::IfMissing, made).unwrap());
        for (other, options) in all.iter().enumerate() {
            let found = debug_of(at(&segment, place, Create::IfMissing, options));
            match other as u64 * 8448 == place {
                true => assert_eq!(found, Ok(())),
                false => drop(refused!(Invalid, found)),
            }
        }
    }
    // The value is that of its creator.
    let first = at(&segment, 0, Create::IfMissing, &options(9)).unwrap();
    assert_eq!(first.value(), Ok(2));
    assert_eq!(first.stat().unwrap().maximum, MAX_VALUE);
}

#[test]
fn a_named_semaphore_is_shared_and_checked() {
    alone(|| {
        let name = Name::new();
        let three = Options {
            maximum: 5,
            ..options(3)
        };
        refused!(NotFound, Semaphore::named(&name, Create::Never, &three));
        let made = Semaphore::named(&name, Create::IfMissing, &three).unwrap();
        refused!(Exists, Semaphore::named(&name, Create::Always, &three));
        refused!(
            Invalid,
            Semaphore::named(&name, Create::IfMissing, &options(3))
        );
        fork(|| {
            let found = Semaphore::named(&name, Create::Never, &Options::default()).unwrap();
            found.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
        })
        .succeed();
        assert_eq!(made.value(), Ok(1));
        refused!(
            WrongKind,
            Lock::named(&name, Create::Never, &Default::default())
        );
        made.unlink().unwrap();
        refused!(NotFound, Semaphore::named(&name, Create::Never, &three));
        // With undo, between processes that share nothing else.
        let made = Semaphore::named(&name, Create::Always, &with_undo(2)).unwrap();
        fork(|| {
            let found = Semaphore::named(&name, Create::Never, &Options::default()).unwrap();
            found.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
        })
        .succeed();
        all_are_there(&made, 2);
        made.unlink().unwrap();
    });
}

#[test]
fn a_semaphore_passed_over_a_socket_works() {
    alone(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let words = shared_words(2);
        let child = fork(|| {
            let file = receive(&theirs);
            wait_until(|| words[0].load(Relaxed) == 1);
            let offset = words[1].load(Relaxed);
            let found = Semaphore::open_fd(file.as_raw_fd(), offset, &Options::default()).unwrap();
            drop(file);
            assert!(found.has_undo());
            assert_eq!(found.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
            words[0].store(2, Relaxed);
            stay();
        });
        let two = undo(2);
        two.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
        let (fd, offset) = two.export().unwrap();
        send(&ours, fd);
        words[1].store(offset, Relaxed);
        words[0].store(1, Relaxed);
        wait_until(|| words[0].load(Relaxed) == 2);
        refused!(WouldBlock, two.acquire_with(1, WaitOptions::NONBLOCKING));
        child.kill();
        two.release(1).unwrap();
        all_are_there(&two, 2);
    });
}

#[test]
fn a_plain_semaphore_needs_no_participant_slot() {
    alone(|| {
        let segment = {
            let options = shmkit::segment::Options {
                form: shmkit::segment::Form::Managed,
                participants: 1,
                ..shmkit::segment::Options::default()
            };
            Arc::new(Segment::create(None, 16384, &options).unwrap())
        };
        // Creating it takes the only slot, so a process that ends creates it.
        fork(|| drop(at(&segment, 0, Create::Always, &options(3)).unwrap())).succeed();
        let plain = at(&segment, 0, Create::Never, &Options::default()).unwrap();
        let taken = holder(&plain, 1);
        let other = holder(&plain, 1);
        assert_eq!(plain.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
        plain.release(1).unwrap();
        fork(|| drop(at(&segment, 128, Create::Always, &with_undo(1)).unwrap())).succeed();
        // With undo each user has a slot.
        let recorded = at(&segment, 128, Create::Never, &Options::default()).unwrap();
        assert_eq!(recorded.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
        fork(|| {
            drop(refused!(
                TooManyProcesses,
                recorded.acquire_with(1, WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        taken.kill();
        other.kill();
    });
}

#[test]
fn freed_slots_of_an_arena_are_used_again() {
    let first = plain(1);
    let place = first.offset();
    drop(first);
    let (second, third) = (undo(1), plain(4));
    // A slot is used again for the same size. Each new semaphore is initialised.
    assert_eq!((third.value(), second.value()), (Ok(4), Ok(1)));
    assert_eq!(third.offset(), place);
    assert_ne!(second.offset(), place);
}
