//! At an offset of a managed segment.

use super::common::Watchdog;
use super::common::process::{fork, shared_words, wait_until};
use super::noun::{EACH, Noun};
use super::{Form, fill, form, managed};
use shmkit::lock::{Create, Lock};
use shmkit::raw::WaitOptions;
use shmkit::segment::{Growth, Segment};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

each_noun!(
    at_opens_what_at_created,
    at_fails_at_impossible_offsets,
    at_succeeds_once_the_segment_has_grown,
    at_fails_with_invalid_options,
    at_fails_with_other_options_than_those_of_its_creator,
    at_fails_in_segments_that_are_plain_or_read_only,
    at_fails_where_something_else_is_stored,
    at_creates_a_new_object_where_bytes_were_left,
    at_creates_a_new_object_where_an_old_one_was_cleared,
    at_creates_one_object_if_threads_race,
    an_object_keeps_its_segment_mapped;
    alone: at_waits_a_second_for_a_live_creator, at_replaces_an_object_whose_creator_died
);

/// In a tag: the object is being initialized.
const MAKING: u64 = 1 << 29;

fn set_tag(segment: &Segment, offset: u64, tag: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(tag.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

fn tag(segment: &Segment, offset: u64) -> u64 {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    u64::from_ne_bytes(std::array::from_fn(|at| bytes[at].load(Relaxed)))
}

fn at_opens_what_at_created<N: Noun>() {
    let segment = managed(1 << 16);
    let usual = &N::usual();
    refused!(NotFound, N::at(&segment, 64, Create::Never, usual));
    let created = N::at(&segment, 64, Create::Always, usual).unwrap();
    refused!(Exists, N::at(&segment, 64, Create::Always, usual));
    let opened = N::at(&segment, 64, Create::Never, usual).unwrap();
    let same = N::at(&segment, 64, Create::IfMissing, usual).unwrap();
    assert_eq!(created.uses(), 0);
    opened.use_once();
    for object in [&created, &opened, &same] {
        assert_eq!((object.uses(), object.offset()), (1, 64));
        refused!(Invalid, object.unlink());
        refused!(Invalid, object.export());
    }
    // The next object may follow at once.
    let end = 64 + N::size(usual).next_multiple_of(64);
    let next = N::at(&segment, end, Create::IfMissing, usual).unwrap();
    next.use_once();
    same.use_once();
    assert_eq!((next.uses(), created.uses()), (1, 2));
}

fn at_fails_at_impossible_offsets<N: Noun>() {
    let usual = &N::usual();
    let size = N::size(usual);
    // The segment is exactly as large as the object, or slightly larger.
    for length in [size, size + 63] {
        let segment = managed(length);
        let end = length.next_multiple_of(64);
        let outside = [end, end + 64, 1 << 63, u64::MAX - 63];
        for offset in [1, 8, 32, 63, 65, u64::MAX].into_iter().chain(outside) {
            for create in EACH {
                refused!(Invalid, N::at(&segment, offset, create, usual));
            }
        }
        // An object that does not fit is not created.
        for create in [Create::Always, Create::IfMissing] {
            if length > 64 {
                refused!(Invalid, N::at(&segment, 64, create, usual));
                assert_eq!(tag(&segment, 64), 0);
            }
        }
        N::at(&segment, 0, Create::Always, usual)
            .unwrap()
            .use_once();
    }
}

fn at_succeeds_once_the_segment_has_grown<N: Noun>() {
    let usual = &N::usual();
    let end = 64 + N::size(usual);
    let options = shmkit::segment::Options {
        capacity: 1 << 20,
        ..form(Form::Managed)
    };
    let segment = Arc::new(Segment::create(None, end - 1, &options).unwrap());
    refused!(Invalid, N::at(&segment, 64, Create::IfMissing, usual));
    segment.resize(end, &Growth::default()).unwrap();
    N::at(&segment, 64, Create::IfMissing, usual)
        .unwrap()
        .use_once();
}

fn at_fails_with_invalid_options<N: Noun>() {
    let segment = managed(1 << 20);
    for options in N::invalid() {
        for create in [Create::Always, Create::IfMissing] {
            refused!(Invalid, N::at(&segment, 0, create, &options));
        }
        refused!(Invalid, N::unnamed(&options));
        refused!(Invalid, N::named(c"never", Create::Always, &options));
        refused!(Invalid, N::named(c"never", Create::IfMissing, &options));
    }
    assert_eq!(tag(&segment, 0), 0);
}

fn at_fails_with_other_options_than_those_of_its_creator<N: Noun>() {
    const ROOM: u64 = 8192;
    let segment = managed(ROOM * 6);
    let all = N::variants(&Default::default());
    for (number, options) in all.iter().enumerate() {
        let offset = ROOM * number as u64;
        let created = N::at(&segment, offset, Create::IfMissing, options).unwrap();
        for (other, options) in all.iter().enumerate() {
            let opened = N::at(&segment, offset, Create::IfMissing, options);
            match other == number {
                true => drop(opened.unwrap()),
                false => drop(refused!(Invalid, opened)),
            }
            // An opener takes the object as it is.
            let opened = N::at(&segment, offset, Create::Never, options).unwrap();
            assert_eq!(opened.made(), created.made());
        }
    }
}

fn at_fails_in_segments_that_are_plain_or_read_only<N: Noun>() {
    let usual = &N::usual();
    let segment = managed(1 << 16);
    N::at(&segment, 0, Create::Always, usual).unwrap();
    let reading = shmkit::segment::Options {
        readonly: true,
        ..form(Form::Either)
    };
    let reader = Arc::new(Segment::open_fd(segment.fd(), 0, &reading).unwrap());
    let bare = Arc::new(Segment::open_fd(segment.fd(), 0, &form(Form::Plain)).unwrap());
    let plain = Arc::new(Segment::create(None, 1 << 16, &form(Form::Plain)).unwrap());
    set_tag(&plain, 64, N::KIND as u64);
    for (offset, create) in [0, 64].into_iter().flat_map(|o| EACH.map(|c| (o, c))) {
        refused!(Permission, N::at(&reader, offset, create, usual));
        for segment in [&plain, &bare] {
            let cause = refused!(WrongKind, N::at(segment, offset, create, usual));
            assert!(cause.text.contains("plain"), "{cause}");
        }
    }
}

fn at_fails_where_something_else_is_stored<N: Noun>() {
    let usual = &N::usual();
    let segment = managed(1 << 16);
    let kinds = (1..=16u64).chain([31, 1 << 16, 1 << 28, (1 << 28) + 2, u64::MAX]);
    // Bytes of the user, some of which resemble an object that is being created.
    let bytes = (1..=255u8).map(|byte| u64::from_ne_bytes([byte; 8]));
    let making = [MAKING, MAKING | 1 << 13, MAKING | 5 << 40 | 1];
    for word in kinds.chain(bytes).chain(making) {
        set_tag(&segment, 128, word);
        if word as u32 != N::KIND as u32 {
            for create in [Create::Never, Create::IfMissing] {
                refused!(WrongKind, N::at(&segment, 128, create, usual));
            }
        }
        refused!(Exists, N::at(&segment, 128, Create::Always, usual));
        assert_eq!(tag(&segment, 128), word, "it is left as it is");
    }
}

fn at_creates_a_new_object_where_bytes_were_left<N: Noun>() {
    let segment = managed(1 << 16);
    for options in N::variants(&Default::default()) {
        fill(&segment, 0..1 << 16, 0xff);
        set_tag(&segment, 0, 0);
        let object = N::at(&segment, 0, Create::Always, &options).unwrap();
        let new = N::at(&managed(1 << 16), 0, Create::Always, &options).unwrap();
        assert_eq!((object.state(), object.made()), (new.state(), new.made()));
        let end = N::size(&options) as usize;
        let behind = &segment.bytes().unwrap()[end.next_multiple_of(64)..];
        assert!(behind.iter().all(|byte| byte.load(Relaxed) == 0xff));
    }
}

fn at_creates_a_new_object_where_an_old_one_was_cleared<N: Noun>() {
    let segment = managed(1 << 16);
    let usual = &N::usual();
    let old = N::at(&segment, 0, Create::Always, usual).unwrap();
    old.use_once();
    drop(old);
    fill(&segment, 0..N::size(usual), 0);
    refused!(NotFound, N::at(&segment, 0, Create::Never, usual));
    Lock::at(&segment, 0, Create::Always, &Default::default()).unwrap();
    fill(&segment, 0..64, 0);
    let new = N::at(&segment, 0, Create::IfMissing, usual).unwrap();
    assert_eq!(new.uses(), 0);
    new.use_once();
}

fn at_creates_one_object_if_threads_race<N: Noun>() {
    const THREADS: usize = 4;
    const OBJECTS: u64 = 200;
    let _watchdog = Watchdog::start();
    let usual = &N::usual();
    let size = N::size(usual).next_multiple_of(64);
    let segment = &managed(size * OBJECTS);
    let (barrier, created) = (&std::sync::Barrier::new(THREADS), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for number in 0..OBJECTS {
                    if number % 25 == 0 {
                        barrier.wait();
                    }
                    let offset = size * number;
                    match N::at(segment, offset, Create::Always, usual) {
                        Ok(_) => drop(created.fetch_add(1, Relaxed)),
                        error => drop(refused!(Exists, error)),
                    }
                    let create = [Create::Never, Create::IfMissing][thread % 2];
                    N::at(segment, offset, create, usual).unwrap();
                }
            });
        }
    });
    assert_eq!(created.load(Relaxed), OBJECTS);
}

fn an_object_keeps_its_segment_mapped<N: Noun>() {
    let segment = managed(1 << 16);
    let object = N::at(&segment, 0, Create::Always, &N::usual()).unwrap();
    let data = segment.data();
    drop(segment);
    object.use_once();
    assert_eq!(object.segment().data(), data);
    assert_eq!(object.segment().size(), Ok(1 << 16));
}

/// Forks a process that stalls while it creates an object.
fn creator(segment: &Arc<Segment>, offset: u64) -> super::common::process::Child {
    let words = shared_words(1);
    let creator = fork(|| {
        let lock = Lock::of(segment).unwrap();
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        set_tag(
            segment,
            offset,
            lock.stat().0.owner.unwrap().bits() | MAKING,
        );
        lock.release().unwrap();
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    creator
}

fn at_waits_a_second_for_a_live_creator<N: Noun>() {
    let usual = &N::usual();
    let segment = &managed(1 << 16);
    let creator = creator(segment, 0);
    std::thread::scope(|scope| {
        for create in EACH {
            scope.spawn(move || {
                let begin = Instant::now();
                refused!(Timeout, N::at(segment, 0, create, usual));
                assert!(begin.elapsed() >= Duration::from_secs(1));
            });
        }
    });
    // A waiter opens the object once its creator has finished it.
    let other = N::at(segment, 1 << 15, Create::Always, usual).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| N::at(segment, 0, Create::Never, usual));
        let size = N::size(usual) as usize;
        let bytes = segment.bytes().unwrap();
        for at in 8..size {
            bytes[at].store(bytes[(1 << 15) + at].load(Relaxed), Relaxed);
        }
        set_tag(segment, 0, tag(segment, 1 << 15));
        waiter.join().unwrap().unwrap().use_once();
    });
    assert_eq!(other.uses(), 0);
    creator.kill();
}

fn at_replaces_an_object_whose_creator_died<N: Noun>() {
    let usual = &N::usual();
    let segment = managed(1 << 16);
    for (offset, create) in [(0, Create::Always), (1 << 15, Create::IfMissing)] {
        creator(&segment, offset).kill();
        refused!(NotFound, N::at(&segment, offset, Create::Never, usual));
        N::at(&segment, offset, create, usual).unwrap().use_once();
    }
}
