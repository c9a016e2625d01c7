//! The operations of locks in a managed segment, and of the participants that own them: claim, acquire, take over,
//! release, mark consistent, close while holding, make at a place.

use crate::board::{Mark, Who, board};
use crate::byte;
use crate::library::{Library, Status};
use crate::locks::{FOREVER, Kind};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, Party, introduce, make, open, status};
use crate::place::Place;
use crate::process::run_and_die;
use crate::survivor::{Traces, byte_of};
use crate::verify::{NAME, path};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use shmkit::raw::WaitOptions;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Takes the lock as the first thing in the segment, after so many participants have died there.
    Claim(u32),
    /// As `Claim(0)`, from the opening of the segment on, in a process that has never used the library.
    First,
    /// As `TakeOver`, from the opening of the segment on, in a process that has never used the library.
    FirstTakeOver,
    /// Takes the lock, counts, gives it back.
    Pass,
    /// As `Pass`; the number by which the bystander knows the segment stands for another file by then.
    PassEstranged,
    /// As `Pass`, from an owner who has died half way.
    TakeOver,
    /// Gives it back.
    Release,
    /// Gives it back with the mark of an earlier death.
    ReleaseMarked,
    /// Says that what an earlier death has left is whole.
    Mark,
    /// Lets go of lock and segment while it holds the lock: that is dying.
    CloseHolding,
    /// Lets go of lock and segment.
    Close,
    /// Makes the lock where there are only zeros.
    CreateAt,
    /// Makes it where another one has died while making it.
    CreateAtDead,
    /// Makes it where it is already.
    CreateAtMade,
}

/// An operation of locks.
pub struct LockOperation {
    name: &'static str,
    verb: Verb,
    kind: Kind,
    every: usize,
    participants: u32,
}

/// In a tag: the object is being made (src/object/mod.rs).
const MAKING: u64 = 1 << 29;

/// Dies while it makes the lock: with its id in the tag, as between the two steps of making one.
fn die_making() {
    use shmkit::lock::Lock;
    use shmkit::segment::{Options, Segment};
    let segment = Segment::open(NAME, 0, &Options::default());
    let segment = Arc::new(segment.expect("the segment can be opened"));
    let lock = Lock::of(&segment).expect("every one has it");
    let told = lock.acquire_with(WaitOptions::BLOCKING);
    assert_eq!(told, Ok(false));
    let id = lock.stat().0.owner.expect("we hold it").bits();
    lock.release().expect("we hold it");
    let place = segment.data().wrapping_add(PLACE as usize);
    // SAFETY: the place lies in the data, is aligned, and all use it as an atomic.
    let tag = unsafe { &*place.cast::<AtomicU64>() };
    tag.store(id | MAKING, Ordering::SeqCst);
    std::mem::forget((lock, segment));
}

/// Has every number that stands for the segment here stand for a file without locks, as after closefrom(3).
fn estrange() {
    let other =
        memfd_create(c"another file", MFdFlags::empty()).expect("a memory file can be made");
    let numbers = std::fs::read_dir("/proc/self/fd").expect("there is /proc");
    let ours = |link: &PathBuf| std::fs::read_link(link).is_ok_and(|file| file == path());
    let links: Vec<_> = numbers.flatten().map(|entry| entry.path()).collect();
    let mut lost = 0;
    for link in links.iter().filter(|link| ours(link)) {
        let number = link
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // SAFETY: the number is open, and whoever owns it is on trial.
        let done = unsafe { libc::dup2(other.as_raw_fd(), number.expect("it is a number")) };
        assert!(done >= 0);
        lost += 1;
    }
    assert!(lost > 0, "the segment's descriptor was not found");
}

impl LockOperation {
    /// Takes the lock and dies half way.
    fn die_inside(&self, shmkit: &Library) {
        let owner = Party::open(shmkit, Who::Survivor, self.kind);
        assert_eq!(shmkit.acquire(owner.lock, FOREVER), Ok(false));
        owner.count_half();
    }

    fn close(&self, shmkit: &Library, party: &Party) -> Status {
        match shmkit.close_lock(party.lock) {
            0 => shmkit.close(party.segment),
            status => status,
        }
    }

    /// A victim that has the lock at its marker.
    fn holder<'a>(&self, shmkit: &'a Library) -> Party<'a> {
        let party = Party::known(shmkit, Who::Victim, self.kind);
        let told = party.take().expect("nobody else is there");
        party.count(told).expect("it is open");
        let known = shmkit.lock_stat(party.lock).expect("it is open");
        board().ticket.store(known.owner_ticket, Ordering::SeqCst);
        party
    }

    fn has_marked(&self) -> bool {
        matches!(
            self.verb,
            Verb::TakeOver | Verb::FirstTakeOver | Verb::ReleaseMarked | Verb::Mark
        )
    }

    fn makes_one(&self) -> bool {
        matches!(self.verb, Verb::CreateAt | Verb::CreateAtDead)
    }
}

impl Operation for LockOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn is_warm(&self) -> bool {
        !matches!(self.verb, Verb::First | Verb::FirstTakeOver)
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            let kind = Some(self.kind).filter(|_| !self.makes_one());
            make(shmkit, self.participants, kind);
            match self.verb {
                Verb::Claim(dead) => {
                    // Together they have the whole table, and each dies as somebody who holds nothing.
                    for _ in 0..dead {
                        run_and_die(|| introduce(shmkit, open(shmkit)));
                    }
                }
                Verb::CreateAtDead => run_and_die(die_making),
                _ if self.has_marked() => {
                    run_and_die(|| self.die_inside(shmkit));
                    board().set_mark(Mark::There);
                }
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let (kind, who) = (self.kind, Who::Victim);
        match self.verb {
            Verb::First | Verb::FirstTakeOver => {
                Box::new(move || status(Party::open(shmkit, who, kind).pass()))
            }
            Verb::Claim(_) => {
                let party = Party::open(shmkit, who, kind);
                Box::new(move || status(party.pass()))
            }
            Verb::Pass | Verb::PassEstranged | Verb::TakeOver => {
                let party = Party::known(shmkit, who, kind);
                Box::new(move || status(party.pass()))
            }
            Verb::Release | Verb::ReleaseMarked => {
                let party = self.holder(shmkit);
                Box::new(move || status(party.give()))
            }
            Verb::Mark => {
                let party = self.holder(shmkit);
                Box::new(move || status(party.mark_consistent()))
            }
            Verb::CloseHolding => {
                let party = self.holder(shmkit);
                Box::new(move || self.close(shmkit, &party))
            }
            Verb::Close => {
                let party = self.holder(shmkit);
                party.give().expect("it holds it");
                Box::new(move || self.close(shmkit, &party))
            }
            Verb::CreateAt | Verb::CreateAtDead | Verb::CreateAtMade => {
                let segment = open(shmkit);
                introduce(shmkit, segment);
                Box::new(move || status(shmkit.create_lock_at(kind, segment, PLACE)))
            }
        }
    }

    fn makes_others_wait(&self) -> bool {
        // Who comes as well needs a place; and nobody waits for who gives nothing back.
        let waited_for = !matches!(self.verb, Verb::Close | Verb::CreateAtMade);
        self.participants > 1 && self.is_warm() && waited_for
    }

    fn holds_at_marker(&self) -> bool {
        matches!(
            self.verb,
            Verb::Release | Verb::ReleaseMarked | Verb::Mark | Verb::CloseHolding
        )
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let (kind, who) = (self.kind, Who::Bystander);
        if !self.makes_one() {
            let party = Party::known(shmkit, who, kind);
            if self.verb == Verb::PassEstranged {
                estrange();
            }
            return Some(Box::new(move || status(party.pass())));
        }
        let segment = open(shmkit);
        introduce(shmkit, segment);
        Some(Box::new(move || {
            let made = shmkit.create_lock_at(kind, segment, PLACE);
            status(made.and_then(|lock| Party::of(shmkit, who, kind, segment, lock).pass()))
        }))
    }

    fn look_at(&self, victim: Pid, passed: bool, place: &Place) -> Result<(), Finding> {
        if self.verb != Verb::CloseHolding {
            return board().nobody_came_between(passed);
        }
        let path = place.path("victim");
        let file = File::options().read(true).write(true).open(&path);
        let file = file.expect("the segment is there");
        let alive = byte::is_locked(&file, byte_of(board().ticket.load(Ordering::SeqCst)));
        let maps = std::fs::read_to_string(format!("/proc/{victim}/maps")).unwrap_or_default();
        let path = path.to_string_lossy();
        let writes = maps
            .lines()
            .any(|line| line.ends_with(&*path) && line.contains(" rw-s "));
        match (alive, writes) {
            (false, true) => Err(Crime::Shared.found("taken for dead, it can still write")),
            (true, _) => board().nobody_came_between(passed),
            (false, false) => Ok(()),
        }
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        let took_over = matches!(self.verb, Verb::TakeOver | Verb::FirstTakeOver);
        look.lock_survives(&Traces {
            kind: self.kind,
            participants: self.participants,
            made: done || !self.makes_one(),
            // One may have died before the victim, which may have died as well.
            deaths: u64::from(self.has_marked()) + 1,
            recovered: u64::from(took_over && (done || board().has_passed())),
        })
    }
}

/// The operations of locks, those that take longest first.
pub fn operations() -> Vec<LockOperation> {
    use Kind::{Lock, RLock};
    let operation = |name, every, verb, kind, participants| LockOperation {
        name,
        verb,
        kind,
        every,
        participants,
    };
    // Two participants: the dead and the living have no room to spare.
    vec![
        operation(
            "lock: take over, first call",
            256,
            Verb::FirstTakeOver,
            Lock,
            2,
        ),
        operation("lock: claim, first call", 128, Verb::First, Lock, 2),
        operation("lock: claim", 48, Verb::Claim(0), Lock, 2),
        operation("lock: claim of a dead slot", 48, Verb::Claim(2), Lock, 2),
        operation("lock: claim, table of one", 48, Verb::Claim(1), Lock, 1),
        operation("lock: close, holding", 16, Verb::CloseHolding, Lock, 2),
        operation("lock: close", 16, Verb::Close, Lock, 2),
        operation("lock: acquire, release", 4, Verb::Pass, Lock, 2),
        operation(
            "lock: beside an estranged one",
            4,
            Verb::PassEstranged,
            Lock,
            2,
        ),
        operation("lock: take over", 8, Verb::TakeOver, Lock, 2),
        operation("lock: release", 1, Verb::Release, Lock, 2),
        operation("lock: release, marked", 2, Verb::ReleaseMarked, Lock, 2),
        operation("lock: mark_consistent", 2, Verb::Mark, Lock, 2),
        operation("lock: create_at", 2, Verb::CreateAt, Lock, 2),
        operation(
            "lock: create_at after a death",
            2,
            Verb::CreateAtDead,
            Lock,
            2,
        ),
        operation(
            "lock: create_at of what is there",
            16,
            Verb::CreateAtMade,
            Lock,
            2,
        ),
        operation("rlock: claim", 96, Verb::Claim(0), RLock, 2),
        operation("rlock: acquire, release, twice", 8, Verb::Pass, RLock, 2),
        operation("rlock: take over", 16, Verb::TakeOver, RLock, 2),
        operation("rlock: release twice", 4, Verb::Release, RLock, 2),
        operation(
            "rlock: release twice, marked",
            8,
            Verb::ReleaseMarked,
            RLock,
            2,
        ),
        operation("rlock: mark_consistent", 4, Verb::Mark, RLock, 2),
        operation("rlock: close, holding", 32, Verb::CloseHolding, RLock, 2),
        operation("rlock: create_at", 2, Verb::CreateAt, RLock, 2),
    ]
}
