//! What the harness needs of an operation: how it is set up, prepared, run and verified; and how it may fail.

use crate::suite::capi::Status;
use crate::suite::harness::library::Library;
use crate::suite::harness::place::Place;
use nix::unistd::Pid;
use std::fmt;

/// What runs between the markers; it returns the status of the operation.
pub type Run<'a> = Box<dyn FnOnce() -> Status + 'a>;

/// What runs, and ends, before the victim starts.
pub type Setup<'a> = Box<dyn FnOnce() + 'a>;

/// One operation. The victim may die at each of its instructions.
pub trait Operation {
    /// The name of the series.
    fn name(&self) -> String;

    /// The step between two kill points in the default run; 1: all points.
    fn every(&self) -> usize;

    /// Whether each function of the library has been called before. If not, this is the first call in its process.
    fn is_warm(&self) -> bool {
        true
    }

    /// Whether the file system supports O_TMPFILE.
    fn has_tmpfile(&self) -> bool {
        true
    }

    /// The violation that must be detected, for victims that are broken on purpose.
    ///
    /// The kill points of those are instructions of the harness, not of the library.
    fn expect_violation(&self) -> Option<Violation> {
        None
    }

    /// The time that a survivor may take, in seconds.
    fn time_limit(&self) -> u32 {
        crate::suite::harness::process::WATCHDOG
    }

    /// Returns what runs in a process that ends before the victim starts. The process may close what it has opened, or
    /// die without a close.
    fn setup<'a>(&'a self, _shmkit: &'a Library) -> Option<Setup<'a>> {
        None
    }

    /// Prepares the victim, and returns the operation.
    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a>;

    /// Whether a bystander must wait for the victim at some of the points.
    fn blocks_bystander(&self) -> bool {
        false
    }

    /// Whether there is a bystander, which need not have to wait.
    fn has_bystander(&self) -> bool {
        self.blocks_bystander()
    }

    /// Whether a bystander can wait before the victim begins its operation.
    fn bystander_waits_first(&self) -> bool {
        false
    }

    /// As `prepare`, in the bystander, after the victim has been prepared.
    fn bystander<'a>(&'a self, _shmkit: &'a Library) -> Option<Run<'a>> {
        None
    }

    /// Whether the bystander may return this status.
    fn accepts_from_bystander(&self, status: Status) -> bool {
        status == 0
    }

    /// Checks the victim while it is stopped at its point; `passed`: the bystander has completed its operation.
    fn inspect_live(&self, _victim: Pid, _passed: bool, _place: &Place) -> Result<(), Failure> {
        Ok(())
    }

    /// Checks what the victim has left, from a surviving process, then uses and removes it.
    ///
    /// `done`: the operation of the victim or of the bystander has returned success.
    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure>;
}

/// What a surviving process verifies with.
pub struct Verifier<'a> {
    /// The library, loaded before the fork.
    pub shmkit: &'a Library,
    /// Where the victim worked.
    pub place: &'a Place,
}

/// What may be wrong after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A name refers to something incomplete.
    HalfMade,
    /// Part of a segment has no memory.
    Sparse,
    /// A file, memory or an inode is left behind.
    Leaked,
    /// Something that existed, or that was acknowledged, is gone.
    Lost,
    /// A survivor waits for a dead process.
    Stuck,
    /// Two processes have something that is exclusive to one.
    NotExclusive,
    /// A reported status contradicts what has happened: for example, a death is not reported.
    Misreported,
    /// A dead process is taken for alive.
    TakenForAlive,
    /// An operation of a survivor fails.
    Refused,
    /// The victim or the harness itself fails.
    Misbehaved,
}

impl Violation {
    const ALL: [Violation; 10] = [
        Violation::HalfMade,
        Violation::Sparse,
        Violation::Leaked,
        Violation::Lost,
        Violation::Stuck,
        Violation::NotExclusive,
        Violation::Misreported,
        Violation::TakenForAlive,
        Violation::Refused,
        Violation::Misbehaved,
    ];

    /// Returns a failure of this kind.
    pub fn failure(self, text: impl Into<String>) -> Failure {
        Failure {
            violation: self,
            text: text.into(),
        }
    }
}

/// A violation, and how it was observed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The kind.
    pub violation: Violation,
    /// The observation.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.violation, self.text)
    }
}

impl Failure {
    /// Parses what `Display` has written in another process.
    pub fn parse(text: &str) -> Option<Failure> {
        let (violation, text) = text.split_once(": ")?;
        let violation = Violation::ALL
            .into_iter()
            .find(|known| format!("{known:?}") == violation)?;
        Some(violation.failure(text))
    }
}
