//! Series that kill at random times, one file a noun. A flaw makes one broken on purpose: a self-test.

pub mod lock;
pub mod participant;
pub mod queue;
pub mod random;
pub mod segment;
pub mod workers;
