//! Barriers, as the Rust API has them.
//!
//! | module    | what is tested                                                              |
//! |-----------|-----------------------------------------------------------------------------|
//! | `turn`    | turn after turn: places, processes, threads, more parties than are needed    |
//! | `broken`  | abort, reset, timeouts, interrupts                                           |
//! | `death`   | who dies waiting, holding, or elsewhere; who is stopped, or cannot ask       |
//! | `hold`    | the last to come holds the others                                            |
//! | `place`   | at an offset, by name, handed over; bad options                              |
//! | `hostile` | words and cells that make no sense                                           |

#[macro_use]
mod common;

#[path = "barrier/broken.rs"]
mod broken;
#[path = "barrier/death.rs"]
mod death;
#[path = "barrier/hold.rs"]
mod hold;
#[path = "barrier/hostile.rs"]
mod hostile;
#[path = "barrier/place.rs"]
mod place;
#[path = "barrier/turn.rs"]
mod turn;

use common::process::{Child, fork, wait_until};
use common::{managed, within};
use shmkit::barrier::{Barrier, Create, Last, Options};
use shmkit::error::Result;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::sync::Arc;

/// How long a wait may last that is to end by itself.
const ONE_MINUTE: WaitOptions = within(60_000_000_000);

fn unnamed(parties: u32) -> Barrier {
    Barrier::unnamed(&Options::of(parties)).unwrap()
}

/// Makes or finds the barrier at this offset.
fn at(segment: &Arc<Segment>, offset: u64, parties: u32) -> Barrier {
    let options = Options::of(parties);
    Barrier::at(segment, offset, Create::IfMissing, &options).unwrap()
}

fn wait(barrier: &Barrier) -> Result<u32> {
    barrier.wait_with(ONE_MINUTE, Last::Passes)
}

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Waits until so many wait at the barrier.
fn await_waiting(barrier: &Barrier, count: u32) {
    wait_until(|| barrier.stat().waiting == count);
}

/// Forks a process that waits, and returns when it does, after so many others.
fn waiter(barrier: &Barrier, others: u32) -> Child {
    let child = fork(|| {
        let _ = barrier.wait_with(WaitOptions::BLOCKING, Last::Passes);
        stay();
    });
    await_waiting(barrier, others + 1);
    child
}

/// Forks a process that must be told that the barrier is broken, and returns when it waits, after so many others.
fn one_to_be_told(barrier: &Barrier, others: u32) -> Child {
    let child = fork(|| drop(refused!(Broken, wait(barrier))));
    await_waiting(barrier, others + 1);
    child
}

/// Has all parties come once, in processes of their own.
#[track_caller]
fn use_once(barrier: &Barrier) {
    let turns = barrier.stat().turns;
    let others: Vec<_> = (1..barrier.parties())
        .map(|_| fork(|| assert!(wait(barrier).is_ok())))
        .collect();
    assert!(wait(barrier).is_ok());
    for other in others {
        other.succeed();
    }
    let stat = barrier.stat();
    assert_eq!(
        (stat.turns, stat.waiting, stat.broken),
        (turns + 1, 0, false)
    );
}
