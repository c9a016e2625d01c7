//! What the harness needs to know of an operation: how it is prepared, run between the markers, and verified.

use crate::suite::harness::library::{Library, Options, Status};
use crate::suite::harness::place::Place;
use nix::unistd::Pid;
use std::fmt;

/// What runs between the markers; it returns the status of the operation.
pub type Run<'a> = Box<dyn FnOnce() -> Status + 'a>;

/// What runs, and ends, before the victim begins.
pub type Ground<'a> = Box<dyn FnOnce() + 'a>;

/// One operation, of which every instruction is a point at which the process may die.
pub trait Operation {
    /// Names it for people.
    fn name(&self) -> String;

    /// Every how many points the default run takes; 1 where nobody minds the time.
    fn every(&self) -> usize;

    /// Whether every function of the library has been called before; else this is the very first call.
    fn is_warm(&self) -> bool {
        true
    }

    /// Whether the file system knows O_TMPFILE.
    fn has_tmpfile(&self) -> bool {
        true
    }

    /// What the victim must be found guilty of; only for those that are broken on purpose.
    ///
    /// Their instructions are those of the harness, not of the library.
    fn guilty_of(&self) -> Option<Crime> {
        None
    }

    /// How many seconds a survivor may wait.
    fn patience(&self) -> u32 {
        crate::suite::harness::process::WATCHDOG
    }

    /// As `prepare`, in a process that is gone before the victim begins: it may close what it made, or just die.
    fn ground<'a>(&'a self, _shmkit: &'a Library) -> Option<Ground<'a>> {
        None
    }

    /// Prepares in the victim what the operation needs, and returns the operation.
    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a>;

    /// Whether others wait for the victim while it does it; then it has a bystander.
    fn makes_others_wait(&self) -> bool {
        false
    }

    /// Whether it has a bystander: one may come meanwhile without having to wait.
    fn has_company(&self) -> bool {
        self.makes_others_wait()
    }

    /// Whether the victim has, when it comes to its marker, what a bystander wants: then one may wait from the start.
    fn holds_at_marker(&self) -> bool {
        false
    }

    /// As `prepare`, in a process that does the same at the same time to what the victim has prepared.
    fn bystander<'a>(&'a self, _shmkit: &'a Library) -> Option<Run<'a>> {
        None
    }

    /// Whether this status of the bystander is one that a caller expects.
    fn bystander_may(&self, status: Status) -> bool {
        status == 0
    }

    /// Looks while the victim stands at its point, alive; `passed`: a bystander has had all it wanted meanwhile.
    fn look_at(&self, _victim: Pid, _passed: bool, _place: &Place) -> Result<(), Finding> {
        Ok(())
    }

    /// Looks at what the victim has left, in a process that survives, and then uses and removes it.
    ///
    /// `done`: the victim or the bystander was told that its operation has succeeded.
    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding>;
}

/// What a verifier looks with.
pub struct Look<'a> {
    /// The library, of its own.
    pub shmkit: &'a Library,
    /// Where the victim was.
    pub place: &'a Place,
}

/// What can be wrong after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crime {
    /// A name stands for something that is not whole.
    HalfMade,
    /// Part of a segment has no memory.
    Sparse,
    /// A file, memory or an inode is left.
    LeftBehind,
    /// What was there, or was acknowledged, is not there.
    Lost,
    /// A survivor waits for the dead.
    Stuck,
    /// Two have what is for one alone.
    Shared,
    /// A death is not told to who must know of it, or told although nobody died.
    Untold,
    /// A dead process is still taken for alive.
    Undead,
    /// A survivor cannot do what it should be able to do.
    Refused,
    /// The victim itself did what it should not.
    Misbehaved,
}

impl Crime {
    const ALL: [Crime; 10] = [
        Crime::HalfMade,
        Crime::Sparse,
        Crime::LeftBehind,
        Crime::Lost,
        Crime::Stuck,
        Crime::Shared,
        Crime::Untold,
        Crime::Undead,
        Crime::Refused,
        Crime::Misbehaved,
    ];

    /// Makes a finding of it.
    pub fn found(self, text: impl Into<String>) -> Finding {
        Finding {
            crime: self,
            text: text.into(),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What kind of wrong.
    pub crime: Crime,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.crime, self.text)
    }
}

impl Finding {
    /// Reads what `Display` has written, in another process.
    pub fn parse(text: &str) -> Option<Finding> {
        let (crime, text) = text.split_once(": ")?;
        let crime = Crime::ALL
            .into_iter()
            .find(|known| format!("{known:?}") == crime)?;
        Some(crime.found(text))
    }
}

/// How a kind of segment is asked for, so that one operation stands for several.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    /// Its size.
    pub size: u64,
    /// What else is asked of it.
    pub options: Options,
}
