//! A process that becomes a participant again and again while it forks children: none of them may keep it alive.

use crate::suite::capi::lock::{FOREVER, NOWAIT};
use crate::suite::harness::library::{Library, Status};
use crate::suite::harness::lock_worker::{make, open};
use crate::suite::harness::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::suite::harness::process::WATCHDOG;
use crate::suite::harness::shared_state::board;
use crate::suite::harness::survivor::refused;
use crate::suite::harness::verify::path;
use crate::suite::soak::random::{fork_sleepers, sleep};
use nix::unistd::{Pid, setpgid};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What is wrong with one that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its children inherit the page that its identity hangs on, as if it were not MADV_DONTFORK.
    KeepsIdentity,
    /// The same, and it holds a lock.
    KeepsLock,
}

impl Flaw {
    /// Each of them.
    pub const ALL: [Flaw; 2] = [Flaw::KeepsIdentity, Flaw::KeepsLock];
}

/// One thread claims in a loop, by opening the segment and letting go of it; another forks children that sleep.
pub struct ClaimStorm {
    /// `None`: it is the library as it is.
    pub flaw: Option<Flaw>,
}

/// How many places the table has.
const PARTICIPANTS: u32 = 4;

/// Becomes a participant and stops being one; where `hold` is set it keeps the lock and all that it has open.
fn claim(shmkit: &Library, hold: bool) -> Result<(), Status> {
    let good = |status| if status == 0 { Ok(()) } else { Err(status) };
    let segment = open(shmkit);
    let lock = shmkit.built_in_lock(segment)?;
    shmkit.acquire(lock, NOWAIT)?;
    if hold {
        return Ok(());
    }
    good(shmkit.release(lock))?;
    good(shmkit.close_lock(lock))?;
    good(shmkit.close(segment))
}

/// Has children inherit the pin: the one mapping of the segment's file that is for reading only.
fn let_children_have_the_pin() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it can be read");
    let path = path();
    let pin = maps
        .lines()
        .find(|line| line.ends_with(&*path.to_string_lossy()) && line.contains(" r--s "));
    let span = pin.expect("a participant has a pin").split(' ').next();
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
            None => "participant: claims amid a storm of forks",
            Some(Flaw::KeepsIdentity) => "broken: an identity that children keep",
            Some(Flaw::KeepsLock) => "broken: an owner that children keep alive",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn guilty_of(&self) -> Option<Crime> {
        self.flaw.map(|flaw| match flaw {
            Flaw::KeepsIdentity => Crime::Undead,
            Flaw::KeepsLock => Crime::Stuck,
        })
    }

    fn patience(&self) -> u32 {
        if self.flaw.is_some() { 1 } else { WATCHDOG }
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || make(shmkit, PARTICIPANTS, None)))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        // The whole family, which outlives the victim, is one process group.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a process can lead its group");
        if let Some(flaw) = self.flaw {
            return Box::new(move || {
                claim(shmkit, true).expect("nobody else is there");
                if flaw == Flaw::KeepsIdentity {
                    let lock = shmkit.built_in_lock(open(shmkit)).expect("it has one");
                    assert_eq!(shmkit.release(lock), 0);
                }
                let_children_have_the_pin();
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

    /// Looks while the victim's children still sleep.
    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        let segment = open(shmkit);
        let lock = shmkit.built_in_lock(segment).map_err(refused("lock"))?;
        shmkit.acquire(lock, FOREVER).map_err(refused("acquire"))?;
        let stat = shmkit.lock_stat(lock).map_err(refused("stat"))?;
        board().ticket.store(stat.owner_ticket, SeqCst);
        look.nobody_is_undead(stat.owner_ticket)?;
        let whole = (shmkit.mark_consistent(lock), shmkit.release(lock));
        if whole != (0, 0) {
            let text = format!("mark_consistent and release returned {whole:?}");
            return Err(Crime::Refused.found(text));
        }
        look.table_has_room(segment, PARTICIPANTS)?;
        let closed = shmkit.close_lock(lock);
        if closed != 0 {
            return Err(refused("close of a lock")(closed));
        }
        look.remove(segment)
    }
}
