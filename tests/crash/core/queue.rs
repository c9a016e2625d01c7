//! The operations of queues: each a row of steps for whoever comes before the victim, for the victim, and for its company.
//!
//! | company | what it does                                                          | and must                         |
//! |---------|-----------------------------------------------------------------------|----------------------------------|
//! | comes   | its steps, when the victim stands at its point                        | do them all once the victim dies |
//! | waits   | one step, in which it sleeps before the victim begins; if need be another helps it when the victim is dead | end |

pub mod life_cycle;

use crate::suite::capi::queue::{CLOSED, EMPTY, FULL, LULLS, Queue, Shape, Way};
use crate::suite::harness::library::{Library, Status};
use crate::suite::harness::message_log::Post;
use crate::suite::harness::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::{self, ended_well};
use crate::suite::harness::queue_audit::{self, Expected};
use crate::suite::harness::queue_worker::{Hand, Step};
use crate::suite::harness::verify::NAME;
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Who has a mailbox.
const VICTIM: usize = 0;
const BYSTANDER: usize = 1;
const WAITER: usize = 2;
const GROUND: usize = 3;
const SURVIVOR: usize = 4;
const PEOPLE: usize = 5;

/// More messages than any series has.
const MESSAGES: usize = 4096;

type Steps = &'static [Step];

/// An operation of queues.
pub struct QueueOperation {
    name: &'static str,
    every: usize,
    shape: Shape,
    /// What somebody does who dies before the victim comes.
    ground: Steps,
    /// What the victim does before its marker.
    before: Steps,
    victim: Steps,
    comes: Steps,
    /// Whether who comes must wait somewhere.
    blocks: bool,
    /// Whether who comes gets something only when the victim is dead.
    only_then: bool,
    waits: Option<Step>,
    /// What helps who waits when the victim is dead; nothing: it needs no help.
    helps: Steps,
    post: OnceLock<Post>,
}

impl QueueOperation {
    fn post(&self) -> &Post {
        self.post.get_or_init(|| Post::new(MESSAGES, PEOPLE))
    }

    fn wait_and_help(&self, hand: &mut Hand, waiter: Pid) -> Result<(), Status> {
        const LOOK_AGAIN: Duration = Duration::from_micros(200);
        let victim = Pid::from_raw(self.post().victim().load(SeqCst) as i32);
        while kill(victim, None).is_ok() {
            std::thread::sleep(LOOK_AGAIN);
        }
        for step in self.helps {
            match hand.perform(step) {
                // Whom it should have helped was faster.
                Ok(()) | Err(EMPTY | FULL | CLOSED) => {}
                Err(status) => return Err(status),
            }
        }
        let end = waitpid(waiter, None);
        assert!(ended_well(end), "one who waits: {end:?}");
        Ok(())
    }
}

impl Operation for QueueOperation {
    fn name(&self) -> String {
        format!("queue: {}", self.name)
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        // Here, so that all that are forked share it.
        let post = self.post();
        post.clear();
        Some(Box::new(move || {
            let made = Queue::named(shmkit, Some(NAME), Way::Create, self.shape);
            made.expect("a queue can be made")
                .close()
                .expect("it is open");
            process::run_and_die(|| {
                let mut hand = Hand::open(shmkit, self.shape, post, GROUND);
                hand.perform_all(self.ground).expect("nobody is in the way");
            });
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let post = self.post();
        post.victim().store(std::process::id().into(), SeqCst);
        let mut hand = Hand::open(shmkit, self.shape, post, VICTIM);
        hand.perform_all(self.before).expect("nobody is in the way");
        hand.make_ready(self.victim);
        Box::new(move || hand.perform_all(self.victim).err().unwrap_or(0))
    }

    fn makes_others_wait(&self) -> bool {
        self.blocks
    }

    fn has_company(&self) -> bool {
        !self.comes.is_empty()
    }

    fn holds_at_marker(&self) -> bool {
        self.waits.is_some()
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let post = self.post();
        let mut hand = Hand::open(shmkit, self.shape, post, BYSTANDER);
        let Some(step) = &self.waits else {
            return Some(Box::new(move || {
                hand.perform_all(self.comes).err().unwrap_or(0)
            }));
        };
        let waiter = Hand::of(shmkit, hand.queue, post, WAITER).start(step);
        Some(Box::new(move || {
            self.wait_and_help(&mut hand, waiter).err().unwrap_or(0)
        }))
    }

    fn look_at(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Finding> {
        match self.only_then && passed && self.post().received() > 0 {
            true => Err(Crime::Shared.found("what somebody has leased who lives was given away")),
            false => Ok(()),
        }
    }

    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let post = self.post();
        post.place(VICTIM).bury();
        queue_audit::audit(
            look,
            self.shape,
            post,
            SURVIVOR,
            &Expected {
                // The victim, and somebody before it.
                deaths: 2,
                ordered: self.comes.is_empty() && self.waits.is_none(),
                table: false,
            },
        )
    }
}

/// Small enough that a lap has an end: a dozen messages of `MESSAGE` bytes.
const TINY: Shape = Shape {
    capacity: 1024,
    maxsize: 0,
    overwrites: false,
};
/// With room for large messages; all of it soon has memory.
const ROOMY: Shape = Shape {
    capacity: 1 << 20,
    ..TINY
};
/// As who asks for nothing gets it.
const USUAL: Shape = Shape {
    capacity: 0,
    ..TINY
};
/// Bounded by messages.
const PAIR: Shape = Shape { maxsize: 2, ..TINY };
/// Where the oldest messages go.
const NEWEST: Shape = Shape {
    overwrites: true,
    ..TINY
};
/// The same, bounded by messages.
const NEWEST_PAIR: Shape = Shape {
    overwrites: true,
    ..PAIR
};

/// Of these eleven fill a lap of a `TINY` one, and a twelfth does not fit behind them.
const MESSAGE: usize = 64;
const LAP: usize = 11;
/// Large: copied without holding a lock.
const LARGE: usize = 64 << 10;
/// These two are nearly all that a queue has memory for at first, and one of the third kind is more.
const HALF: usize = 40_000;
const REST: usize = 24_000;
const BEYOND: usize = 1000;
/// More than what an idle queue keeps.
const BULK: usize = 3 << 20;

/// Alone, at every k-th point.
fn row(name: &'static str, every: usize, ground: Steps, victim: Steps) -> QueueOperation {
    QueueOperation {
        name,
        every,
        shape: TINY,
        ground,
        before: &[],
        victim,
        comes: &[],
        blocks: false,
        only_then: false,
        waits: None,
        helps: &[],
        post: OnceLock::new(),
    }
}

impl QueueOperation {
    fn of(self, shape: Shape) -> Self {
        QueueOperation { shape, ..self }
    }

    fn after(self, before: Steps) -> Self {
        QueueOperation { before, ..self }
    }

    /// Somebody comes, and has to wait at some of the points.
    fn held_up(self, comes: Steps) -> Self {
        QueueOperation {
            comes,
            blocks: true,
            ..self
        }
    }

    /// Somebody comes, and never has to wait.
    fn met_by(self, comes: Steps) -> Self {
        QueueOperation { comes, ..self }
    }

    /// Somebody waits from the start.
    fn awaited(self, step: Step, helps: Steps) -> Self {
        QueueOperation {
            waits: Some(step),
            helps,
            ..self
        }
    }

    /// Whom the victim lives in the way of gets nothing.
    fn only_then(self) -> Self {
        QueueOperation {
            only_then: true,
            ..self
        }
    }
}

use Step::{
    Abort, Ack, Commit, Drain, Fill, Get, GetInVain, GetMany, GetNothing, GetNothings, Gets,
    Halfway, HeldC, HeldP, Join, JoinInVain, Lease, Nack, Peek, Put, PutFull, PutInVain, PutMany,
    Puts, Reserve, Shut, Stat, Stretch,
};

const ONE: Step = Put(MESSAGE);
const PASS: Steps = &[ONE, Get];

/// Those that put.
fn puts() -> Vec<QueueOperation> {
    const EMPTIED: Steps = &[Puts(LAP, MESSAGE), Gets(LAP)];
    const FULL: Steps = &[Fill(MESSAGE)];
    const SLOT: Steps = &[Reserve(MESSAGE)];
    const SLOT_AND_ONE: Steps = &[Reserve(MESSAGE), ONE];
    const DRAIN_AND_PASS: Steps = &[Drain, ONE, Get];
    vec![
        row("put", 8, &[ONE], &[ONE]).held_up(PASS),
        row("put, a consumer sleeps", 8, &[], &[ONE]).awaited(Get, &[ONE]),
        row("put, at the lap's end", 16, EMPTIED, &[ONE]).held_up(PASS),
        row("put, large", 32, &[ONE], &[Put(LARGE)])
            .of(ROOMY)
            .met_by(PASS),
        row("put, large, a consumer sleeps", 64, &[], &[Put(LARGE)])
            .of(ROOMY)
            .awaited(Get, &[ONE]),
        row("put, there is no room", 64, FULL, &[PutFull(MESSAGE)]).met_by(DRAIN_AND_PASS),
        row("put, waits in vain", 64, FULL, &[PutInVain(MESSAGE)]).met_by(DRAIN_AND_PASS),
        row("put, two at the most", 32, &[Puts(2, MESSAGE), Get], &[ONE])
            .of(PAIR)
            .met_by(DRAIN_AND_PASS),
        row(
            "put, one of two is dead",
            32,
            &[ONE, Reserve(MESSAGE)],
            &[ONE],
        )
        .of(PAIR)
        .met_by(DRAIN_AND_PASS),
        row("put, overwrites", 32, &[Puts(LAP + 1, MESSAGE)], &[ONE])
            .of(NEWEST)
            .held_up(PASS),
        row(
            "put, overwrites one of two",
            32,
            &[Puts(2, MESSAGE)],
            &[ONE],
        )
        .of(NEWEST_PAIR)
        .met_by(PASS),
        row("put_many", 32, &[ONE], &[PutMany(3, MESSAGE)]).held_up(PASS),
        row(
            "put_many, over the lap's end",
            32,
            &[Puts(9, MESSAGE), Gets(9)],
            &[PutMany(5, MESSAGE)],
        )
        .met_by(PASS),
        row(
            "put_many, a consumer sleeps",
            64,
            &[],
            &[PutMany(3, MESSAGE)],
        )
        .awaited(Get, &[ONE]),
        row("reserve", 16, &[ONE], SLOT).met_by(PASS),
        row("reserve, at the lap's end", 32, EMPTIED, SLOT).met_by(PASS),
        row("commit", 4, &[ONE], &[Commit]).after(SLOT).met_by(PASS),
        row("commit, a consumer sleeps", 4, &[], &[Commit])
            .after(SLOT)
            .awaited(Get, &[ONE]),
        row(
            "commit, with one behind, a consumer sleeps",
            4,
            &[],
            &[Commit],
        )
        .after(SLOT_AND_ONE)
        .awaited(Get, &[]),
        row("abort", 16, &[ONE], &[Abort]).after(SLOT).met_by(PASS),
        row(
            "abort, with one behind, a consumer sleeps",
            32,
            &[],
            &[Abort],
        )
        .after(SLOT_AND_ONE)
        .awaited(Get, &[]),
        row("abort, a producer sleeps", 32, &[ONE], &[Abort])
            .of(PAIR)
            .after(SLOT)
            .awaited(ONE, &[]),
    ]
}

/// Those that get.
fn gets() -> Vec<QueueOperation> {
    const TWO: Steps = &[Puts(2, MESSAGE)];
    const THREE: Steps = &[Puts(3, MESSAGE)];
    const FOUR: Steps = &[Puts(4, MESSAGE)];
    const FULL: Steps = &[Fill(MESSAGE)];
    const HOLE: Steps = &[ONE, Reserve(MESSAGE), Puts(2, MESSAGE)];
    const PADDED: Steps = &[Puts(LAP, MESSAGE), Gets(LAP), ONE];
    const SPLIT: Steps = &[Puts(9, MESSAGE), Gets(9), Puts(4, MESSAGE)];
    const BOTH: Steps = &[Lease, Lease];
    vec![
        row("get", 16, TWO, &[Get]).held_up(PASS),
        row("get, a producer sleeps", 32, FULL, &[Gets(2)]).awaited(ONE, &[Drain]),
        row("get, behind the lap's end", 16, PADDED, &[Get]).met_by(PASS),
        row("get, large", 32, &[Put(LARGE), ONE], &[Get])
            .of(ROOMY)
            .met_by(PASS),
        row("get, with leases about", 16, THREE, &[Get])
            .after(&[Lease])
            .met_by(PASS),
        row(
            "get, at the lap's end, with leases about",
            32,
            PADDED,
            &[Get],
        )
        .after(&[Lease, ONE])
        .met_by(PASS),
        row("get, again", 64, &[ONE, Lease, ONE], &[Gets(2)]).held_up(PASS),
        row("get, large, again", 64, &[Put(LARGE), Lease], &[Get]).of(ROOMY),
        row("get, in vain", 64, &[], &[GetInVain]).met_by(PASS),
        row("get, nothing", 64, &[], &[GetNothing]).met_by(PASS),
        row("peek", 16, TWO, &[Peek]).met_by(PASS),
        row("get_many", 32, FOUR, &[GetMany(3)]).held_up(PASS),
        row(
            "get_many, over what the dead had reserved",
            32,
            HOLE,
            &[GetMany(3)],
        )
        .met_by(PASS),
        row("get_many, over the lap's end", 32, SPLIT, &[GetMany(4)]).met_by(PASS),
        row("get_many, with leases about", 32, FOUR, &[GetMany(3)])
            .after(&[Lease])
            .met_by(PASS),
        row("get_many, a producer sleeps", 64, FULL, &[GetMany(3)]).awaited(ONE, &[Drain]),
        row("lease", 16, TWO, &[Lease]).met_by(PASS),
        row("lease, again", 64, &[ONE, Lease], &[Lease]).met_by(PASS),
        row("ack", 32, THREE, &[Ack(0)]).after(BOTH).met_by(PASS),
        row("ack, not the oldest", 8, THREE, &[Ack(1)])
            .after(BOTH)
            .met_by(PASS),
        row("ack, a consumer comes", 16, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .met_by(&[GetNothing])
            .only_then(),
        row("ack, a producer sleeps", 32, FULL, &[Ack(0), Ack(0)])
            .after(BOTH)
            .awaited(ONE, &[Drain]),
        row("ack, somebody joins", 32, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .awaited(Join, &[Drain]),
        row("ack, a consumer sleeps", 32, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .awaited(Get, &[ONE]),
        row("nack", 8, TWO, &[Nack(0)]).after(&[Lease]).met_by(PASS),
        row("nack, a consumer sleeps", 8, &[ONE], &[Nack(0)])
            .after(&[Lease])
            .awaited(Get, &[]),
    ]
}

/// Those that change what is around the messages.
fn others() -> Vec<QueueOperation> {
    const FILLED: Steps = &[Put(HALF), Put(REST)];
    /// As often as it takes but once: the first of them has used much.
    const NEARLY: Step = GetNothings(LULLS);
    const BURST: Steps = &[Stretch(BULK), NEARLY];
    /// The second lap ends late enough to be ended before its time.
    const TWO_LAPS: Steps = &[Stretch(BULK), Stretch(BULK / 4)];
    /// The lap is long enough to be ended, and used little of what is there.
    const LITTLE: Steps = &[Stretch(BULK), NEARLY, Stretch(BULK / 5)];
    /// A short lap after a long one.
    const SHORT_LAP: Steps = &[Stretch(BULK), NEARLY, Put(HALF), Get];
    vec![
        row("join", 16, &[], &[Join]).met_by(PASS),
        row("join, in vain", 64, &[ONE], &[JoinInVain]).met_by(PASS),
        row("shutdown", 4, &[ONE], &[Shut]).met_by(&[Get]),
        row("shutdown, a consumer sleeps", 4, &[], &[Shut]).awaited(Get, &[Shut]),
        row("shutdown, a producer sleeps", 4, &[Fill(MESSAGE)], &[Shut]).awaited(ONE, &[Shut]),
        row("stat", 32, &[Puts(2, MESSAGE)], &[Stat])
            .after(&[Lease])
            .met_by(PASS),
        row("growth: put", 64, FILLED, &[Put(BEYOND)])
            .of(USUAL)
            .held_up(PASS),
        row("growth: put_many", 96, FILLED, &[PutMany(2, BEYOND)])
            .of(USUAL)
            .met_by(PASS),
        row("growth: reserve", 96, FILLED, &[Reserve(BEYOND)])
            .of(USUAL)
            .met_by(PASS),
        row("memory back: after a burst", 96, BURST, &[GetNothing])
            .of(USUAL)
            .held_up(PASS),
        row(
            "memory back: the lap ends first",
            96,
            TWO_LAPS,
            &[GetNothing],
        )
        .of(USUAL)
        .met_by(PASS),
        row("memory back: and the lap ends", 96, LITTLE, &[GetNothing])
            .of(USUAL)
            .met_by(PASS),
        row("memory back: a short lap", 96, SHORT_LAP, &[ONE])
            .of(USUAL)
            .met_by(PASS),
    ]
}

/// Those that find what the dead have left.
fn recoveries() -> Vec<QueueOperation> {
    const DEAD_FIRST: Steps = &[Reserve(MESSAGE), ONE];
    const ALL_BUT_DEAD: Steps = &[Reserve(MESSAGE), Reserve(MESSAGE), Fill(MESSAGE)];
    const PAIR_HALFWAY: Steps = &[Puts(2, MESSAGE), Lease, ONE, Halfway(&Get)];
    const LENT_HALFWAY: Steps = &[Puts(2, MESSAGE), Halfway(&Lease)];
    vec![
        row("recovery: reserved, get", 32, DEAD_FIRST, &[Get]).held_up(PASS),
        row("recovery: reserved, put", 64, ALL_BUT_DEAD, &[ONE]).met_by(&[Drain, ONE]),
        row(
            "recovery: reserved, get nothing",
            64,
            &[Reserve(MESSAGE)],
            &[GetNothing],
        )
        .met_by(PASS),
        row(
            "recovery: leased, put",
            64,
            &[Fill(MESSAGE), Lease],
            &[PutFull(MESSAGE)],
        )
        .met_by(&[Drain, ONE]),
        row(
            "recovery: leased, shut, get",
            64,
            &[ONE, Lease, Shut],
            &[Get],
        )
        .met_by(&[Get]),
        row("recovery: leased halfway, get", 64, LENT_HALFWAY, &[Get]).held_up(PASS),
        row("recovery: leased halfway, stat", 64, LENT_HALFWAY, &[Stat]).met_by(PASS),
        row(
            "recovery: got halfway, get",
            64,
            &[Puts(3, MESSAGE), Lease, Halfway(&Get)],
            &[Get],
        )
        .met_by(PASS),
        row(
            "recovery: got halfway, put",
            64,
            &[Fill(MESSAGE), Lease, Halfway(&Get)],
            &[PutFull(MESSAGE)],
        )
        .met_by(&[Drain, ONE]),
        row(
            "recovery: got halfway, put, two at the most",
            64,
            PAIR_HALFWAY,
            &[ONE],
        )
        .of(PAIR)
        .met_by(&[Drain, ONE]),
        row("recovery: P, put", 32, &[ONE, HeldP], &[ONE]).held_up(PASS),
        row("recovery: C, get", 32, &[ONE, HeldC], &[Get]).held_up(PASS),
        row(
            "recovery: P and C, put",
            64,
            &[Fill(MESSAGE), Drain, HeldP, HeldC],
            &[ONE, Get],
        )
        .met_by(PASS),
        row(
            "recovery: P and C, put, overwrites",
            64,
            &[Puts(LAP + 1, MESSAGE), HeldP, HeldC],
            &[ONE],
        )
        .of(NEWEST)
        .met_by(PASS),
    ]
}

/// One that spends its time in long system calls: two steps of the library.
pub fn long_one() -> QueueOperation {
    const HUGE: usize = 128 << 20;
    row(
        "growth, large, at random times",
        1,
        &[ONE],
        &[Stretch(HUGE)],
    )
    .of(USUAL)
}

/// The operations of queues, those that take longest first.
pub fn operations() -> Vec<QueueOperation> {
    let all = [others(), recoveries(), gets(), puts()];
    all.into_iter().flatten().collect()
}
