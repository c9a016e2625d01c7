//! Models of the primitives for loom, which runs every interleaving that the memory model allows.
//!
//! The futex is modelled without deadlines (D-024): a thread that sleeps forever is a deadlock, and fails the model.

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
use crate::sys::fork::Origin;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::time::Duration;

/// A timeout that ends at the first check after a sleep.
const SHORT: WaitOptions = WaitOptions::after(Duration::from_nanos(1));

fn id(slot: usize) -> Id {
    Id::of(slot as u64 + 1 | (slot as u64 + 1) << 13).expect("an owner")
}

/// The liveness of a model: all processes live, except those of `killable` that have died.
struct World {
    killable: [(Id, AtomicBool); 2],
}

impl World {
    fn new() -> World {
        World {
            killable: [8, 9].map(|slot| (id(slot), AtomicBool::new(false))),
        }
    }

    /// Marks the killable process of this number as dead.
    fn kill(&self, number: usize) {
        // PAIRS model.death
        self.killable[number].1.store(true, Ordering::Release);
    }
}

impl Liveness for World {
    fn is_dead(&self, id: Id, _: Origin) -> Result<bool> {
        // Count slots store the ticket alone.
        let mut killable = self.killable.iter();
        let process = killable.find(|process| process.0.ticket() == id.ticket());
        // PAIRS model.death, as unlocking by the kernel does: a process that finds another dead sees what that one did.
        Ok(process.is_some_and(|process| process.1.load(Ordering::Acquire)))
    }

    fn origin(&self, _: Id) -> Origin {
        Origin::here()
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
    // Steps of one execution: loom's own limit of 1,000 is too low where three threads wait for each other.
    builder.max_branches = 5_000;
    builder.check(body);
}
