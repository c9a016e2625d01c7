//! Barriers in the Rust API.
//!
//! | module    | what is tested                                                              |
//! |-----------|-----------------------------------------------------------------------------|
//! | `turn`    | turns: places, processes, threads, more waiters than parties                |
//! | `broken`  | abort, reset, timeouts, interrupts                                           |
//! | `death`   | parties that die waiting, holding, or elsewhere; stopped parties             |
//! | `hold`    | the last party holds the others                                             |
//! | `place`   | placed, named, handed over; invalid options                                  |
//! | `hostile` | corrupt words and cells                                                     |

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

/// The timeout of a wait that must end by itself.
const ONE_MINUTE: WaitOptions = within(60_000_000_000);

fn unnamed(parties: u32) -> Barrier {
    Barrier::unnamed(&Options::of(parties)).unwrap()
}

/// Creates or opens the barrier at this offset.
fn at(segment: &Arc<Segment>, offset: u64, parties: u32) -> Barrier {
    let options = Options::of(parties);
    Barrier::at(segment, offset, Create::IfMissing, &options).unwrap()
}

fn wait(barrier: &Barrier) -> Result<u32> {
    barrier.wait_with(ONE_MINUTE, Last::Passes)
}

/// Sleeps until the process is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Waits until `count` parties wait at the barrier.
fn await_waiting(barrier: &Barrier, count: u32) {
    wait_until(|| barrier.stat().waiting == count);
}

/// Forks a process that waits, and returns when `others + 1` parties wait.
fn waiter(barrier: &Barrier, others: u32) -> Child {
    let child = fork(|| {
        let _ = barrier.wait_with(WaitOptions::BLOCKING, Last::Passes);
        stay();
    });
    await_waiting(barrier, others + 1);
    child
}

/// Forks a process whose wait must fail with `Broken`, and returns when `others + 1` parties wait.
fn broken_waiter(barrier: &Barrier, others: u32) -> Child {
    let child = fork(|| drop(refused!(Broken, wait(barrier))));
    await_waiting(barrier, others + 1);
    child
}

/// Completes one turn, each party in a process of its own.
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
