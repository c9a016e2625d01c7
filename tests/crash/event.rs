//! The operations of events: set, set and clear, clear, wait, make at a place; and those who wait meanwhile.
//!
//! ```text
//! data:  | the victim's process | …     64: the event
//! ```
//!
//! | who waits | from when on                        | goes on when                                          |
//! |-----------|-------------------------------------|-------------------------------------------------------|
//! | the early | before the victim does anything     | the event was set once, by the victim or after its death |
//! | the late  | while the victim stands at its point | the event is set the next time                        |
//!
//! Nobody owns an event, so there is nothing to be taken over: whoever is to be woken must be, and no more is promised.

use crate::board::{Said, Who, board};
use crate::library::{Library, Segment, Status, functions};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, make, managed, open, status};
use crate::process;
use crate::survivor::refused;
use crate::verify::NAME;
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use shmkit::capi::event::{SHMKIT_EVENT_SET, shmkit_event_info};
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

functions! {
    Events:
    create_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    set(*mut c_void);
    clear(*mut c_void);
    is_set(*const c_void, *mut u32);
    wait(*mut c_void, i64, u32);
    stat(*const c_void, *mut shmkit_event_info);
    close(*mut c_void);
}

/// Where one stands that is only there for the first calls, beside the locks that are.
const WARM_UP: u64 = 256;

const FOREVER: i64 = -1;
const NOWAIT: i64 = 0;
const TIMEOUT: Status = -10;
const WOULD_BLOCK: Status = -11;
const NOT_FOUND: Status = -4;

/// An event that this process has open.
#[derive(Clone, Copy)]
struct Event<'a> {
    functions: &'a Events,
    handle: *mut c_void,
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl<'a> Event<'a> {
    /// Makes or finds it.
    fn make(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Event<'a>, Status> {
        let (functions, mut handle) = (&shmkit.events, std::ptr::null_mut());
        // SAFETY: a Segment is an open handle; no options, and out lives through the call.
        let made =
            unsafe { (functions.create_at)(segment.0, offset, std::ptr::null(), &raw mut handle) };
        good(made).map(|()| Event { functions, handle })
    }

    /// Finds it.
    fn find(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Event<'a>, Status> {
        let (functions, mut handle) = (&shmkit.events, std::ptr::null_mut());
        // SAFETY: as in `make`.
        let found =
            unsafe { (functions.open_at)(segment.0, offset, std::ptr::null(), &raw mut handle) };
        good(found).map(|()| Event { functions, handle })
    }

    fn set(&self) -> Result<(), Status> {
        // SAFETY: an Event is an open handle.
        good(unsafe { (self.functions.set)(self.handle) })
    }

    fn clear(&self) -> Result<(), Status> {
        // SAFETY: as in `set`.
        good(unsafe { (self.functions.clear)(self.handle) })
    }

    fn is_set(&self) -> Result<bool, Status> {
        let mut out = 0;
        // SAFETY: as in `set`; out lives through the call.
        good(unsafe { (self.functions.is_set)(self.handle, &raw mut out) })?;
        Ok(out != 0)
    }

    fn wait(&self, timeout: i64) -> Result<(), Status> {
        // SAFETY: as in `set`.
        good(unsafe { (self.functions.wait)(self.handle, timeout, 0) })
    }

    fn stat(&self) -> Result<shmkit_event_info, Status> {
        let mut out = shmkit_event_info {
            struct_size: size_of::<shmkit_event_info>() as u32,
            flags: 0,
            sets: 0,
            waits: 0,
            offset: 0,
        };
        // SAFETY: as in `set`; out has its size set.
        good(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `set`; each handle is closed once.
        good(unsafe { (self.functions.close)(self.handle) })
    }

    /// Starts a process that waits for it, and returns when it sleeps or has ended.
    fn waiter(&self) -> Pid {
        let waiter = process::spawn(|| -status(self.wait(FOREVER)));
        while !process::waits(waiter) && !process::has_ended(waiter) {
            std::thread::yield_now();
        }
        waiter
    }
}

impl Library {
    /// As `warm_up`, for events.
    pub fn warm_up_events(&self, segment: Segment) -> Result<(), Status> {
        Event::make(self, segment, WARM_UP)?.close()?;
        let event = Event::find(self, segment, WARM_UP)?;
        assert_eq!(event.wait(1), Err(TIMEOUT), "nobody has set it");
        event.set()?;
        event.wait(FOREVER)?;
        event.clear()?;
        event.is_set()?;
        event.stat()?;
        event.close()
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Set,
    SetAndClear,
    Clear,
    /// Waits for what nobody sets, for a short time.
    Wait,
    CreateAt,
}

/// An operation of events.
pub struct EventOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
}

/// How long a victim waits in vain: for two sleeps and what is left of a third, in nanoseconds.
const SHORTLY: i64 = 4_000_000;

/// Where the victim says which process it is.
fn victims_number(shmkit: &Library, segment: Segment) -> &'static AtomicU64 {
    let base = shmkit.data(segment).expect("it has an address");
    // SAFETY: the data has a page; whoever looks does so while the segment is open, and all use it as an atomic.
    unsafe { &*base.cast::<AtomicU64>() }
}

impl EventOperation {
    fn run(&self, event: &Event) -> Result<(), Status> {
        match self.verb {
            Verb::Set => event.set(),
            Verb::SetAndClear => event.set().and_then(|()| event.clear()),
            Verb::Clear => event.clear(),
            Verb::Wait => match event.wait(SHORTLY) {
                Err(TIMEOUT) => Ok(()),
                other => other,
            },
            Verb::CreateAt => Ok(()),
        }
    }

    /// Waits until the victim is gone, and sees to it that all go on who must.
    fn stand_by(&self, event: &Event, victim: Pid, early: Pid) -> Result<(), Status> {
        let late = event.waiter();
        if self.verb == Verb::Wait {
            // Somebody else who waits, and stands still, holds up neither us nor them.
            event.set()?;
        } else {
            while kill(victim, None).is_ok() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        // Should they wait for ever, so do we, and the harness tells.
        if event.stat()?.sets == 0 {
            event.set()?;
        }
        let end = waitpid(early, None);
        assert!(ended_well(end), "the early one: {end:?}");
        event.set()?;
        let end = waitpid(late, None);
        assert!(ended_well(end), "the late one: {end:?}");
        Ok(())
    }
}

fn ended_well(end: nix::Result<nix::sys::wait::WaitStatus>) -> bool {
    matches!(end, Ok(nix::sys::wait::WaitStatus::Exited(_, 0)))
}

impl Operation for EventOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            make(shmkit, 2, None);
            if self.verb != Verb::CreateAt {
                let event = Event::make(shmkit, open(shmkit), PLACE).expect("an event can be made");
                if self.verb == Verb::Clear {
                    event.set().expect("it is open");
                }
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let segment = open(shmkit);
        if self.verb == Verb::CreateAt {
            crate::party::introduce(shmkit, segment);
            return Box::new(move || status(Event::make(shmkit, segment, PLACE)));
        }
        let event = Event::find(shmkit, segment, PLACE).expect("it was made");
        victims_number(shmkit, segment).store(std::process::id().into(), SeqCst);
        Box::new(move || {
            board().say(Who::Victim, Said::Asks);
            let done = status(self.run(&event));
            board().say(Who::Victim, Said::Holds);
            done
        })
    }

    fn makes_others_wait(&self) -> bool {
        matches!(self.verb, Verb::Set | Verb::SetAndClear)
    }

    fn holds_at_marker(&self) -> bool {
        self.makes_others_wait()
    }

    fn has_company(&self) -> bool {
        self.verb == Verb::Wait || self.makes_others_wait()
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let segment = open(shmkit);
        let event = Event::find(shmkit, segment, PLACE).expect("it was made");
        let victim = victims_number(shmkit, segment).load(SeqCst);
        let early = event.waiter();
        Some(Box::new(move || {
            status(self.stand_by(&event, Pid::from_raw(victim as i32), early))
        }))
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = look.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        match Event::find(look.shmkit, segment, PLACE) {
            Ok(event) => event.close().map_err(refused("close of an event"))?,
            Err(NOT_FOUND) if self.verb == Verb::CreateAt && !done => {}
            Err(NOT_FOUND) => return Err(Crime::Lost.found("the event is not there")),
            Err(status) => return Err(refused("open_at")(status)),
        }
        let event = Event::make(look.shmkit, segment, PLACE).map_err(refused("create_at"))?;
        let before = event.stat().map_err(refused("stat"))?;
        let returned = board().said() == Said::Holds;
        let expected = match self.verb {
            Verb::Set | Verb::SetAndClear => before.sets > 0,
            Verb::Clear => before.flags & SHMKIT_EVENT_SET == 0,
            Verb::Wait | Verb::CreateAt => true,
        };
        if returned && !expected {
            let text = format!(
                "it has returned, and {} sets, flags {:#x}",
                before.sets, before.flags
            );
            return Err(Crime::Lost.found(text));
        }
        // Whatever the dead have left, it does all that an event does.
        event.clear().map_err(refused("clear"))?;
        let told = (event.is_set(), event.wait(NOWAIT), event.wait(1));
        if told != (Ok(false), Err(WOULD_BLOCK), Err(TIMEOUT)) {
            return Err(
                Crime::Untold.found(format!("it is clear, and a survivor is told {told:?}"))
            );
        }
        let waiters = [event.waiter(), event.waiter()];
        let before = event.stat().map_err(refused("stat"))?;
        event.set().map_err(refused("set"))?;
        event.clear().map_err(refused("clear"))?;
        for waiter in waiters {
            let end = process::wait(waiter, process::WATCHDOG / 2);
            if end.is_err() {
                process::kill(waiter);
                return Err(
                    Crime::Stuck.found("it was set and cleared, and a survivor still waits")
                );
            }
        }
        let after = event.stat().map_err(refused("stat"))?;
        if (after.sets, after.flags) != (before.sets + 1, 0) {
            let text = format!(
                "{} sets, then {}, flags {:#x}",
                before.sets, after.sets, after.flags
            );
            return Err(Crime::Untold.found(text));
        }
        board().verdict()?;
        event.close().map_err(refused("close of an event"))?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

/// The operations of events, those that take longest first.
pub fn operations() -> Vec<EventOperation> {
    let operation = |name, every, verb| EventOperation { name, verb, every };
    vec![
        operation("event: wait, in vain", 8, Verb::Wait),
        operation("event: set", 1, Verb::Set),
        operation("event: set, clear", 1, Verb::SetAndClear),
        operation("event: clear", 1, Verb::Clear),
        operation("event: create_at", 4, Verb::CreateAt),
    ]
}
