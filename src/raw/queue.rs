//! The queue: messages of any length in a ring, put by many producers and got by many consumers.
//!
//! ```text
//! words: | kind, capacity, bounds | producer lock, tail | consumer lock, claim, head | event counts |
//! ring:  | record | record | PAD | … | free … |
//!
//!        head            claim                         tail
//!  | free | LEASED DONE … | READY READY RESERVED READY … | free |
//! ```
//!
//! A bounded ring for many producers and consumers in which each record holds its own position, so that a record of an
//! earlier lap is recognized, as in Vyukov's bounded MPMC queue
//! (<https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue>). There each slot is claimed
//! without a lock; here records have any length and their makers may die, so robust locks guard both ends.
//!
//! `queue/record.rs` has the states of a record, `queue/place.rs` says where the next one goes, `queue/cursor.rs` how a
//! position and the number of messages before it change in one step, `queue/memory.rs` how the ring grows, and
//! `queue/event_count.rs` how one side waits for the other.
//!
//! The producer lock is for puts, the consumer lock for gets. If a process dies in
//!   put:     before the store of tail nothing has happened; after it the message is in the queue;
//!   reserve: likewise; after it the record is skipped, because its producer is dead;
//!   commit:  before its exchange the record is skipped; after it the message is in the queue;
//!   get:     before the store of claim (with leases: of DONE) the message is in the queue; after it, it is taken;
//!   lease:   before the record is LEASED it is in the queue; after that it is READY again, because its reader is dead;
//!   ack:     before its exchange as in lease; after it the message is taken;
//!   nack:    in the queue either way;
//!   growth:  the next owner of the producer lock sets the same memory aside once more.
//! A process that dies with either lock leaves nothing half done that others could see: the next owner just goes on.

mod cursor;
mod event_count;
mod find;
mod get;
mod memory;
mod place;
mod put;
pub mod record;
mod stat;
mod token;

use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions, lock};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::WaitSet;
use cursor::Cursor;
use event_count::EventCount;
pub use get::{Lease, Taken};
pub use put::{Batch, Reservation};
pub use record::Laps;
use record::{RECORD_HEADER, Record, Ring, State};
pub use stat::QueueInfo;
use std::time::Duration;

/// The least bytes that messages may have together.
pub const MIN_CAPACITY: u64 = 1 << 10;
/// So many more bytes the ring has than its capacity says, so that a message may have half of that.
pub const RING_SLACK: u64 = 4 * RECORD_HEADER;
/// The most bytes a queue can have room for: 64 TiB.
pub const MAX_CAPACITY: u64 = 1 << 46;

/// In `RawQueue::head`: nothing is leased, and claim is the first record that is needed. No position has this bit.
const AS_CLAIM: u64 = 1;

/// A message this large is copied without holding a lock: reserved and committed, leased and acknowledged.
pub const LARGE_MESSAGE: u64 = 64 << 10;

/// A queue in shared memory.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawQueue {
    /// What it is and how it was made: `object` says how.
    pub tag: std::sync::atomic::AtomicU64,
    capacity: AtomicU64,
    max_messages: AtomicU64,
    max_bytes: AtomicU64,
    /// Nonzero: nothing more is put.
    shut_down: AtomicU64,
    overwritten: AtomicU64,
    skipped: AtomicU64,
    redelivered: AtomicU64,

    /// Held by every put.
    pub(super) producer_lock: lock::RawLock,
    tail: Cursor,
    /// Up to this position tail may go without a check: it is free, has memory, and the lap need not end before.
    checked_until: AtomicU64,
    /// The position of the PAD that ended the last lap.
    wrap_position: AtomicU64,
    /// How many bytes of the ring can be used: they have memory.
    usable: AtomicU64,
    /// How many bytes may have memory: never less than `usable`.
    committed_bytes: AtomicU64,
    /// Behind the last record that was reserved.
    reserved: AtomicU64,
    /// How many messages and bytes were taken when a producer last looked.
    known_messages: AtomicU64,
    known_bytes: AtomicU64,
    /// How many reservations were committed or given up, at the least.
    resolved_reservations: AtomicU64,
    /// How many laps in a row have used little of the memory.
    idle_laps: AtomicU64,

    /// Held by every get.
    pub(super) consumer_lock: lock::RawLock,
    claim: Cursor,
    /// The first record that is still needed, or AS_CLAIM.
    head: AtomicU64,
    /// Where tail was when a consumer last looked.
    known_tail: AtomicU64,
    /// Where the next look for what the dead had leased begins.
    search: AtomicU64,
    /// Nonzero: a lease was given back.
    returned: AtomicU64,
    unused: [AtomicU64; 5],

    /// Notified when there may be a message.
    messages: EventCount,
    /// Notified when there may be room.
    room: EventCount,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawQueue>() == 576);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawQueue {}

/// How much a queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many bytes there may be in all, counting 32 and more for each message; a message may have half of it.
    pub capacity: u64,
    /// How many messages; 0: any number.
    pub messages: u64,
    /// How many bytes they may have together; 0: any number.
    pub bytes: u64,
    /// How many bytes the largest message may have: follows from the others.
    pub largest: u64,
}

impl Bounds {
    /// Returns these bounds. `None`: no queue can have them.
    pub fn new(capacity: u64, messages: u64, bytes: u64) -> Option<Bounds> {
        let fits = (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity)
            && capacity.is_multiple_of(record::RECORD_ALIGN);
        let bounds = Bounds {
            capacity,
            messages,
            bytes,
            largest: match bytes {
                0 => capacity / 2,
                bytes => bytes.min(capacity / 2),
            },
        };
        fits.then_some(bounds)
    }

    /// Returns how many bytes the ring has.
    pub fn ring(&self) -> u64 {
        self.capacity + RING_SLACK
    }
}

impl RawQueue {
    /// Makes all as it is in a new queue, but for the tag. The first `usable` bytes of the ring have memory; the queue
    /// may give back the first `committed_bytes` of it.
    pub fn prepare(&self, bounds: &Bounds, usable: u64, committed_bytes: u64) {
        let first = Laps::new(bounds.ring()).first();
        self.producer_lock.clear();
        self.consumer_lock.clear();
        self.tail.prepare(first);
        self.claim.prepare(first);
        self.messages.prepare();
        self.room.prepare();
        let set = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        set(&self.capacity, bounds.capacity);
        set(&self.max_messages, bounds.messages);
        set(&self.max_bytes, bounds.bytes);
        for word in [
            &self.checked_until,
            &self.wrap_position,
            &self.reserved,
            &self.known_tail,
            &self.search,
        ] {
            set(word, first);
        }
        set(&self.head, AS_CLAIM);
        set(&self.usable, usable);
        set(&self.committed_bytes, committed_bytes);
        for word in [
            &self.shut_down,
            &self.overwritten,
            &self.skipped,
            &self.redelivered,
        ] {
            set(word, 0);
        }
        for word in [
            &self.known_messages,
            &self.known_bytes,
            &self.resolved_reservations,
            &self.idle_laps,
        ] {
            set(word, 0);
        }
        set(&self.returned, 0);
        self.unused.iter().for_each(|word| set(word, 0));
    }

    /// Returns how much it may hold. `Corrupt`: no queue is made so.
    pub fn bounds(&self) -> Result<Bounds> {
        let bounds = Bounds::new(
            self.capacity.load(Ordering::Relaxed),
            self.max_messages.load(Ordering::Relaxed),
            self.max_bytes.load(Ordering::Relaxed),
        );
        bounds.ok_or(Error::Corrupt(
            "a queue that can hold nothing, or too much".into(),
        ))
    }

    /// Says whether nothing more is put.
    pub fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst) != 0
    }
}

/// How long recent waits took, by what was waited for: for one handle, not shared.
#[derive(Debug, Default)]
pub struct QueueHandleState {
    producer_lock: SpinState,
    consumer_lock: SpinState,
    messages: SpinState,
    room: SpinState,
}

/// What happens to a message for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its producer waits, as long as it likes.
    #[default]
    Block,
    /// It is refused at once.
    Fail,
    /// The oldest ones go.
    Overwrite,
}

/// A queue as one process has it.
pub struct QueueRef<'a, R: Ring, L: Liveness> {
    /// The words.
    pub raw: &'a RawQueue,
    /// The memory of its messages.
    pub ring: &'a R,
    /// How much it may hold.
    pub bounds: &'a Bounds,
    /// How its positions go round.
    pub laps: Laps,
    /// What becomes of a message for which there is no room.
    pub overflow: Overflow,
    /// How this process waits.
    pub handle: &'a QueueHandleState,
    /// Who we are.
    pub me: Id,
    /// Who is dead.
    pub liveness: &'a L,
}

/// The producer lock or the consumer lock, held until this is dropped.
struct Held<'a> {
    lock: &'a lock::RawLock,
    me: Id,
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.lock.try_release(self.me) {
            // It fails only where the word was overwritten: then there is nothing to do.
            let _ = self.lock.release(self.me);
        }
    }
}

/// How long a call waits for either lock at the least, in nanoseconds, even if it may not wait for messages or room. A
/// holder that takes longer has been stopped: growing the ring is the longest that the producer lock is held.
const MIN_LOCK_TIMEOUT_NS: u64 = if cfg!(loom) { u64::MAX } else { 250_000_000 };

impl<'a, R: Ring, L: Liveness> QueueRef<'a, R, L> {
    /// Returns where the bytes of the message at `position` stand in the ring.
    #[inline(always)]
    fn payload(&self, position: u64) -> u64 {
        self.laps.offset(position) + RECORD_HEADER
    }

    /// Takes one of the two locks if that is one step: it is free, and its last owner released it.
    #[inline(always)]
    fn hold_uncontended(&self, lock: &'a lock::RawLock) -> Option<Held<'a>> {
        // Not `then_some`: that would release a lock that is not held.
        lock.try_acquire(self.me)
            .then(|| Held { lock, me: self.me })
    }

    /// Takes one of the two locks for a moment. `WouldBlock`, `Timeout`: its holder lives and is stopped;
    /// `Interrupted`.
    #[inline(always)]
    fn hold(
        &self,
        lock: &'a lock::RawLock,
        spins: &SpinState,
        options: WaitOptions,
    ) -> Result<Held<'a>> {
        match self.hold_uncontended(lock) {
            Some(held) => Ok(held),
            None => self.hold_contended(lock, spins, options),
        }
    }

    #[cold]
    fn hold_contended(
        &self,
        lock: &'a lock::RawLock,
        spins: &SpinState,
        options: WaitOptions,
    ) -> Result<Held<'a>> {
        let timeout = match options.timeout {
            Timeout::Never => Timeout::Never,
            Timeout::After(time) => {
                Timeout::After(time.max(Duration::from_nanos(MIN_LOCK_TIMEOUT_NS)))
            }
            Timeout::Immediate => Timeout::After(Duration::from_nanos(MIN_LOCK_TIMEOUT_NS)),
        };
        let brief = WaitOptions { timeout, ..options };
        self.acquire(lock, spins, brief)
            .map_err(|error| match error {
                Error::Timeout(_) if options.timeout == Timeout::Immediate => Error::WouldBlock(
                    "somebody who lives is changing the queue, and does not get on".into(),
                ),
                error => error,
            })
    }

    /// As `lock::RawLock::acquire`; a dead owner has left nothing half done.
    fn acquire(
        &self,
        lock: &'a lock::RawLock,
        spins: &SpinState,
        options: WaitOptions,
    ) -> Result<Held<'a>> {
        if lock.acquire(self.me, options, spins, self.liveness)? {
            lock.mark_consistent(self.me)?;
        }
        Ok(Held { lock, me: self.me })
    }

    fn hold_producer_lock(&self, options: WaitOptions) -> Result<Held<'a>> {
        self.hold(&self.raw.producer_lock, &self.handle.producer_lock, options)
    }

    fn hold_consumer_lock(&self, options: WaitOptions) -> Result<Held<'a>> {
        self.hold(&self.raw.consumer_lock, &self.handle.consumer_lock, options)
    }

    /// Takes one of the two locks unless a live process holds it.
    fn try_hold(&self, lock: &'a lock::RawLock) -> Result<Option<Held<'a>>> {
        match self.acquire(lock, &SpinState::default(), WaitOptions::NONBLOCKING) {
            Ok(held) => Ok(Some(held)),
            Err(Error::WouldBlock(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn try_hold_consumer_lock(&self) -> Result<Option<Held<'a>>> {
        self.try_hold(&self.raw.consumer_lock)
    }

    /// Says whether every message that was put has been taken, and none is being filled or read in place.
    pub fn is_finished(&self) -> bool {
        let tail = self.raw.tail.position();
        self.raw.head() == tail
    }

    /// Says that nothing more is put, and has all who wait look.
    ///
    /// What is in the queue can still be taken, and what has been reserved can still be committed.
    pub fn shut_down(&self) {
        // SeqCst, as the fences of the event counts: a waiter that prepares now finds it. A put in progress goes on,
        // and consumers wait for it.
        self.raw.shut_down.store(1, Ordering::SeqCst);
        self.raw.messages.notify(u64::MAX);
        self.raw.room.notify(u64::MAX);
    }

    /// Waits until every message has been taken, and none is being filled or read in place.
    ///
    /// What somebody died over can be had again, so it is not finished before somebody else has taken it.
    /// `WouldBlock`, `Timeout`, `Interrupted`.
    pub fn join(&self, options: WaitOptions) -> Result<()> {
        let mut wait = Wait::new(options, &self.handle.room);
        loop {
            if self.is_finished() {
                wait.record_success();
                return Ok(());
            }
            if wait.spin() {
                continue;
            }
            let key = match options.timeout {
                Timeout::Immediate => 0,
                _ => self.raw.room.prepare_wait(),
            };
            // Who has taken the last may have died before it could say so.
            if let Some(held) = self.try_hold_consumer_lock()? {
                self.reclaim(&held)?;
            }
            if self.is_finished() {
                return Ok(());
            }
            wait.check("the queue is not finished")?;
            // In a set apart from the waiters for room: a wake that is meant for one of them is not enough for us.
            self.raw
                .room
                .commit_wait(key, &mut wait, WaitSet::Priority)?;
        }
    }

    /// Goes through the records from `from` to `to`, by who holds a lock that keeps them there.
    fn walk(&self, from: u64, to: u64, tail: u64) -> impl Iterator<Item = Result<record::Seen>> {
        let mut at = Some(from);
        std::iter::from_fn(move || {
            let position = at.filter(|&position| (to.wrapping_sub(position) as i64) > 0)?;
            let seen = Record::find(self.ring, self.laps, position, tail).map(|(_, seen)| seen);
            // After a lie there is nothing to go on from.
            at = seen.as_ref().ok().map(|seen| seen.next);
            Some(seen)
        })
    }
}

/// Returns how many messages, and bytes, a record between claim and tail has that cannot be had, though they are counted.
fn not_there(seen: &record::Seen) -> (u64, u64) {
    match seen.state {
        State::Pad => (0, 0),
        State::Ready => (0, seen.room - seen.length),
        State::Reserved(_) | State::Done | State::Leased(_) => (1, seen.room),
    }
}
