//! Locks in a managed segment, and the participants that own them: claim, acquire, take over, release, mark_consistent,
//! close while holding, create_at.

pub mod life_cycle;

use crate::suite::capi::lock::Kind;
use crate::suite::capi::{FOREVER, Status, status};
use crate::suite::harness::byte;
use crate::suite::harness::fixture::{
    PLACE, create, name, open, open_attached, own_id, path, words,
};
use crate::suite::harness::library::Library;
use crate::suite::harness::lock_worker::LockWorker;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::run_and_die;
use crate::suite::harness::shared_state::{Mark, Role, shared_state};
use crate::suite::harness::survivor::{LockExpectation, liveness_byte};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Acquires the lock as its first operation in the segment, after this number of participants have died there.
    Claim(u32),
    /// As `Claim(0)`, in a process that has never used the library, and from the open of the segment on.
    First,
    /// As `TakeOver`, in a process that has never used the library, and from the open of the segment on.
    FirstTakeOver,
    /// Acquires the lock, counts, and releases it.
    Pass,
    /// As `Pass`, with a bystander whose descriptors of the segment refer to another file.
    PassBesideDetachedObserver,
    /// As `Pass`, after an owner has died halfway.
    TakeOver,
    /// Releases it.
    Release,
    /// Releases it with the mark of an earlier death.
    ReleaseMarked,
    /// Marks as consistent what a dead owner has left.
    Mark,
    /// Closes lock and segment while it holds the lock, which counts as a death.
    CloseHolding,
    /// Closes lock and segment.
    Close,
    /// Creates the lock where there are zeros.
    CreateAt,
    /// Creates it where another process has died while creating it.
    CreateAtDead,
    /// Creates it where it exists.
    CreateAtExisting,
}

/// An operation of locks.
pub struct LockOperation {
    name: &'static str,
    verb: Verb,
    kind: Kind,
    every: usize,
    participants: u32,
}

/// The flag of a tag whose object is being created (src/object/mod.rs).
const CREATING: u64 = 1 << 29;

/// Dies while it creates the lock: its identity is in the tag, as between the two steps of create_at.
fn die_creating(shmkit: &Library) {
    let [tag] = words(shmkit, open(shmkit), PLACE);
    tag.store(own_id() | CREATING, Ordering::SeqCst);
}

/// Redirects the descriptors of the segment in this process to a file without locks, as after closefrom(3).
fn detach_descriptors() {
    let other = memfd_create(c"another file", MFdFlags::empty());
    let other = other.expect("a memory file is created");
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let ours = |link: &PathBuf| std::fs::read_link(link).is_ok_and(|file| file == path());
    let links: Vec<_> = descriptors.flatten().map(|entry| entry.path()).collect();
    let mut redirected = 0;
    for link in links.iter().filter(|link| ours(link)) {
        let number = link
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // SAFETY: the number is an open descriptor of the library, which must cope with this.
        let done = unsafe { libc::dup2(other.as_raw_fd(), number.expect("a number")) };
        assert!(done >= 0);
        redirected += 1;
    }
    assert!(redirected > 0, "the segment's descriptor was not found");
}

impl LockOperation {
    /// Acquires the lock, and dies halfway.
    fn die_holding(&self, shmkit: &Library) {
        let owner = LockWorker::open(shmkit, Role::Survivor, self.kind);
        assert_eq!(shmkit.acquire(owner.lock, FOREVER), Ok(false));
        owner.count_first();
    }

    fn close(&self, shmkit: &Library, worker: &LockWorker) -> Status {
        match shmkit.close_lock(worker.lock) {
            0 => shmkit.close(worker.segment),
            status => status,
        }
    }

    /// Returns a victim that holds the lock at its marker.
    fn holder<'a>(&self, shmkit: &'a Library) -> LockWorker<'a> {
        let worker = LockWorker::open_attached(shmkit, Role::Victim, self.kind);
        let owner_died = worker.acquire().expect("the victim is alone");
        worker.count(owner_died).expect("the lock is open");
        let stat = shmkit.lock_stat(worker.lock).expect("the lock is open");
        shared_state()
            .ticket
            .store(stat.owner_ticket, Ordering::SeqCst);
        worker
    }

    fn has_marked(&self) -> bool {
        matches!(
            self.verb,
            Verb::TakeOver | Verb::FirstTakeOver | Verb::ReleaseMarked | Verb::Mark
        )
    }

    fn creates(&self) -> bool {
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

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            let kind = Some(self.kind).filter(|_| !self.creates());
            create(shmkit, self.participants, kind);
            match self.verb {
                Verb::Claim(dead) => {
                    // Together they fill the table; each dies holding nothing.
                    for _ in 0..dead {
                        run_and_die(|| {
                            open_attached(shmkit);
                        });
                    }
                }
                Verb::CreateAtDead => run_and_die(|| die_creating(shmkit)),
                _ if self.has_marked() => {
                    run_and_die(|| self.die_holding(shmkit));
                    shared_state().set_mark(Mark::Set);
                }
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let (kind, role) = (self.kind, Role::Victim);
        match self.verb {
            Verb::First | Verb::FirstTakeOver => {
                Box::new(move || status(LockWorker::open(shmkit, role, kind).run()))
            }
            Verb::Claim(_) => {
                let worker = LockWorker::open(shmkit, role, kind);
                Box::new(move || status(worker.run()))
            }
            Verb::Pass | Verb::PassBesideDetachedObserver | Verb::TakeOver => {
                let worker = LockWorker::open_attached(shmkit, role, kind);
                Box::new(move || status(worker.run()))
            }
            Verb::Release | Verb::ReleaseMarked => {
                let worker = self.holder(shmkit);
                Box::new(move || status(worker.release()))
            }
            Verb::Mark => {
                let worker = self.holder(shmkit);
                Box::new(move || status(worker.mark_consistent()))
            }
            Verb::CloseHolding => {
                let worker = self.holder(shmkit);
                Box::new(move || self.close(shmkit, &worker))
            }
            Verb::Close => {
                let worker = self.holder(shmkit);
                worker.release().expect("it holds the lock");
                Box::new(move || self.close(shmkit, &worker))
            }
            Verb::CreateAt | Verb::CreateAtDead | Verb::CreateAtExisting => {
                let segment = open_attached(shmkit);
                Box::new(move || status(shmkit.create_lock_at(kind, segment, PLACE)))
            }
        }
    }

    fn blocks_bystander(&self) -> bool {
        // A bystander needs a place in the table, and waits only for what is released.
        let waited_for = !matches!(self.verb, Verb::Close | Verb::CreateAtExisting);
        self.participants > 1 && self.is_warm() && waited_for
    }

    fn bystander_waits_first(&self) -> bool {
        matches!(
            self.verb,
            Verb::Release | Verb::ReleaseMarked | Verb::Mark | Verb::CloseHolding
        )
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let (kind, role) = (self.kind, Role::Bystander);
        if !self.creates() {
            let worker = LockWorker::open_attached(shmkit, role, kind);
            if self.verb == Verb::PassBesideDetachedObserver {
                detach_descriptors();
            }
            return Some(Box::new(move || status(worker.run())));
        }
        let segment = open_attached(shmkit);
        Some(Box::new(move || {
            let created = shmkit.create_lock_at(kind, segment, PLACE);
            status(created.and_then(|lock| LockWorker::of(shmkit, role, kind, segment, lock).run()))
        }))
    }

    fn inspect_live(&self, victim: Pid, passed: bool, place: &Place) -> Result<(), Failure> {
        if self.verb != Verb::CloseHolding {
            return shared_state().check_not_overtaken(passed);
        }
        let path = place.path(name());
        let file = File::options().read(true).write(true).open(&path);
        let file = file.expect("the segment exists");
        let alive = byte::is_locked(
            &file,
            liveness_byte(shared_state().ticket.load(Ordering::SeqCst)),
        );
        let maps = std::fs::read_to_string(format!("/proc/{victim}/maps")).unwrap_or_default();
        let path = path.to_string_lossy();
        let writes = maps
            .lines()
            .any(|line| line.ends_with(&*path) && line.contains(" rw-s "));
        match (alive, writes) {
            (false, true) => {
                Err(Violation::NotExclusive
                    .failure("the victim counts as dead and can still write"))
            }
            (true, _) => shared_state().check_not_overtaken(passed),
            (false, false) => Ok(()),
        }
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let took_over = matches!(self.verb, Verb::TakeOver | Verb::FirstTakeOver);
        verifier.lock_survives(&LockExpectation {
            kind: self.kind,
            participants: self.participants,
            exists: done || !self.creates(),
            // The victim, and an owner before it.
            deaths: u64::from(self.has_marked()) + 1,
            recovered: u64::from(took_over && (done || shared_state().has_passed())),
        })
    }
}

/// The operations of locks, slowest first.
pub fn operations() -> Vec<LockOperation> {
    use Kind::{Lock, RLock};
    let operation = |name, every, verb, kind, participants| LockOperation {
        name,
        verb,
        kind,
        every,
        participants,
    };
    // Two participants: the dead and the live ones need every slot.
    vec![
        operation(
            "lock: first call, after a dead owner",
            256,
            Verb::FirstTakeOver,
            Lock,
            2,
        ),
        operation("lock: first call", 128, Verb::First, Lock, 2),
        operation("lock: claim", 48, Verb::Claim(0), Lock, 2),
        operation("lock: claim, all places dead", 48, Verb::Claim(2), Lock, 2),
        operation("lock: claim, one place, dead", 48, Verb::Claim(1), Lock, 1),
        operation("lock: close while holding", 16, Verb::CloseHolding, Lock, 2),
        operation("lock: close", 16, Verb::Close, Lock, 2),
        operation("lock: acquire, release", 4, Verb::Pass, Lock, 2),
        operation(
            "lock: acquire, release, beside a detached observer",
            4,
            Verb::PassBesideDetachedObserver,
            Lock,
            2,
        ),
        operation(
            "lock: acquire, release, after a dead owner",
            8,
            Verb::TakeOver,
            Lock,
            2,
        ),
        operation("lock: release", 1, Verb::Release, Lock, 2),
        operation(
            "lock: release, after a dead owner",
            2,
            Verb::ReleaseMarked,
            Lock,
            2,
        ),
        operation("lock: mark_consistent", 2, Verb::Mark, Lock, 2),
        operation("lock: create_at", 2, Verb::CreateAt, Lock, 2),
        operation(
            "lock: create_at, after a dead creator",
            2,
            Verb::CreateAtDead,
            Lock,
            2,
        ),
        operation(
            "lock: create_at, exists",
            16,
            Verb::CreateAtExisting,
            Lock,
            2,
        ),
        operation("rlock: claim", 96, Verb::Claim(0), RLock, 2),
        operation("rlock: acquire, release, twice", 8, Verb::Pass, RLock, 2),
        operation(
            "rlock: acquire, release, after a dead owner",
            16,
            Verb::TakeOver,
            RLock,
            2,
        ),
        operation("rlock: release twice", 4, Verb::Release, RLock, 2),
        operation(
            "rlock: release twice, after a dead owner",
            8,
            Verb::ReleaseMarked,
            RLock,
            2,
        ),
        operation("rlock: mark_consistent", 4, Verb::Mark, RLock, 2),
        operation(
            "rlock: close while holding",
            32,
            Verb::CloseHolding,
            RLock,
            2,
        ),
        operation("rlock: create_at", 2, Verb::CreateAt, RLock, 2),
    ]
}
