//! The operations of locks that stand in no segment: in a file of their own under a name, or in the arena of a process.

use crate::library::{Library, Options, Status};
use crate::locks::{Kind, NOWAIT, Way};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::status;
use crate::survivor::refused;
use crate::verify::NAME;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Comes by a lock with a name; `there`: somebody has made it.
    FileOptions {
        /// How.
        way: Way,
        /// Whether it has been made before.
        there: bool,
    },
    /// Makes one without a name, as its first: the arena comes with it.
    FirstUnnamed,
    /// Makes another one.
    Unnamed,
}

/// An operation of such locks; the victim also takes the lock and gives it back.
pub struct NamedOperation {
    name: &'static str,
    verb: Verb,
    kind: Kind,
    every: usize,
    tmpfile: bool,
}

/// How many may use it: the victim and a survivor.
const PARTICIPANTS: u32 = 2;
const NOT_FOUND: Status = -4;
const EXISTS: Status = -5;

impl NamedOperation {
    fn make(&self, shmkit: &Library) {
        let made = shmkit.named_lock(self.kind, Some(NAME), Way::Create, PARTICIPANTS);
        let made = made.expect("a lock can be made");
        assert_eq!(shmkit.close_lock(made), 0);
    }

    fn run(&self, shmkit: &Library) -> Result<(), Status> {
        let (name, way) = match self.verb {
            Verb::FileOptions { way, .. } => (Some(NAME), way),
            Verb::FirstUnnamed | Verb::Unnamed => (None, Way::Create),
        };
        let lock = shmkit.named_lock(self.kind, name, way, PARTICIPANTS)?;
        shmkit.acquire(lock, NOWAIT)?;
        match shmkit.release(lock) {
            0 => Ok(()),
            status => Err(status),
        }
    }
}

impl Operation for NamedOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn has_tmpfile(&self) -> bool {
        self.tmpfile
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        match self.verb {
            Verb::FileOptions { there: true, .. } => Some(Box::new(move || self.make(shmkit))),
            _ => None,
        }
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::Unnamed {
            let first = shmkit.named_lock(self.kind, None, Way::Create, PARTICIPANTS);
            first.expect("a lock can be made");
        }
        Box::new(move || status(self.run(shmkit)))
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        let Verb::FileOptions { there, .. } = self.verb else {
            // The kernel takes an arena back when nobody has it open; nobody else has heard of the place in it.
            look.nothing_is_left()?;
            return self.run(shmkit).map_err(refused("use of a lock"));
        };
        if look.name_is_there(usize::from(!self.tmpfile))? {
            let found = shmkit.named_lock(self.kind, Some(NAME), Way::Open, 0);
            let found = found.map_err(|status| {
                Crime::HalfMade.found(format!("a survivor's open returned {status}"))
            })?;
            let stat = shmkit.lock_stat(found).map_err(refused("stat"))?;
            let held = stat.owner_ticket != 0;
            let told = shmkit.acquire(found, NOWAIT).map_err(refused("acquire"))?;
            if told != held {
                let text = format!("held: {held}; a survivor was told: {told}");
                return Err(Crime::Untold.found(text));
            }
            let given = (shmkit.mark_consistent(found), shmkit.release(found));
            if given != (0, 0) {
                let text = format!("mark_consistent and release returned {given:?}");
                return Err(Crime::Refused.found(text));
            }
            let again = shmkit.named_lock(self.kind, Some(NAME), Way::Create, 0);
            if again.err() != Some(EXISTS) {
                return Err(Crime::Refused.found("what is there was made once more"));
            }
            let gone = (shmkit.unlink_lock(found), shmkit.close_lock(found));
            if gone != (0, 0) {
                let text = format!("unlink and close returned {gone:?}");
                return Err(Crime::Refused.found(text));
            }
        } else if done || there {
            return Err(Crime::Lost.found("the name is not there"));
        } else {
            let opened = shmkit.named_lock(self.kind, Some(NAME), Way::Open, 0);
            if opened.err() != Some(NOT_FOUND) {
                return Err(Crime::Refused.found("what is not there was opened"));
            }
        }
        // Whatever makers have left goes with the next one.
        let made = shmkit.create(Some(NAME), 1, Options::default());
        look.remove(made.map_err(refused("create"))?)?;
        look.nothing_is_left()
    }
}

/// The operations of locks that stand in no segment, those that take longest first.
pub fn operations() -> Vec<NamedOperation> {
    use Kind::{Lock, RLock};
    let operation = |name, every, verb, kind| NamedOperation {
        name,
        verb,
        kind,
        every,
        tmpfile: true,
    };
    let named = |way, there| Verb::FileOptions { way, there };
    vec![
        operation("lock: unnamed, the first", 64, Verb::FirstUnnamed, Lock),
        operation("lock: named, create", 64, named(Way::Create, false), Lock),
        NamedOperation {
            tmpfile: false,
            ..operation(
                "lock: named, create, no O_TMPFILE",
                96,
                named(Way::Create, false),
                Lock,
            )
        },
        operation(
            "lock: named, open_or_create, makes",
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
        operation("rlock: unnamed, the first", 128, Verb::FirstUnnamed, RLock),
        operation(
            "rlock: named, open_or_create, makes",
            128,
            named(Way::OpenOrCreate, false),
            RLock,
        ),
        operation("rlock: named, open", 128, named(Way::Open, true), RLock),
    ]
}
