//! Events: set, set and clear, clear, wait, create_at; and the processes that wait during these calls.
//!
//! ```text
//! data:  | …     64: the event
//! ```
//!
//! | waiter | starts to wait                      | must return when                                          |
//! |--------|-------------------------------------|-----------------------------------------------------------|
//! | early  | before the victim begins            | the event was set once, by the victim or after its death  |
//! | late   | while the victim is stopped         | the event is set the next time                            |
//!
//! An event has no owner, so nothing is taken over from a dead process.

use crate::suite::capi::event::Event;
use crate::suite::capi::{FOREVER, NOWAIT, Status, TIMEOUT, WOULD_BLOCK, status};
use crate::suite::harness::fixture::{
    PLACE, VICTIM_TIMEOUT_NS, create, exit_code, open, open_attached,
};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::process::{self, expect_good_end, spawn_waiter};
use crate::suite::harness::shared_state::{Phase, Role, shared_state};
use crate::suite::harness::survivor::{refused, reopen};
use nix::unistd::Pid;
use shmkit::capi::event::SHMKIT_EVENT_SET;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Set,
    SetAndClear,
    Clear,
    /// Waits until its timeout.
    Wait,
    CreateAt,
}

/// An operation of events.
pub struct EventOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
}

/// Starts a process that waits for the event.
fn start_waiter(event: &Event) -> Pid {
    spawn_waiter(|| exit_code(event.wait(FOREVER)))
}

impl EventOperation {
    fn run(&self, event: &Event) -> Result<(), Status> {
        match self.verb {
            Verb::Set => event.set(),
            Verb::SetAndClear => event.set().and_then(|()| event.clear()),
            Verb::Clear => event.clear(),
            Verb::Wait => match event.wait(VICTIM_TIMEOUT_NS) {
                Err(TIMEOUT) => Ok(()),
                other => other,
            },
            Verb::CreateAt => Ok(()),
        }
    }

    /// Waits until the victim is dead, and for both waiters.
    fn await_waiters(&self, event: &Event, early: Pid) -> Result<(), Status> {
        let late = start_waiter(event);
        if self.verb == Verb::Wait {
            // A stopped waiter delays neither this process nor other waiters.
            event.set()?;
        } else {
            shared_state().await_end_of_victim();
        }
        // If a waiter were to wait forever, so would this process, and the harness would report it.
        if event.stat()?.sets == 0 {
            event.set()?;
        }
        expect_good_end(early);
        event.set()?;
        expect_good_end(late);
        Ok(())
    }
}

impl Operation for EventOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            create(shmkit, 2, None);
            if self.verb != Verb::CreateAt {
                let event = Event::create(shmkit, open(shmkit), PLACE);
                let event = event.expect("the event is created");
                if self.verb == Verb::Clear {
                    event.set().expect("the event is open");
                }
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::CreateAt {
            let segment = open_attached(shmkit);
            return Box::new(move || status(Event::create(shmkit, segment, PLACE)));
        }
        let event = Event::open(shmkit, open(shmkit), PLACE).expect("the event exists");
        Box::new(move || {
            shared_state().set_phase(Role::Victim, Phase::Acquiring);
            let done = status(self.run(&event));
            shared_state().set_phase(Role::Victim, Phase::Holding);
            done
        })
    }

    fn blocks_bystander(&self) -> bool {
        matches!(self.verb, Verb::Set | Verb::SetAndClear)
    }

    fn bystander_waits_first(&self) -> bool {
        self.blocks_bystander()
    }

    fn has_bystander(&self) -> bool {
        self.verb == Verb::Wait || self.blocks_bystander()
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let event = Event::open(shmkit, open(shmkit), PLACE).expect("the event exists");
        let early = start_waiter(&event);
        Some(Box::new(move || status(self.await_waiters(&event, early))))
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let segment = verifier.open_managed()?;
        let event = reopen(
            done || self.verb != Verb::CreateAt,
            Event::open(verifier.shmkit, segment, PLACE),
            |event| event.close(),
            || Event::create(verifier.shmkit, segment, PLACE),
        )?;
        let before = event.stat().map_err(refused("stat"))?;
        let returned = shared_state().phase() == Phase::Holding;
        let expected = match self.verb {
            Verb::Set | Verb::SetAndClear => before.sets > 0,
            Verb::Clear => before.flags & SHMKIT_EVENT_SET == 0,
            Verb::Wait | Verb::CreateAt => true,
        };
        if returned && !expected {
            let text = format!(
                "the operation has returned, and there are {} sets, flags {:#x}",
                before.sets, before.flags
            );
            return Err(Violation::Lost.failure(text));
        }
        // The event works in any state that the victim has left.
        event.clear().map_err(refused("clear"))?;
        let results = (event.is_set(), event.wait(NOWAIT), event.wait(1));
        if results != (Ok(false), Err(WOULD_BLOCK), Err(TIMEOUT)) {
            let text = format!("the event is clear, and is_set, wait and wait return {results:?}");
            return Err(Violation::Misreported.failure(text));
        }
        let waiters = [start_waiter(&event), start_waiter(&event)];
        let before = event.stat().map_err(refused("stat"))?;
        event.set().map_err(refused("set"))?;
        event.clear().map_err(refused("clear"))?;
        for waiter in waiters {
            let end = process::wait(waiter, process::WATCHDOG / 2);
            if end.is_err() {
                process::kill(waiter);
                let text = "the event was set and cleared, and a survivor still waits";
                return Err(Violation::Stuck.failure(text));
            }
        }
        let after = event.stat().map_err(refused("stat"))?;
        if (after.sets, after.flags) != (before.sets + 1, 0) {
            let text = format!(
                "{} sets, then {}, flags {:#x}",
                before.sets, after.sets, after.flags
            );
            return Err(Violation::Misreported.failure(text));
        }
        shared_state().verdict()?;
        event.close().map_err(refused("close of an event"))?;
        verifier.remove_last(segment)
    }
}

/// The operations of events, slowest first.
pub fn operations() -> Vec<EventOperation> {
    let operation = |name, every, verb| EventOperation { name, verb, every };
    vec![
        operation("event: wait, times out", 8, Verb::Wait),
        operation("event: set", 1, Verb::Set),
        operation("event: set, clear", 1, Verb::SetAndClear),
        operation("event: clear", 1, Verb::Clear),
        operation("event: create_at", 4, Verb::CreateAt),
    ]
}
