//! Series that kill the victim at every instruction of one operation, one file a noun.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod once;
pub mod queue;
pub mod rwlock;
pub mod segment;
pub mod semaphore;
