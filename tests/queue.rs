//! The queue, as the Rust API has it: many put and get, wait, fill and read in place, and die.

#[macro_use]
mod common;

#[path = "queue/crowd.rs"]
mod crowd;
#[path = "queue/hostile.rs"]
mod hostile;
#[path = "queue/order.rs"]
mod order;
#[path = "queue/property.rs"]
mod property;

use shmkit::queue::{Limit, Options, Patience, Queue};

/// Whoever waits so long has lost: a watchdog, not a measure.
const LONG: Patience = Patience {
    limit: Limit::Within(60_000_000_000),
    interruptible: false,
};

fn unnamed(options: Options) -> Queue {
    Queue::unnamed(&options).unwrap()
}
