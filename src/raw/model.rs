//! Models of the locks for loom, which runs every interleaving that the memory model allows.
//!
//! The futex is modelled without deadlines: whoever sleeps for ever is a deadlock, and fails.

mod barrier;
mod condition;
mod event;
mod lock;
mod once;
mod queue;
mod rwlock;
mod semaphore;

use super::{Liveness, WaitOptions};
use crate::error::Result;
use crate::participant::Id;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::time::Duration;

/// Gives up at the first look after a sleep.
const SHORT: WaitOptions = WaitOptions::after(Duration::from_nanos(1));

fn id(slot: usize) -> Id {
    Id::of(slot as u64 + 1 | (slot as u64 + 1) << 13).expect("an owner")
}

/// Everybody lives but these, once they have died.
struct World {
    mortals: [(Id, AtomicBool); 2],
}

impl World {
    fn new() -> World {
        World {
            mortals: [8, 9].map(|slot| (id(slot), AtomicBool::new(false))),
        }
    }

    /// Says that the mortal of this number has died.
    fn dies(&self, number: usize) {
        // PAIRS model.death
        self.mortals[number].1.store(true, Ordering::Release);
    }
}

impl Liveness for World {
    fn is_dead(&self, id: Id) -> Result<bool> {
        // Cells know the ticket alone.
        let mut mortals = self.mortals.iter();
        let mortal = mortals.find(|mortal| mortal.0.ticket() == id.ticket());
        // PAIRS model.death, as the kernel's unlocking does: what the dead did is seen by who finds it dead.
        Ok(mortal.is_some_and(|mortal| mortal.1.load(Ordering::Acquire)))
    }
}

fn each(count: usize, body: impl Fn(usize) + Clone + Send + 'static) {
    let threads: Vec<_> = (1..count)
        .map(|number| {
            let body = body.clone();
            thread::spawn(move || body(number))
        })
        .collect();
    body(0);
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // Steps of one execution: loom's own 1,000 are too few where three wait for each other.
    builder.max_branches = 5_000;
    builder.check(body);
}
