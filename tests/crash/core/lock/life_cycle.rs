//! Locks outside of a segment: in a file of their own, with a name; or in the arena of a process, without one.

use crate::suite::capi::lock::Kind;
use crate::suite::capi::segment::Options;
use crate::suite::capi::{EXISTS, NOT_FOUND, NOWAIT, Status, Way, check, status};
use crate::suite::harness::fixture::NAME;
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::survivor::refused;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Creates or opens a lock with a name.
    Named {
        /// How.
        way: Way,
        /// Whether it exists.
        exists: bool,
    },
    /// Creates its first lock without a name, and the arena with it.
    FirstUnnamed,
    /// Creates another lock without a name.
    Unnamed,
}

/// An operation of such locks. The victim also acquires and releases the lock.
pub struct LifeCycleOperation {
    name: &'static str,
    verb: Verb,
    kind: Kind,
    every: usize,
    tmpfile: bool,
}

/// The victim and a survivor.
const PARTICIPANTS: u32 = 2;

impl LifeCycleOperation {
    fn create(&self, shmkit: &Library) {
        let created = shmkit.named_lock(self.kind, Some(NAME), Way::Create, PARTICIPANTS);
        assert_eq!(shmkit.close_lock(created.expect("the lock is created")), 0);
    }

    fn run(&self, shmkit: &Library) -> Result<(), Status> {
        let (name, way) = match self.verb {
            Verb::Named { way, .. } => (Some(NAME), way),
            Verb::FirstUnnamed | Verb::Unnamed => (None, Way::Create),
        };
        let lock = shmkit.named_lock(self.kind, name, way, PARTICIPANTS)?;
        shmkit.acquire(lock, NOWAIT)?;
        check(shmkit.release(lock))
    }
}

impl Operation for LifeCycleOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn has_tmpfile(&self) -> bool {
        self.tmpfile
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        match self.verb {
            Verb::Named { exists: true, .. } => Some(Box::new(move || self.create(shmkit))),
            _ => None,
        }
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::Unnamed {
            let first = shmkit.named_lock(self.kind, None, Way::Create, PARTICIPANTS);
            first.expect("the lock is created");
        }
        Box::new(move || status(self.run(shmkit)))
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        let Verb::Named { exists, .. } = self.verb else {
            // The kernel removes the arena with the last process that has it open, and no other process knows it.
            verifier.check_nothing_left()?;
            return self.run(shmkit).map_err(refused("use of a lock"));
        };
        if verifier.name_exists(usize::from(!self.tmpfile))? {
            let opened = shmkit.named_lock(self.kind, Some(NAME), Way::Open, 0);
            let lock = opened.map_err(|status| {
                Violation::HalfMade.failure(format!("a survivor's open returned {status}"))
            })?;
            let stat = shmkit.lock_stat(lock).map_err(refused("stat"))?;
            let held = stat.owner_ticket != 0;
            let owner_died = shmkit.acquire(lock, NOWAIT).map_err(refused("acquire"))?;
            if owner_died != held {
                let text = format!("held: {held}; acquire reported a death: {owner_died}");
                return Err(Violation::Misreported.failure(text));
            }
            check(shmkit.mark_consistent(lock)).map_err(refused("mark_consistent"))?;
            check(shmkit.release(lock)).map_err(refused("release"))?;
            let again = shmkit.named_lock(self.kind, Some(NAME), Way::Create, 0);
            if again.err() != Some(EXISTS) {
                return Err(Violation::Refused.failure("create of an existing name has succeeded"));
            }
            check(shmkit.unlink_lock(lock)).map_err(refused("unlink"))?;
            check(shmkit.close_lock(lock)).map_err(refused("close"))?;
        } else if done || exists {
            return Err(Violation::Lost.failure("the name does not exist"));
        } else {
            let opened = shmkit.named_lock(self.kind, Some(NAME), Way::Open, 0);
            if opened.err() != Some(NOT_FOUND) {
                return Err(Violation::Refused.failure("open of a missing name has succeeded"));
            }
        }
        // The next create removes what dead creators have left.
        let created = shmkit.create(Some(NAME), 1, Options::default());
        verifier.remove_last(created.map_err(refused("create"))?)
    }
}

/// The operations of locks outside of a segment, slowest first.
pub fn operations() -> Vec<LifeCycleOperation> {
    use Kind::{Lock, RLock};
    let operation = |name, every, verb, kind| LifeCycleOperation {
        name,
        verb,
        kind,
        every,
        tmpfile: true,
    };
    let named = |way, exists| Verb::Named { way, exists };
    vec![
        operation("lock: unnamed, first", 64, Verb::FirstUnnamed, Lock),
        operation("lock: named, create", 64, named(Way::Create, false), Lock),
        LifeCycleOperation {
            tmpfile: false,
            ..operation(
                "lock: named, create, no O_TMPFILE",
                96,
                named(Way::Create, false),
                Lock,
            )
        },
        operation(
            "lock: named, open_or_create, creates",
            96,
            named(Way::OpenOrCreate, false),
            Lock,
        ),
        operation(
            "lock: named, open_or_create, opens",
            64,
            named(Way::OpenOrCreate, true),
            Lock,
        ),
        operation("lock: named, open", 64, named(Way::Open, true), Lock),
        operation("lock: unnamed, another", 32, Verb::Unnamed, Lock),
        operation("rlock: unnamed, first", 128, Verb::FirstUnnamed, RLock),
        operation(
            "rlock: named, open_or_create, creates",
            128,
            named(Way::OpenOrCreate, false),
            RLock,
        ),
        operation("rlock: named, open", 128, named(Way::Open, true), RLock),
    ]
}
