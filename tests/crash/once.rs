//! The operations of once: begin and done, alone, after a death, and given back undone.
//!
//! ```text
//! data:  | first | second | …     64: the once
//! ```
//!
//! What is to be done is to set both words to 1, with a call of the library between them. Whoever is told that it is done
//! finds both set; whoever has it to do finds neither, or is told of a death and begins anew.

use crate::board::{Mark, Said, Who, Wrong, board};
use crate::library::{Library, Segment, Status, functions};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, introduce, make, managed, open, status};
use crate::place::Place;
use crate::process::run_and_die;
use crate::survivor::refused;
use crate::verify::NAME;
use nix::unistd::Pid;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::once::{
    SHMKIT_ONCE_DONE, SHMKIT_ONCE_OWNER_DIED, SHMKIT_ONCE_RUNNING, shmkit_once_info,
};
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

functions! {
    Onces:
    create_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    begin(*mut c_void, i64, u32, *mut u32, *mut u32);
    done(*mut c_void);
    abort(*mut c_void);
    is_done(*const c_void, *mut u32);
    stat(*const c_void, *mut shmkit_once_info);
    close(*mut c_void);
}

const FOREVER: i64 = -1;
const NOWAIT: i64 = 0;
const TIMEOUT: Status = -10;
const NOT_OWNER: Status = -13;

/// Where one stands that is only there for the first calls, beside what else is.
const WARM_UP: u64 = 512;

/// A once that this process has open, and what is to be done.
struct Once<'a> {
    who: Who,
    functions: &'a Onces,
    handle: *mut c_void,
    words: [&'a AtomicU64; 2],
}

/// What begin tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Done,
    Mine { recovered: bool },
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl<'a> Once<'a> {
    /// Makes it or finds it.
    fn open(shmkit: &'a Library, who: Who, segment: Segment, offset: u64, make: bool) -> Once<'a> {
        let (functions, mut handle) = (&shmkit.onces, std::ptr::null_mut());
        let function = if make {
            functions.create_at
        } else {
            functions.open_at
        };
        // SAFETY: a Segment is an open handle; no options, and out lives through the call.
        let opened = unsafe { function(segment.0, offset, std::ptr::null(), &raw mut handle) };
        assert_eq!(opened, 0, "it can be made, and then found");
        let base = shmkit.data(segment).expect("it has an address");
        let words = [0, 1].map(|number| {
            // SAFETY: the data has a page, and more than two words.
            let word = unsafe { base.cast::<AtomicU64>().add(number) };
            // SAFETY: it is aligned, mapped until the handle is closed, after which nobody looks, and all processes use
            // it as an atomic.
            unsafe { &*word }
        });
        Once {
            who,
            functions,
            handle,
            words,
        }
    }

    fn begin(&self, timeout: i64) -> Result<Begun, Status> {
        let (mut mine, mut recovered) = (7, 7);
        // SAFETY: an open handle; both outputs live through the call.
        let told = unsafe {
            (self.functions.begin)(self.handle, timeout, 0, &raw mut mine, &raw mut recovered)
        };
        good(told)?;
        match mine {
            0 => Ok(Begun::Done),
            _ => Ok(Begun::Mine {
                recovered: recovered != 0,
            }),
        }
    }

    fn is_done(&self) -> Result<bool, Status> {
        let mut out = 7;
        // SAFETY: as in `begin`.
        good(unsafe { (self.functions.is_done)(self.handle, &raw mut out) })?;
        Ok(out != 0)
    }

    fn stat(&self) -> Result<shmkit_once_info, Status> {
        let mut out = shmkit_once_info {
            struct_size: size_of::<shmkit_once_info>() as u32,
            flags: 0,
            attempts: 0,
            recoveries: 0,
            waits: 0,
            owner_ticket: 0,
            owner_namespace: 0,
            offset: 0,
            owner_pid: 0,
            reserved: 0,
        };
        // SAFETY: as in `begin`; out has its size set.
        good(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `begin`; each handle is closed once.
        good(unsafe { (self.functions.close)(self.handle) })
    }

    /// Begins, and has what was told judged.
    fn start(&self) -> Result<Begun, Status> {
        board().say(self.who, Said::Asks);
        let begun = self.begin(FOREVER)?;
        match begun {
            Begun::Mine { recovered } => {
                board().say(self.who, Said::Holds);
                board().enter(self.who, recovered);
                board().judge(self.who, recovered);
            }
            Begun::Done => {
                board().say(self.who, Said::Idle);
                self.must_be_whole();
            }
        }
        Ok(begun)
    }

    fn must_be_whole(&self) {
        if self.words.map(|word| word.load(Relaxed)) != [1, 1] {
            board().accuse(Wrong::NotWritten);
        }
    }

    /// Does what is to be done.
    fn work(&self, recovered: bool) -> Result<(), Status> {
        let untouched = self.words.map(|word| word.load(Relaxed)) == [0, 0];
        board().see(untouched, recovered);
        for word in self.words {
            word.store(0, Relaxed);
        }
        self.words[0].store(1, Relaxed);
        self.is_done()?;
        self.words[1].store(1, Relaxed);
        Ok(())
    }

    fn done(&self) -> Result<(), Status> {
        board().leave();
        board().say(self.who, Said::Gives);
        if self.who == Who::Victim {
            board().set_mark(Mark::Going);
        }
        // SAFETY: as in `begin`.
        good(unsafe { (self.functions.done)(self.handle) })?;
        board().say(self.who, Said::Idle);
        if self.who == Who::Victim {
            board().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Gives it back undone; what was done of it is undone before.
    fn abort(&self) -> Result<(), Status> {
        board().leave();
        board().say(self.who, Said::Gives);
        // SAFETY: as in `begin`.
        good(unsafe { (self.functions.abort)(self.handle) })?;
        board().say(self.who, Said::Idle);
        Ok(())
    }

    /// Does all of it, or sees it done.
    fn call(&self) -> Result<(), Status> {
        if let Begun::Mine { recovered } = self.start()? {
            self.work(recovered)?;
            self.done()?;
        }
        if self.who == Who::Bystander {
            board().pass();
        }
        Ok(())
    }
}

impl Library {
    /// As `warm_up`, for onces.
    pub fn warm_up_onces(&self, segment: Segment) -> Result<(), Status> {
        Once::open(self, Who::Survivor, segment, WARM_UP, true).close()?;
        let once = Once::open(self, Who::Survivor, segment, WARM_UP, false);
        once.begin(NOWAIT)?;
        // Who waits looks how many processors there are.
        assert_eq!(once.begin(1), Err(TIMEOUT), "we wait for ourselves");
        once.abort()?;
        once.begin(FOREVER)?;
        once.done()?;
        once.begin(NOWAIT)?;
        once.is_done()?;
        once.stat()?;
        once.close()
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Begins, works, says that it is done.
    Call,
    /// Says that it is done.
    Done,
    /// Gives it back undone.
    Abort,
}

/// An operation of onces.
pub struct OnceOperation {
    name: &'static str,
    verb: Verb,
    /// Whether somebody has died halfway before.
    after_a_death: bool,
    every: usize,
}

impl OnceOperation {
    fn known<'a>(&self, shmkit: &'a Library, who: Who) -> Once<'a> {
        let segment = open(shmkit);
        introduce(shmkit, segment);
        Once::open(shmkit, who, segment, PLACE, false)
    }
}

impl Operation for OnceOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            make(shmkit, 2, None);
            let segment = open(shmkit);
            let made = Once::open(shmkit, Who::Survivor, segment, PLACE, true);
            assert_eq!((made.close(), shmkit.close(segment)), (Ok(()), 0));
            if self.after_a_death {
                run_and_die(|| {
                    let once = Once::open(shmkit, Who::Survivor, open(shmkit), PLACE, false);
                    assert_eq!(once.begin(FOREVER), Ok(Begun::Mine { recovered: false }));
                    once.words[0].store(1, Relaxed);
                });
                board().set_mark(Mark::There);
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let once = self.known(shmkit, Who::Victim);
        if self.verb == Verb::Call {
            return Box::new(move || status(once.call()));
        }
        match once.start() {
            Ok(Begun::Mine { recovered }) if self.verb == Verb::Done => {
                once.work(recovered).expect("it is open");
            }
            Ok(Begun::Mine { .. }) => {
                for word in once.words {
                    word.store(0, Relaxed);
                }
            }
            other => panic!("nobody else is there: {other:?}"),
        }
        Box::new(move || match self.verb {
            Verb::Abort => status(once.abort()),
            _ => status(once.done()),
        })
    }

    fn makes_others_wait(&self) -> bool {
        true
    }

    fn holds_at_marker(&self) -> bool {
        self.verb != Verb::Call
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let once = self.known(shmkit, Who::Bystander);
        Some(Box::new(move || status(once.call())))
    }

    fn look_at(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Finding> {
        board().nobody_came_between(passed)
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = look.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        let once = Once::open(look.shmkit, Who::Survivor, segment, PLACE, false);
        let before = once.stat().map_err(refused("stat"))?;
        let is = |flag| before.flags & flag != 0;
        let must = board().has_passed() || done && self.verb != Verb::Abort;
        if must && !is(SHMKIT_ONCE_DONE) {
            return Err(Crime::Lost.found("it was done, and is not"));
        }
        let expected = match is(SHMKIT_ONCE_DONE) {
            true => Begun::Done,
            false => Begun::Mine {
                recovered: is(SHMKIT_ONCE_RUNNING) || is(SHMKIT_ONCE_OWNER_DIED),
            },
        };
        let begun = once.start().map_err(refused("begin"))?;
        if begun != expected {
            let text = format!(
                "flags {:#x}, and a survivor was told {begun:?}",
                before.flags
            );
            return Err(Crime::Untold.found(text));
        }
        if let Begun::Mine { recovered } = begun {
            let mine = once.stat().map_err(refused("stat"))?.owner_ticket;
            look.nobody_is_undead(mine)?;
            once.work(recovered).map_err(refused("is_done"))?;
            once.done().map_err(refused("done"))?;
        }
        once.must_be_whole();
        let told = (once.begin(NOWAIT), once.is_done());
        if told != (Ok(Begun::Done), Ok(true)) {
            let text = format!("it is done, and a survivor was told {told:?}");
            return Err(Crime::Untold.found(text));
        }
        // SAFETY: an open handle.
        let again = unsafe { (once.functions.done)(once.handle) };
        if again != NOT_OWNER {
            return Err(Crime::Shared.found(format!("done of what is done returned {again}")));
        }
        let after = once.stat().map_err(refused("stat"))?;
        let deaths = 1 + u64::from(self.after_a_death);
        if after.recoveries > deaths {
            let text = format!(
                "{deaths} may have died, and it tells of {}",
                after.recoveries
            );
            return Err(Crime::Untold.found(text));
        }
        board().verdict()?;
        look.table_has_room(segment, 2)?;
        once.close().map_err(refused("close of a once"))?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

/// The operations of onces, those that take longest first.
pub fn operations() -> Vec<OnceOperation> {
    let operation = |name, every, verb, after_a_death| OnceOperation {
        name,
        verb,
        after_a_death,
        every,
    };
    vec![
        operation("once: begin, done", 4, Verb::Call, false),
        operation("once: begin, done, after a death", 8, Verb::Call, true),
        operation("once: done", 2, Verb::Done, false),
        operation("once: done after a death", 2, Verb::Done, true),
        operation("once: abort", 2, Verb::Abort, false),
        operation("once: abort after a death", 2, Verb::Abort, true),
    ]
}
