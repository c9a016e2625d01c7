//! Queues: each series lists the steps of an earlier process, of the victim, and of its bystander.
//!
//! | bystander | what it does                                         | what it must do                               |
//! |-----------|------------------------------------------------------|-----------------------------------------------|
//! | runs      | its steps, while the victim is stopped               | complete them all once the victim is dead     |
//! | waits     | one step, in which it waits before the victim begins | end no later than after the steps in `helps`  |

pub mod life_cycle;

use crate::suite::capi::queue::{IDLE_LAPS, Queue, Shape};
use crate::suite::capi::{EMPTY, FULL, SHUT_DOWN, Status, Way, status};
use crate::suite::harness::fixture::NAME;
use crate::suite::harness::library::Library;
use crate::suite::harness::message_log::MessageLog;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::{self, expect_good_end};
use crate::suite::harness::queue_audit::{self, Expected};
use crate::suite::harness::queue_worker::{QueueWorker, Step};
use crate::suite::harness::shared_state::shared_state;
use nix::unistd::Pid;
use std::sync::OnceLock;

/// The processes that have an inbox.
const VICTIM: usize = 0;
const BYSTANDER: usize = 1;
const WAITER: usize = 2;
const SETUP: usize = 3;
const SURVIVOR: usize = 4;
const PROCESSES: usize = 5;

/// More messages than any series puts.
const MESSAGES: usize = 4096;

type Steps = &'static [Step];

/// An operation of queues.
pub struct QueueOperation {
    name: &'static str,
    every: usize,
    shape: Shape,
    /// The steps of a process that dies before the victim starts.
    setup: Steps,
    /// The steps of the victim before its marker.
    before: Steps,
    victim: Steps,
    /// The steps of a bystander that runs.
    bystander: Steps,
    /// Whether that bystander must wait at some of the points.
    blocks: bool,
    /// Whether that bystander may get messages only when the victim is dead.
    only_then: bool,
    /// The step of a bystander that waits.
    waits: Option<Step>,
    /// The steps that help it once the victim is dead.
    helps: Steps,
    log: OnceLock<MessageLog>,
}

impl QueueOperation {
    fn log(&self) -> &MessageLog {
        self.log
            .get_or_init(|| MessageLog::new(MESSAGES, PROCESSES))
    }

    fn help_waiter(&self, worker: &mut QueueWorker, waiter: Pid) -> Result<(), Status> {
        shared_state().await_end_of_victim();
        for step in self.helps {
            match worker.perform(step) {
                // The waiter may have been faster.
                Ok(()) | Err(EMPTY | FULL | SHUT_DOWN) => {}
                Err(status) => return Err(status),
            }
        }
        expect_good_end(waiter);
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

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        // Before the forks, so that all processes share it.
        let log = self.log();
        log.clear();
        Some(Box::new(move || {
            let queue = Queue::named(shmkit, Some(NAME), Way::Create, self.shape);
            let queue = queue.expect("the queue is created");
            queue.close().expect("the queue is open");
            process::run_and_die(|| {
                let mut worker = QueueWorker::open(shmkit, self.shape, log, SETUP);
                worker
                    .perform_all(self.setup)
                    .expect("the process is alone");
            });
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let log = self.log();
        let mut worker = QueueWorker::open(shmkit, self.shape, log, VICTIM);
        worker
            .perform_all(self.before)
            .expect("the process is alone");
        worker.build_messages(self.victim);
        Box::new(move || status(worker.perform_all(self.victim)))
    }

    fn blocks_bystander(&self) -> bool {
        self.blocks
    }

    fn has_bystander(&self) -> bool {
        !self.bystander.is_empty()
    }

    fn bystander_waits_first(&self) -> bool {
        self.waits.is_some()
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let log = self.log();
        let mut worker = QueueWorker::open(shmkit, self.shape, log, BYSTANDER);
        let Some(step) = &self.waits else {
            return Some(Box::new(move || status(worker.perform_all(self.bystander))));
        };
        let waiter = QueueWorker::of(shmkit, worker.queue, log, WAITER).start(step);
        Some(Box::new(move || {
            status(self.help_waiter(&mut worker, waiter))
        }))
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Failure> {
        match self.only_then && passed && self.log().received() > 0 {
            true => Err(Violation::NotExclusive
                .failure("the bystander got a message that the live victim has leased")),
            false => Ok(()),
        }
    }

    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let log = self.log();
        log.inbox(VICTIM).write_off();
        queue_audit::audit(
            verifier,
            self.shape,
            log,
            SURVIVOR,
            &Expected {
                // The victim, and a process before it.
                deaths: 2,
                ordered: self.bystander.is_empty() && self.waits.is_none(),
                table: false,
            },
        )
    }
}

/// Small enough that the steps reach the end of a lap: a dozen messages of `MESSAGE` bytes.
const TINY: Shape = Shape {
    capacity: 1024,
    maxsize: 0,
    overwrites: false,
};
/// With room for large messages, and memory for all of it.
const ROOMY: Shape = Shape {
    capacity: 1 << 20,
    ..TINY
};
/// Without options.
const DEFAULT: Shape = Shape {
    capacity: 0,
    ..TINY
};
/// Bounded by messages.
const PAIR: Shape = Shape { maxsize: 2, ..TINY };
/// Overwrites the oldest messages.
const OVERWRITING: Shape = Shape {
    overwrites: true,
    ..TINY
};
/// As `OVERWRITING`, bounded by messages.
const OVERWRITING_PAIR: Shape = Shape {
    overwrites: true,
    ..PAIR
};

/// Eleven of these fill a lap of a `TINY` queue; a twelfth does not fit behind them.
const MESSAGE: usize = 64;
const LAP: usize = 11;
/// Large enough to be copied without a lock.
const LARGE: usize = 64 << 10;
/// The first two nearly fill the memory that a queue has at first; the third exceeds it.
const HALF: usize = 40_000;
const REST: usize = 24_000;
const BEYOND: usize = 1000;
/// More than the memory that an idle queue keeps.
const BULK: usize = 3 << 20;

/// A series without a bystander.
fn row(name: &'static str, every: usize, setup: Steps, victim: Steps) -> QueueOperation {
    QueueOperation {
        name,
        every,
        shape: TINY,
        setup,
        before: &[],
        victim,
        bystander: &[],
        blocks: false,
        only_then: false,
        waits: None,
        helps: &[],
        log: OnceLock::new(),
    }
}

impl QueueOperation {
    fn of(self, shape: Shape) -> Self {
        QueueOperation { shape, ..self }
    }

    fn after(self, before: Steps) -> Self {
        QueueOperation { before, ..self }
    }

    /// With a bystander that must wait at some of the points.
    fn blocks(self, bystander: Steps) -> Self {
        QueueOperation {
            bystander,
            blocks: true,
            ..self
        }
    }

    /// With a bystander that need not wait.
    fn beside(self, bystander: Steps) -> Self {
        QueueOperation { bystander, ..self }
    }

    /// With a bystander that waits before the victim begins.
    fn wakes(self, step: Step, helps: Steps) -> Self {
        QueueOperation {
            waits: Some(step),
            helps,
            ..self
        }
    }

    /// The bystander may get messages only when the victim is dead.
    fn only_then(self) -> Self {
        QueueOperation {
            only_then: true,
            ..self
        }
    }
}

use Step::{
    Abort, Ack, Commit, DiedHoldingC, DiedHoldingP, Drain, Fill, Get, GetMany, GetTimesOut, Gets,
    Halfway, Join, JoinTimesOut, Lease, Nack, Peek, Put, PutMany, PutTimesOut, Puts, Reserve,
    ReserveAndAbort, Shutdown, Stat, TryGet, TryGets, TryPut,
};

const ONE: Step = Put(MESSAGE);
const PASS: Steps = &[ONE, Get];

/// Producers.
fn puts() -> Vec<QueueOperation> {
    const EMPTIED: Steps = &[Puts(LAP, MESSAGE), Gets(LAP)];
    const FULL: Steps = &[Fill(MESSAGE)];
    const SLOT: Steps = &[Reserve(MESSAGE)];
    const SLOT_AND_ONE: Steps = &[Reserve(MESSAGE), ONE];
    const DRAIN_AND_PASS: Steps = &[Drain, ONE, Get];
    vec![
        row("put", 8, &[ONE], &[ONE]).blocks(PASS),
        row("put, a consumer waits", 8, &[], &[ONE]).wakes(Get, &[ONE]),
        row("put, at the lap's end", 16, EMPTIED, &[ONE]).blocks(PASS),
        row("put, large", 32, &[ONE], &[Put(LARGE)])
            .of(ROOMY)
            .beside(PASS),
        row("put, large, a consumer waits", 64, &[], &[Put(LARGE)])
            .of(ROOMY)
            .wakes(Get, &[ONE]),
        row("put, full", 64, FULL, &[TryPut(MESSAGE)]).beside(DRAIN_AND_PASS),
        row("put, times out", 64, FULL, &[PutTimesOut(MESSAGE)]).beside(DRAIN_AND_PASS),
        row("put, maxsize 2", 32, &[Puts(2, MESSAGE), Get], &[ONE])
            .of(PAIR)
            .beside(DRAIN_AND_PASS),
        row(
            "put, maxsize 2, a reservation is dead",
            32,
            &[ONE, Reserve(MESSAGE)],
            &[ONE],
        )
        .of(PAIR)
        .beside(DRAIN_AND_PASS),
        row("put, overwrites", 32, &[Puts(LAP + 1, MESSAGE)], &[ONE])
            .of(OVERWRITING)
            .blocks(PASS),
        row(
            "put, overwrites, maxsize 2",
            32,
            &[Puts(2, MESSAGE)],
            &[ONE],
        )
        .of(OVERWRITING_PAIR)
        .beside(PASS),
        row("put_many", 32, &[ONE], &[PutMany(3, MESSAGE)]).blocks(PASS),
        row(
            "put_many, over the lap's end",
            32,
            &[Puts(9, MESSAGE), Gets(9)],
            &[PutMany(5, MESSAGE)],
        )
        .beside(PASS),
        row(
            "put_many, a consumer waits",
            64,
            &[],
            &[PutMany(3, MESSAGE)],
        )
        .wakes(Get, &[ONE]),
        row("reserve", 16, &[ONE], SLOT).beside(PASS),
        row("reserve, at the lap's end", 32, EMPTIED, SLOT).beside(PASS),
        row("commit", 4, &[ONE], &[Commit]).after(SLOT).beside(PASS),
        row("commit, a consumer waits", 4, &[], &[Commit])
            .after(SLOT)
            .wakes(Get, &[ONE]),
        row(
            "commit, a message behind, a consumer waits",
            4,
            &[],
            &[Commit],
        )
        .after(SLOT_AND_ONE)
        .wakes(Get, &[]),
        row("abort", 16, &[ONE], &[Abort]).after(SLOT).beside(PASS),
        row(
            "abort, a message behind, a consumer waits",
            32,
            &[],
            &[Abort],
        )
        .after(SLOT_AND_ONE)
        .wakes(Get, &[]),
        row("abort, a producer waits", 32, &[ONE], &[Abort])
            .of(PAIR)
            .after(SLOT)
            .wakes(ONE, &[]),
    ]
}

/// Consumers.
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
        row("get", 16, TWO, &[Get]).blocks(PASS),
        row("get, a producer waits", 32, FULL, &[Gets(2)]).wakes(ONE, &[Drain]),
        row("get, behind the lap's end", 16, PADDED, &[Get]).beside(PASS),
        row("get, large", 32, &[Put(LARGE), ONE], &[Get])
            .of(ROOMY)
            .beside(PASS),
        row("get, beside leases", 16, THREE, &[Get])
            .after(&[Lease])
            .beside(PASS),
        row("get, at the lap's end, beside leases", 32, PADDED, &[Get])
            .after(&[Lease, ONE])
            .beside(PASS),
        row("get, redelivered", 64, &[ONE, Lease, ONE], &[Gets(2)]).blocks(PASS),
        row("get, large, redelivered", 64, &[Put(LARGE), Lease], &[Get]).of(ROOMY),
        row("get, times out", 64, &[], &[GetTimesOut]).beside(PASS),
        row("get, empty", 64, &[], &[TryGet]).beside(PASS),
        row("peek", 16, TWO, &[Peek]).beside(PASS),
        row("get_many", 32, FOUR, &[GetMany(3)]).blocks(PASS),
        row("get_many, over a dead reservation", 32, HOLE, &[GetMany(3)]).beside(PASS),
        row("get_many, over the lap's end", 32, SPLIT, &[GetMany(4)]).beside(PASS),
        row("get_many, beside leases", 32, FOUR, &[GetMany(3)])
            .after(&[Lease])
            .beside(PASS),
        row("get_many, a producer waits", 64, FULL, &[GetMany(3)]).wakes(ONE, &[Drain]),
        row("lease", 16, TWO, &[Lease]).beside(PASS),
        row("lease, redelivered", 64, &[ONE, Lease], &[Lease]).beside(PASS),
        row("ack", 32, THREE, &[Ack(0)]).after(BOTH).beside(PASS),
        row("ack, not the oldest", 8, THREE, &[Ack(1)])
            .after(BOTH)
            .beside(PASS),
        row("ack, beside a consumer", 16, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .beside(&[TryGet])
            .only_then(),
        row("ack, a producer waits", 32, FULL, &[Ack(0), Ack(0)])
            .after(BOTH)
            .wakes(ONE, &[Drain]),
        row("ack, a join waits", 32, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .wakes(Join, &[Drain]),
        row("ack, a consumer waits", 32, &[ONE], &[Ack(0)])
            .after(&[Lease])
            .wakes(Get, &[ONE]),
        row("nack", 8, TWO, &[Nack(0)]).after(&[Lease]).beside(PASS),
        row("nack, a consumer waits", 8, &[ONE], &[Nack(0)])
            .after(&[Lease])
            .wakes(Get, &[]),
    ]
}

/// Other operations, and changes of the memory.
fn others() -> Vec<QueueOperation> {
    const FILLED: Steps = &[Put(HALF), Put(REST)];
    /// One get fewer than the release of memory needs. The first of them ends a lap that used much memory.
    const NEARLY: Step = TryGets(IDLE_LAPS);
    const BURST: Steps = &[ReserveAndAbort(BULK), NEARLY];
    /// The second lap is long enough to be ended early.
    const TWO_LAPS: Steps = &[ReserveAndAbort(BULK), ReserveAndAbort(BULK / 4)];
    /// The lap is long enough to end, and used little of the memory.
    const LITTLE: Steps = &[ReserveAndAbort(BULK), NEARLY, ReserveAndAbort(BULK / 5)];
    /// A short lap after a long one.
    const SHORT_LAP: Steps = &[ReserveAndAbort(BULK), NEARLY, Put(HALF), Get];
    vec![
        row("join", 16, &[], &[Join]).beside(PASS),
        row("join, times out", 64, &[ONE], &[JoinTimesOut]).beside(PASS),
        row("shutdown", 4, &[ONE], &[Shutdown]).beside(&[Get]),
        row("shutdown, a consumer waits", 4, &[], &[Shutdown]).wakes(Get, &[Shutdown]),
        row(
            "shutdown, a producer waits",
            4,
            &[Fill(MESSAGE)],
            &[Shutdown],
        )
        .wakes(ONE, &[Shutdown]),
        row("stat", 32, &[Puts(2, MESSAGE)], &[Stat])
            .after(&[Lease])
            .beside(PASS),
        row("growth: put", 64, FILLED, &[Put(BEYOND)])
            .of(DEFAULT)
            .blocks(PASS),
        row("growth: put_many", 96, FILLED, &[PutMany(2, BEYOND)])
            .of(DEFAULT)
            .beside(PASS),
        row("growth: reserve", 96, FILLED, &[Reserve(BEYOND)])
            .of(DEFAULT)
            .beside(PASS),
        row("memory release: after a burst", 96, BURST, &[TryGet])
            .of(DEFAULT)
            .blocks(PASS),
        row(
            "memory release: the lap ends first",
            96,
            TWO_LAPS,
            &[TryGet],
        )
        .of(DEFAULT)
        .beside(PASS),
        row(
            "memory release: with the end of the lap",
            96,
            LITTLE,
            &[TryGet],
        )
        .of(DEFAULT)
        .beside(PASS),
        row("memory release: a short lap", 96, SHORT_LAP, &[ONE])
            .of(DEFAULT)
            .beside(PASS),
    ]
}

/// Recovery of what dead processes have left.
fn recoveries() -> Vec<QueueOperation> {
    const DEAD_FIRST: Steps = &[Reserve(MESSAGE), ONE];
    const ALL_BUT_DEAD: Steps = &[Reserve(MESSAGE), Reserve(MESSAGE), Fill(MESSAGE)];
    const PAIR_HALFWAY: Steps = &[Puts(2, MESSAGE), Lease, ONE, Halfway(&Get)];
    const LENT_HALFWAY: Steps = &[Puts(2, MESSAGE), Halfway(&Lease)];
    vec![
        row("recovery: reserved, get", 32, DEAD_FIRST, &[Get]).blocks(PASS),
        row("recovery: reserved, put", 64, ALL_BUT_DEAD, &[ONE]).beside(&[Drain, ONE]),
        row(
            "recovery: reserved, get, empty",
            64,
            &[Reserve(MESSAGE)],
            &[TryGet],
        )
        .beside(PASS),
        row(
            "recovery: leased, put",
            64,
            &[Fill(MESSAGE), Lease],
            &[TryPut(MESSAGE)],
        )
        .beside(&[Drain, ONE]),
        row(
            "recovery: leased, shut down, get",
            64,
            &[ONE, Lease, Shutdown],
            &[Get],
        )
        .beside(&[Get]),
        row("recovery: leased halfway, get", 64, LENT_HALFWAY, &[Get]).blocks(PASS),
        row("recovery: leased halfway, stat", 64, LENT_HALFWAY, &[Stat]).beside(PASS),
        row(
            "recovery: got halfway, get",
            64,
            &[Puts(3, MESSAGE), Lease, Halfway(&Get)],
            &[Get],
        )
        .beside(PASS),
        row(
            "recovery: got halfway, put",
            64,
            &[Fill(MESSAGE), Lease, Halfway(&Get)],
            &[TryPut(MESSAGE)],
        )
        .beside(&[Drain, ONE]),
        row(
            "recovery: got halfway, put, maxsize 2",
            64,
            PAIR_HALFWAY,
            &[ONE],
        )
        .of(PAIR)
        .beside(&[Drain, ONE]),
        row(
            "recovery: producer lock, put",
            32,
            &[ONE, DiedHoldingP],
            &[ONE],
        )
        .blocks(PASS),
        row(
            "recovery: consumer lock, get",
            32,
            &[ONE, DiedHoldingC],
            &[Get],
        )
        .blocks(PASS),
        row(
            "recovery: both locks, put",
            64,
            &[Fill(MESSAGE), Drain, DiedHoldingP, DiedHoldingC],
            &[ONE, Get],
        )
        .beside(PASS),
        row(
            "recovery: both locks, put, overwrites",
            64,
            &[Puts(LAP + 1, MESSAGE), DiedHoldingP, DiedHoldingC],
            &[ONE],
        )
        .of(OVERWRITING)
        .beside(PASS),
    ]
}

/// Returns an operation that spends its time in long system calls: two steps of a reservation.
pub fn long_operation() -> QueueOperation {
    const HUGE: usize = 128 << 20;
    row(
        "growth, large, at random times",
        1,
        &[ONE],
        &[ReserveAndAbort(HUGE)],
    )
    .of(DEFAULT)
}

/// The operations of queues, slowest first.
pub fn operations() -> Vec<QueueOperation> {
    let all = [others(), recoveries(), gets(), puts()];
    all.into_iter().flatten().collect()
}
