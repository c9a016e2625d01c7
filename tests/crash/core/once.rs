//! Onces: begin, done and abort, also after a death.
//!
//! ```text
//! data:  | first | second | …     64: the once
//! ```
//!
//! The initialization sets both words to 1, with a call of the library in between. A process for which it is done finds
//! both set. A process that must do it finds neither set, or gets the report of a death and starts again.

use crate::suite::capi::once::{Begun, Once};
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOT_OWNER, NOWAIT, Status, status};
use crate::suite::harness::fixture::{PLACE, create, open, open_attached, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::run_and_die;
use crate::suite::harness::shared_state::{Fault, Mark, Phase, Role, shared_state};
use crate::suite::harness::survivor::refused;
use nix::unistd::Pid;
use shmkit::capi::once::{SHMKIT_ONCE_DONE, SHMKIT_ONCE_OWNER_DIED, SHMKIT_ONCE_RUNNING};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A process that has the once open, and the words that it initializes.
struct OnceWorker<'a> {
    role: Role,
    once: Once<'a>,
    words: &'static [AtomicU64; 2],
}

impl<'a> OnceWorker<'a> {
    fn open(shmkit: &'a Library, role: Role, segment: Segment) -> OnceWorker<'a> {
        OnceWorker {
            role,
            once: Once::open(shmkit, segment, PLACE).expect("the once exists"),
            words: words(shmkit, segment, 0),
        }
    }

    /// Calls begin, and checks what it returns.
    fn begin(&self) -> Result<Begun, Status> {
        shared_state().set_phase(self.role, Phase::Acquiring);
        let begun = self.once.begin(FOREVER)?;
        match begun {
            Begun::Mine { owner_died } => {
                shared_state().set_phase(self.role, Phase::Holding);
                shared_state().enter(self.role, owner_died);
                shared_state().check_notice(self.role, owner_died);
            }
            Begun::Done => {
                shared_state().set_phase(self.role, Phase::Idle);
                self.check_initialized();
            }
        }
        Ok(begun)
    }

    fn are(&self, value: u64) -> bool {
        self.words.iter().all(|word| word.load(Relaxed) == value)
    }

    fn check_initialized(&self) {
        if !self.are(1) {
            shared_state().report_fault(Fault::NotWritten);
        }
    }

    fn clear(&self) {
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    /// Does the initialization.
    fn initialize(&self, owner_died: bool) -> Result<(), Status> {
        shared_state().check_whole(self.are(0), owner_died);
        self.clear();
        self.words[0].store(1, Relaxed);
        self.once.is_done()?;
        self.words[1].store(1, Relaxed);
        Ok(())
    }

    fn done(&self) -> Result<(), Status> {
        shared_state().leave();
        shared_state().set_phase(self.role, Phase::Releasing);
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::Clearing);
        }
        self.once.done()?;
        shared_state().set_phase(self.role, Phase::Idle);
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Gives the initialization up; the words are zero.
    fn abort(&self) -> Result<(), Status> {
        shared_state().leave();
        shared_state().set_phase(self.role, Phase::Releasing);
        self.once.abort()?;
        shared_state().set_phase(self.role, Phase::Idle);
        Ok(())
    }

    /// Begins, initializes unless that is done, and ends.
    fn run(&self) -> Result<(), Status> {
        if let Begun::Mine { owner_died } = self.begin()? {
            self.initialize(owner_died)?;
            self.done()?;
        }
        if self.role == Role::Bystander {
            shared_state().set_passed();
        }
        Ok(())
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Begins, initializes, and ends.
    Run,
    /// Ends.
    Done,
    /// Gives up.
    Abort,
}

/// An operation of onces.
pub struct OnceOperation {
    name: &'static str,
    verb: Verb,
    /// Whether a process has died before, halfway through the initialization.
    after_a_death: bool,
    every: usize,
}

impl Operation for OnceOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            create(shmkit, 2, None);
            let segment = open(shmkit);
            let once = Once::create(shmkit, segment, PLACE).expect("the once is created");
            assert_eq!((once.close(), shmkit.close(segment)), (Ok(()), 0));
            if self.after_a_death {
                run_and_die(|| {
                    let worker = OnceWorker::open(shmkit, Role::Survivor, open(shmkit));
                    let begun = worker.once.begin(FOREVER);
                    assert_eq!(begun, Ok(Begun::Mine { owner_died: false }));
                    worker.words[0].store(1, Relaxed);
                });
                shared_state().set_mark(Mark::Set);
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let worker = OnceWorker::open(shmkit, Role::Victim, open_attached(shmkit));
        if self.verb == Verb::Run {
            return Box::new(move || status(worker.run()));
        }
        match worker.begin() {
            Ok(Begun::Mine { owner_died }) if self.verb == Verb::Done => {
                worker.initialize(owner_died).expect("the once is open");
            }
            Ok(Begun::Mine { .. }) => worker.clear(),
            other => panic!("the victim is alone, and begin returned {other:?}"),
        }
        Box::new(move || match self.verb {
            Verb::Abort => status(worker.abort()),
            _ => status(worker.done()),
        })
    }

    fn blocks_bystander(&self) -> bool {
        true
    }

    fn bystander_waits_first(&self) -> bool {
        self.verb != Verb::Run
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let worker = OnceWorker::open(shmkit, Role::Bystander, open_attached(shmkit));
        Some(Box::new(move || status(worker.run())))
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Failure> {
        shared_state().check_not_overtaken(passed)
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let segment = verifier.open_managed()?;
        let worker = OnceWorker::open(verifier.shmkit, Role::Survivor, segment);
        let once = worker.once;
        let before = once.stat().map_err(refused("stat"))?;
        let is = |flag| before.flags & flag != 0;
        let must_be_done = shared_state().has_passed() || done && self.verb != Verb::Abort;
        if must_be_done && !is(SHMKIT_ONCE_DONE) {
            return Err(Violation::Lost.failure("done has returned, and the once is not done"));
        }
        let expected = match is(SHMKIT_ONCE_DONE) {
            true => Begun::Done,
            false => Begun::Mine {
                owner_died: is(SHMKIT_ONCE_RUNNING) || is(SHMKIT_ONCE_OWNER_DIED),
            },
        };
        let begun = worker.begin().map_err(refused("begin"))?;
        if begun != expected {
            let text = format!("flags {:#x}, and begin returned {begun:?}", before.flags);
            return Err(Violation::Misreported.failure(text));
        }
        if let Begun::Mine { owner_died } = begun {
            let mine = once.stat().map_err(refused("stat"))?.owner_ticket;
            verifier.check_dead_are_dead(mine)?;
            worker.initialize(owner_died).map_err(refused("is_done"))?;
            worker.done().map_err(refused("done"))?;
        }
        worker.check_initialized();
        let results = (once.begin(NOWAIT), once.is_done());
        if results != (Ok(Begun::Done), Ok(true)) {
            let text = format!("the once is done, and begin and is_done return {results:?}");
            return Err(Violation::Misreported.failure(text));
        }
        let again = once.done();
        if again != Err(NOT_OWNER) {
            let text = format!("a second done returned {again:?}");
            return Err(Violation::NotExclusive.failure(text));
        }
        let after = once.stat().map_err(refused("stat"))?;
        let deaths = 1 + u64::from(self.after_a_death);
        if after.recoveries > deaths {
            let text = format!(
                "at most {deaths} owners have died, and there are {} recoveries",
                after.recoveries
            );
            return Err(Violation::Misreported.failure(text));
        }
        shared_state().verdict()?;
        verifier.table_has_room(segment, 2)?;
        once.close().map_err(refused("close of a once"))?;
        verifier.remove_last(segment)
    }
}

/// The operations of onces, slowest first.
pub fn operations() -> Vec<OnceOperation> {
    let operation = |name, every, verb, after_a_death| OnceOperation {
        name,
        verb,
        after_a_death,
        every,
    };
    vec![
        operation("once: begin, done", 4, Verb::Run, false),
        operation("once: begin, done, after a death", 8, Verb::Run, true),
        operation("once: done", 2, Verb::Done, false),
        operation("once: done, after a death", 2, Verb::Done, true),
        operation("once: abort", 2, Verb::Abort, false),
        operation("once: abort, after a death", 2, Verb::Abort, true),
    ]
}
