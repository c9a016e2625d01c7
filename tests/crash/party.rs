//! A process that takes the lock under test, counts under it, and gives it back.
//!
//! ```text
//! data:  | first | second | …     64: the lock
//! ```
//!
//! Both counters are raised under the lock, with a call of the library between them: who dies in it leaves them unlike.

use crate::board::{Mark, Said, Who, board};
use crate::library::{Library, Options, Segment, Status};
use crate::locks::{FOREVER, Kind, Lock};
use crate::verify::{NAME, PAGE};
use shmkit::capi::segment::SHMKIT_SEGMENT_MANAGED;
use shmkit::raw::WaitOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the lock stands.
pub const PLACE: u64 = 64;

/// How the segment is made and opened.
pub fn managed(participants: u32) -> Options {
    Options {
        flags: SHMKIT_SEGMENT_MANAGED,
        participants,
        ..Options::default()
    }
}

/// Makes the segment for so many participants, with a lock where a kind is given, and lets go of it.
pub fn make(shmkit: &Library, participants: u32, kind: Option<Kind>) {
    let made = shmkit.create(Some(NAME), PAGE, managed(participants));
    let made = made.expect("a segment can be made");
    if let Some(kind) = kind {
        let lock = shmkit.create_lock_at(kind, made, PLACE);
        let lock = lock.expect("a lock can be made");
        assert_eq!(shmkit.close_lock(lock), 0);
    }
    assert_eq!(shmkit.close(made), 0);
}

/// Opens the segment.
pub fn open(shmkit: &Library) -> Segment {
    let opened = shmkit.open(NAME, PAGE, managed(0));
    opened.expect("the segment can be opened")
}

/// Becomes a participant without touching the lock under test.
pub fn introduce(shmkit: &Library, segment: Segment) {
    let lock = shmkit.built_in_lock(segment).expect("every one has it");
    assert_eq!(shmkit.acquire(lock, FOREVER), Ok(false));
    assert_eq!(shmkit.release(lock), 0);
    assert_eq!(shmkit.close_lock(lock), 0);
}

/// One process and what it has open.
pub struct Party<'a> {
    shmkit: &'a Library,
    who: Who,
    kind: Kind,
    /// The segment.
    pub segment: Segment,
    /// The lock under test.
    pub lock: Lock,
    counters: [&'a AtomicU64; 2],
}

impl<'a> Party<'a> {
    /// Takes what is open already.
    pub fn of(shmkit: &'a Library, who: Who, kind: Kind, segment: Segment, lock: Lock) -> Self {
        let base = shmkit.data(segment).expect("it has an address");
        let words = base.cast::<AtomicU64>();
        let counters = [0, 1].map(|number| {
            // SAFETY: the data has a page, and more than two words.
            let word = unsafe { words.add(number) };
            // SAFETY: it is aligned, mapped until the handle is closed, after which nobody counts, and all processes
            // use it as an atomic.
            unsafe { &*word }
        });
        Party {
            shmkit,
            who,
            kind,
            segment,
            lock,
            counters,
        }
    }

    /// Opens segment and lock.
    pub fn open(shmkit: &'a Library, who: Who, kind: Kind) -> Self {
        let segment = open(shmkit);
        let lock = shmkit.open_lock_at(kind, segment, PLACE);
        Party::of(shmkit, who, kind, segment, lock.expect("it was made"))
    }

    /// As `open`, by one who is a participant already.
    pub fn known(shmkit: &'a Library, who: Who, kind: Kind) -> Self {
        let party = Party::open(shmkit, who, kind);
        introduce(shmkit, party.segment);
        party
    }

    /// Takes the lock, a recursive one twice; returns what it was told.
    pub fn take(&self) -> Result<bool, Status> {
        board().say(self.who, Said::Asks);
        let told = self.shmkit.acquire(self.lock, FOREVER)?;
        board().say(self.who, Said::Holds);
        board().enter(self.who, told);
        board().judge(self.who, told);
        if self.kind == Kind::RLock {
            self.shmkit.acquire(self.lock, FOREVER)?;
        }
        Ok(told)
    }

    /// Counts the first half, as one does who dies before the second.
    pub fn count_half(&self) {
        self.counters[0].fetch_add(1, Relaxed);
    }

    /// Makes whole what was left half done, and counts.
    pub fn count(&self, told: bool) -> Result<(), Status> {
        let [first, second] = self.counters;
        let whole = first.load(Relaxed) == second.load(Relaxed);
        board().see(whole, told);
        second.store(first.load(Relaxed), Relaxed);
        self.count_half();
        self.shmkit.lock_stat(self.lock)?;
        second.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Says that all is whole.
    pub fn mark_consistent(&self) -> Result<(), Status> {
        if self.who == Who::Victim {
            board().set_mark(Mark::Going);
        }
        match self.shmkit.mark_consistent(self.lock) {
            0 => {}
            status => return Err(status),
        }
        if self.who == Who::Victim {
            board().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Gives the lock back, as often as it was taken.
    pub fn give(&self) -> Result<(), Status> {
        let times = 1 + usize::from(self.kind == Kind::RLock);
        for left in (0..times).rev() {
            if left == 0 {
                board().leave();
                board().say(self.who, Said::Gives);
            }
            match self.shmkit.release(self.lock) {
                0 => {}
                status => return Err(status),
            }
        }
        board().say(self.who, Said::Idle);
        Ok(())
    }

    /// Does all of it once.
    pub fn pass(&self) -> Result<bool, Status> {
        let told = self.take()?;
        self.count(told)?;
        if told {
            self.mark_consistent()?;
        }
        self.give()?;
        if self.who == Who::Bystander {
            board().pass();
        }
        Ok(told)
    }
}

/// Returns the bits of a participant of this segment, who ends with this process, or before.
pub fn id_of_somebody(segment: &Arc<shmkit::segment::Segment>) -> u64 {
    use shmkit::lock::Lock;
    let lock = Lock::of(segment).expect("every one has it");
    assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
    let id = lock.stat().0.owner.expect("we hold it").bits();
    lock.release().expect("we hold it");
    id
}

/// Returns the status that stands for a result.
pub fn status<T>(result: Result<T, Status>) -> Status {
    result.err().unwrap_or(0)
}
