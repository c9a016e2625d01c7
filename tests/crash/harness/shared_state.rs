//! Words that the processes of a series share outside the memory under test: what calls have reported, and when.
//!
//! | phase       | meaning                                     | the next owner learns that the victim died |
//! |-------------|---------------------------------------------|--------------------------------------------|
//! | `Idle`      | the victim does not hold the lock           | no                                         |
//! | `Acquiring` | acquire was called and has not returned     | perhaps                                    |
//! | `Holding`   | acquire has returned, release is not called | yes                                        |
//! | `Releasing` | release was called and has not returned     | perhaps                                    |
//!
//! If an earlier owner has died too, the next owner gets the report of that death until mark_consistent.

use crate::suite::harness::operation::{Failure, Violation};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What the victim does with the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not hold the lock.
    Idle,
    /// It has called acquire.
    Acquiring,
    /// Acquire has returned.
    Holding,
    /// It has called release.
    Releasing,
}

/// Whether the lock carries the mark of an owner that died before the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No owner has died, or mark_consistent has returned.
    None,
    /// An owner has died.
    Set,
    /// mark_consistent was called and has not returned.
    Clearing,
}

/// The part of a process in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is killed.
    Victim = 1,
    /// It uses the object while the victim does.
    Bystander = 2,
    /// It verifies what the others have left.
    Survivor = 3,
}

/// The words; they are zero when a victim begins.
pub struct SharedState {
    phase: AtomicU64,
    mark: AtomicU64,
    /// The role that is between acquire and release; a dead owner stays until the next owner enters.
    inside: AtomicU64,
    /// Whether the bystander has held the lock and released it.
    passed: AtomicU64,
    /// The PID of the victim.
    victim: AtomicU64,
    /// Whether the victim holds a lock for reading.
    pub victim_reads: AtomicU64,
    /// Whether a bystander takes part.
    pub has_bystander: AtomicU64,
    /// The ticket under which the victim holds something.
    pub ticket: AtomicU64,
    /// The number of processes that have attached.
    pub attached: AtomicU64,
    /// The first fault that a process has reported; 0: none.
    fault: AtomicU64,
}

/// What a process may find wrong while it uses the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two processes are inside.
    TwoInside,
    /// The guarded data are partly changed, and no death was reported.
    HalfDone,
    /// A death is reported, and no owner has died.
    FalseDeath,
    /// A death is not reported.
    MissedDeath,
    /// A name is gone while a process relies on it.
    NameRemoved,
    /// Written data are missing.
    NotWritten,
}

impl Fault {
    const ALL: [Fault; 6] = [
        Fault::TwoInside,
        Fault::HalfDone,
        Fault::FalseDeath,
        Fault::MissedDeath,
        Fault::NameRemoved,
        Fault::NotWritten,
    ];

    fn failure(self) -> Failure {
        match self {
            Fault::TwoInside => Violation::NotExclusive
                .failure("a process acquired the lock while its owner was alive and inside"),
            Fault::HalfDone => Violation::Misreported
                .failure("the guarded data are partly changed, and no death was reported"),
            Fault::FalseDeath => Violation::Misreported
                .failure("an owner's death was reported, and no owner has died"),
            Fault::MissedDeath => {
                Violation::Misreported.failure("an owner has died, and no death was reported")
            }
            Fault::NameRemoved => {
                Violation::Lost.failure("the name was removed while a process used it")
            }
            Fault::NotWritten => Violation::Lost.failure("written data are missing"),
        }
    }
}

static SHARED_STATE: OnceLock<&'static SharedState> = OnceLock::new();

/// Returns words that are zero and shared with children forked later; they live as long as the process.
pub fn shared_words(count: usize) -> &'static [AtomicU64] {
    let length = NonZeroUsize::new(count * size_of::<AtomicU64>()).expect("at least one word");
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) };
    let base = base.expect("there is memory").cast::<AtomicU64>();
    // SAFETY: `count` words of zeros are mapped at base, aligned to a page, and are never unmapped.
    unsafe { std::slice::from_raw_parts(base.as_ptr(), count) }
}

/// Returns the words of this series. The first call makes them; it must precede the forks that share them.
pub fn shared_state() -> &'static SharedState {
    SHARED_STATE.get_or_init(|| {
        let words = shared_words(size_of::<SharedState>() / size_of::<AtomicU64>());
        // SAFETY: a SharedState consists of that many atomic words, and these are never unmapped.
        unsafe { &*words.as_ptr().cast::<SharedState>() }
    })
}

impl SharedState {
    /// Sets all words to zero.
    pub fn clear(&self) {
        for word in [
            &self.phase,
            &self.mark,
            &self.inside,
            &self.passed,
            &self.victim,
            &self.victim_reads,
            &self.has_bystander,
            &self.ticket,
            &self.attached,
            &self.fault,
        ] {
            word.store(0, SeqCst);
        }
    }

    /// Makes this process the victim.
    pub fn become_victim(&self) {
        self.victim.store(std::process::id().into(), SeqCst);
    }

    /// Returns whether the victim has ended.
    pub fn victim_is_gone(&self) -> bool {
        kill(Pid::from_raw(self.victim.load(SeqCst) as i32), None).is_err()
    }

    /// Waits until the victim has ended.
    pub fn await_end_of_victim(&self) {
        while !self.victim_is_gone() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Notes the phase of the victim; the other roles have none.
    pub fn set_phase(&self, role: Role, phase: Phase) {
        if role == Role::Victim {
            self.phase.store(phase as u64, SeqCst);
        }
    }

    /// Returns the phase of the victim.
    pub fn phase(&self) -> Phase {
        [
            Phase::Idle,
            Phase::Acquiring,
            Phase::Holding,
            Phase::Releasing,
        ][self.phase.load(SeqCst) as usize]
    }

    /// Notes whether an earlier owner has died.
    pub fn set_mark(&self, mark: Mark) {
        self.mark.store(mark as u64, SeqCst);
    }

    fn mark(&self) -> Mark {
        [Mark::None, Mark::Set, Mark::Clearing][self.mark.load(SeqCst) as usize]
    }

    /// Notes that the bystander has released the lock, which carries no mark now.
    pub fn set_passed(&self) {
        self.passed.store(1, SeqCst);
    }

    /// Returns whether the bystander has released the lock.
    pub fn has_passed(&self) -> bool {
        self.passed.load(SeqCst) == 1
    }

    /// Notes a fault, unless one was noted before.
    pub fn report_fault(&self, fault: Fault) {
        let number = fault as u64 + 1;
        let _ = self.fault.compare_exchange(0, number, SeqCst, SeqCst);
    }

    /// Notes that a process has acquired the lock, and whether acquire reported a death.
    pub fn enter(&self, role: Role, owner_died: bool) {
        if self.inside.swap(role as u64, SeqCst) != 0 && !owner_died {
            self.report_fault(match role {
                // All others are dead when the survivor enters.
                Role::Survivor => Fault::MissedDeath,
                Role::Victim | Role::Bystander => Fault::TwoInside,
            });
        }
    }

    /// Notes that the process inside is about to release the lock.
    pub fn leave(&self) {
        self.inside.store(0, SeqCst);
    }

    /// Checks that half-changed data come with the report of a death.
    pub fn check_whole(&self, whole: bool, owner_died: bool) {
        if !whole && !owner_died {
            self.report_fault(Fault::HalfDone);
        }
    }

    /// Checks what acquire has reported to a process that called it while the victim was stopped or dead.
    pub fn check_notice(&self, role: Role, owner_died: bool) {
        let passed = self.has_passed();
        // The own death of the victim is not reported to it.
        let phase = if role == Role::Victim || passed {
            Phase::Idle
        } else {
            self.phase()
        };
        let mark = if passed { Mark::None } else { self.mark() };
        match (phase, mark) {
            (Phase::Idle, Mark::None) if owner_died => self.report_fault(Fault::FalseDeath),
            (Phase::Holding, _) | (_, Mark::Set) if !owner_died => {
                self.report_fault(Fault::MissedDeath)
            }
            _ => {}
        }
    }

    /// Checks, while the victim is stopped and alive, that the bystander has not acquired what the victim holds.
    pub fn check_not_overtaken(&self, passed: bool) -> Result<(), Failure> {
        match passed && self.phase() == Phase::Holding {
            true => {
                Err(Violation::NotExclusive
                    .failure("the bystander acquired the lock of a live owner"))
            }
            false => Ok(()),
        }
    }

    /// Returns the fault that was noted.
    pub fn verdict(&self) -> Result<(), Failure> {
        match self.fault.load(SeqCst).checked_sub(1) {
            None => Ok(()),
            Some(number) => Err(Fault::ALL[number as usize].failure()),
        }
    }
}
