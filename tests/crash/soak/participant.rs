//! Participants, killed at random times: a process attaches again and again while it forks. No child may keep it alive.

use crate::suite::capi::{FOREVER, NOWAIT, Status, check};
use crate::suite::harness::fixture::{create, open, path};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::process::WATCHDOG;
use crate::suite::harness::shared_state::shared_state;
use crate::suite::harness::survivor::refused;
use crate::suite::soak::random::{fork_sleepers, sleep};
use nix::unistd::{Pid, setpgid};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The flaw of a victim that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its children inherit the mapping that keeps its identity alive, as if it were not MADV_DONTFORK.
    KeepsIdentity,
    /// As `KeepsIdentity`, and it holds a lock.
    KeepsLock,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Flaw; 2] = [Flaw::KeepsIdentity, Flaw::KeepsLock];
}

/// A process with two threads: one attaches to the segment and closes it in a loop, one forks children that sleep.
pub struct ClaimStorm {
    /// `None`: the library as it is.
    pub flaw: Option<Flaw>,
}

/// The number of places in the table.
const PARTICIPANTS: u32 = 4;

/// Attaches and closes; if `hold`, keeps the lock and all handles.
fn claim(shmkit: &Library, hold: bool) -> Result<(), Status> {
    let segment = open(shmkit);
    let lock = shmkit.built_in_lock(segment)?;
    shmkit.acquire(lock, NOWAIT)?;
    if hold {
        return Ok(());
    }
    check(shmkit.release(lock))?;
    check(shmkit.close_lock(lock))?;
    check(shmkit.close(segment))
}

/// Has children inherit the mapping that keeps the identity alive: the only read-only one of the segment's file.
fn leak_liveness_mapping() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let path = path();
    let mapping = maps
        .lines()
        .find(|line| line.ends_with(&*path.to_string_lossy()) && line.contains(" r--s "));
    let span = mapping
        .expect("a participant has such a mapping")
        .split(' ')
        .next();
    let (from, to) = span.and_then(|span| span.split_once('-')).expect("a range");
    let number = |digits| usize::from_str_radix(digits, 16).expect("a number");
    let (from, to) = (number(from), number(to));
    // SAFETY: the range is a mapping of this process; what children inherit changes nothing here.
    let done = unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DOFORK) };
    assert_eq!(done, 0, "MADV_DOFORK");
}

impl Operation for ClaimStorm {
    fn name(&self) -> String {
        match self.flaw {
            None => "participant: claim, while forking",
            Some(Flaw::KeepsIdentity) => "selftest: participant: identity, inherited by children",
            Some(Flaw::KeepsLock) => "selftest: participant: lock owner, kept alive by children",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn expect_violation(&self) -> Option<Violation> {
        self.flaw.map(|flaw| match flaw {
            Flaw::KeepsIdentity => Violation::TakenForAlive,
            Flaw::KeepsLock => Violation::Stuck,
        })
    }

    fn time_limit(&self) -> u32 {
        if self.flaw.is_some() { 1 } else { WATCHDOG }
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || create(shmkit, PARTICIPANTS, None)))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        // The victim and its children, which outlive it, are one process group.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a process can lead its group");
        if let Some(flaw) = self.flaw {
            return Box::new(move || {
                claim(shmkit, true).expect("the victim is alone");
                if flaw == Flaw::KeepsIdentity {
                    let lock = shmkit
                        .built_in_lock(open(shmkit))
                        .expect("a managed segment has a lock");
                    assert_eq!(shmkit.release(lock), 0);
                }
                leak_liveness_mapping();
                fork_sleepers(1, Duration::ZERO);
                sleep();
            });
        }
        Box::new(move || {
            std::thread::spawn(|| fork_sleepers(64, Duration::from_micros(100)));
            loop {
                if let Err(status) = claim(shmkit, false) {
                    return status;
                }
            }
        })
    }

    /// Runs while the victim's children sleep.
    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        let segment = open(shmkit);
        let lock = shmkit.built_in_lock(segment).map_err(refused("lock"))?;
        shmkit.acquire(lock, FOREVER).map_err(refused("acquire"))?;
        let stat = shmkit.lock_stat(lock).map_err(refused("stat"))?;
        shared_state().ticket.store(stat.owner_ticket, SeqCst);
        verifier.check_dead_are_dead(stat.owner_ticket)?;
        check(shmkit.mark_consistent(lock)).map_err(refused("mark_consistent"))?;
        check(shmkit.release(lock)).map_err(refused("release"))?;
        verifier.table_has_room(segment, PARTICIPANTS)?;
        check(shmkit.close_lock(lock)).map_err(refused("close of a lock"))?;
        verifier.remove(segment)
    }
}
