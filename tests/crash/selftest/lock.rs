//! Locks that are broken on purpose, made of a word in a plain segment: each violation must be detected.
//!
//! ```text
//! data:  | first | second | …     64: the PID of the owner, or 0     72: the last turn     80: the current turn
//! ```

use crate::suite::capi::segment::{Options, Segment};
use crate::suite::harness::fixture::{NAME, PAGE, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::series::Mode;
use crate::suite::harness::shared_state::{Phase, Role, shared_state};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// The flaw of a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BrokenLock {
    /// It is never taken over from a dead owner.
    NeverRecovers,
    /// It checks the PID of its owner, which another container does not know.
    TrustsPids,
    /// It is taken over from a dead owner without a report.
    HidesDeath,
    /// A waiter checks once whether the owner lives, and then sleeps until it is woken.
    SleepsForever,
    /// A waiter has a turn, even when it is dead.
    KeepsTurns,
}

/// A PID that no process here has, like that of a process in another PID namespace; above PID_MAX_LIMIT.
const FOREIGN_PID: i32 = 1 << 23;

/// One process that uses such a lock.
struct User {
    flaw: BrokenLock,
    role: Role,
    segment: Segment,
    words: &'static [AtomicU64; WORDS],
}

const WORD: usize = 8;
const LAST: usize = 9;
const TURN: usize = 10;
const WORDS: usize = 11;

impl User {
    fn new(flaw: BrokenLock, role: Role, shmkit: &Library) -> User {
        let segment = shmkit.open(NAME, PAGE, Options::default());
        let segment = segment.expect("the segment exists");
        User {
            flaw,
            role,
            segment,
            words: words(shmkit, segment, 0),
        }
    }

    fn pid(&self) -> u64 {
        match (self.flaw, self.role) {
            (BrokenLock::TrustsPids, Role::Victim) => FOREIGN_PID as u64,
            _ => u64::from(std::process::id()),
        }
    }

    fn is_dead(&self, owner: u64) -> bool {
        let gone = Err(nix::errno::Errno::ESRCH);
        self.flaw != BrokenLock::NeverRecovers && kill(Pid::from_raw(owner as i32), None) == gone
    }

    /// Waits while the word has the value `seen`.
    fn wait(&self, seen: u64) {
        if self.flaw != BrokenLock::SleepsForever {
            return std::thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: the kernel reads the four bytes at the word, which is mapped as long as this process lives.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.words[WORD].as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                seen as u32,
                std::ptr::null::<libc::timespec>(),
                std::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
    }

    fn wait_for_turn(&self) {
        let turn = self.words[LAST].fetch_add(1, SeqCst);
        while self.words[TURN].load(SeqCst) != turn {
            self.wait(0);
        }
    }

    /// Acquires the lock; returns whether the owner has died.
    fn acquire(&self) -> bool {
        let word = &self.words[WORD];
        shared_state().set_phase(self.role, Phase::Acquiring);
        if self.flaw == BrokenLock::KeepsTurns {
            self.wait_for_turn();
        }
        let owner_died = loop {
            let seen = word.load(SeqCst);
            if (seen == 0 || self.is_dead(seen))
                && word
                    .compare_exchange(seen, self.pid(), SeqCst, SeqCst)
                    .is_ok()
            {
                break seen != 0 && self.flaw != BrokenLock::HidesDeath;
            }
            self.wait(seen);
        };
        shared_state().set_phase(self.role, Phase::Holding);
        shared_state().enter(self.role, owner_died);
        shared_state().check_notice(self.role, owner_died);
        owner_died
    }

    fn run(&self) {
        let owner_died = self.acquire();
        let [first, second] = [0, 1].map(|number| &self.words[number]);
        shared_state().check_whole(first.load(SeqCst) == second.load(SeqCst), owner_died);
        second.store(first.fetch_add(1, SeqCst), SeqCst);
        second.fetch_add(1, SeqCst);
        shared_state().leave();
        shared_state().set_phase(self.role, Phase::Releasing);
        self.words[WORD].store(0, SeqCst);
        if self.flaw == BrokenLock::KeepsTurns {
            self.words[TURN].fetch_add(1, SeqCst);
        }
        shared_state().set_phase(self.role, Phase::Idle);
        if self.role == Role::Bystander {
            shared_state().set_passed();
        }
    }
}

impl BrokenLock {
    /// All flaws.
    pub const ALL: [BrokenLock; 5] = [
        BrokenLock::NeverRecovers,
        BrokenLock::TrustsPids,
        BrokenLock::HidesDeath,
        BrokenLock::SleepsForever,
        BrokenLock::KeepsTurns,
    ];

    /// The mode in which the violation shows.
    pub fn mode(self) -> Mode {
        match self {
            BrokenLock::TrustsPids | BrokenLock::SleepsForever => Mode::Bystander,
            BrokenLock::KeepsTurns => Mode::BystanderDies,
            BrokenLock::NeverRecovers | BrokenLock::HidesDeath => Mode::Alone,
        }
    }
}

impl Operation for BrokenLock {
    fn name(&self) -> String {
        let name = match self {
            BrokenLock::NeverRecovers => "never recovered",
            BrokenLock::TrustsPids => "trusts PIDs",
            BrokenLock::HidesDeath => "hides deaths",
            BrokenLock::SleepsForever => "sleeps until woken",
            BrokenLock::KeepsTurns => "keeps turns of dead waiters",
        };
        format!("selftest: lock: {name}")
    }

    fn every(&self) -> usize {
        8
    }

    fn expect_violation(&self) -> Option<Violation> {
        Some(match self {
            BrokenLock::NeverRecovers | BrokenLock::SleepsForever | BrokenLock::KeepsTurns => {
                Violation::Stuck
            }
            BrokenLock::TrustsPids => Violation::NotExclusive,
            BrokenLock::HidesDeath => Violation::Misreported,
        })
    }

    fn time_limit(&self) -> u32 {
        1
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            let created = shmkit.create(Some(NAME), PAGE, Options::default());
            created.expect("the segment is created");
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let user = User::new(*self, Role::Victim, shmkit);
        Box::new(move || {
            user.run();
            0
        })
    }

    fn blocks_bystander(&self) -> bool {
        // A bystander that takes the owner for dead does not wait.
        *self != BrokenLock::TrustsPids
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let user = User::new(*self, Role::Bystander, shmkit);
        Some(Box::new(move || {
            user.run();
            0
        }))
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Failure> {
        shared_state().check_not_overtaken(passed)
    }

    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let user = User::new(*self, Role::Survivor, verifier.shmkit);
        user.run();
        shared_state().verdict()?;
        verifier.remove_last(user.segment)
    }
}
