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
//! A bounded ring for many producers and consumers in which each record stores its own position. So a record of an
//! earlier lap is recognized, as in Vyukov's bounded MPMC queue
//! (<https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue>). There each slot is claimed
//! without a lock. Here records have any length and their producers may die, so robust locks guard both ends.
//! A reservation is one contiguous region that is committed later, as in Cooke's bip-buffer. Each side keeps its last
//! view of the other side's position, and compares with that view first, as in the LMAX Disruptor.
//!
//! `queue/record.rs` has the states of a record, and `queue/place.rs` computes where the next record goes (D-050).
//! `queue/cursor.rs` changes a position and the number of messages before it in one step (D-047). `queue/memory.rs`
//! grows and shrinks the ring (D-057), and `queue/event_count.rs` is how one side waits for the other.
//!
//! The producer lock is for puts, the consumer lock for gets. If a process dies in
//!   put:     before the store of tail nothing has happened; after it the message is in the queue;
//!   reserve: as in put; after the store of tail the record is skipped, because its producer is dead;
//!   commit:  before its exchange the record is skipped; after it the message is in the queue;
//!   get:     before the store of claim (with leases: of DONE) the message is in the queue; after it, it is taken;
//!   lease:   before the record is LEASED it is in the queue; after that it is READY again, because its reader is dead;
//!   ack:     before its exchange as in lease; after it the message is taken;
//!   nack:    the message is in the queue in both cases;
//!   growth:  the next owner of the producer lock sets the same memory aside once more.
//! If a process dies with either lock, other processes see no half-done change: the next owner continues.

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
use crate::sys::fork::Origin;
use crate::sys::futex::WaitSet;
use cursor::Cursor;
use event_count::EventCount;
pub use get::{Lease, Taken};
pub use put::{Batch, Reservation};
pub use record::Laps;
use record::{RECORD_HEADER, Record, Ring, State};
pub use stat::QueueInfo;
use std::time::Duration;

/// The fewest bytes that all messages may have together.
pub const MIN_CAPACITY: u64 = 1 << 10;
/// How many bytes the ring has beyond its capacity, so that a message may have half of the capacity.
pub const RING_SLACK: u64 = 4 * RECORD_HEADER;
/// The largest capacity of a queue, in bytes: 64 TiB.
pub const MAX_CAPACITY: u64 = 1 << 46;

/// In `RawQueue::head`: nothing is leased, and claim is the first record that is needed. No position has this bit
/// (D-048).
const AS_CLAIM: u64 = 1;

/// A message this large is copied without holding a lock: reserved and committed, leased and acknowledged (D-053).
pub const LARGE_MESSAGE: u64 = 64 << 10;

/// A queue in shared memory.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawQueue {
    /// Kind, state and options of the object, in the format of `object`.
    pub tag: std::sync::atomic::AtomicU64,
    capacity: AtomicU64,
    max_messages: AtomicU64,
    max_bytes: AtomicU64,
    /// Nonzero: the queue is shut down, and no message is put any more.
    shut_down: AtomicU64,
    overwritten: AtomicU64,
    skipped: AtomicU64,
    redelivered: AtomicU64,

    /// Held by every put.
    pub(super) producer_lock: lock::RawLock,
    tail: Cursor,
    /// Tail may go up to this position without a check: the ring is free, has memory, and the lap need not end before
    /// (D-051).
    checked_until: AtomicU64,
    /// The position of the PAD that ended the last lap.
    wrap_position: AtomicU64,
    /// How many bytes of the ring can be used, because they have memory.
    usable: AtomicU64,
    /// How many bytes may have memory: never less than `usable`.
    committed_bytes: AtomicU64,
    /// The end of the last record that was reserved.
    reserved: AtomicU64,
    /// How many messages and bytes were taken when a producer last looked.
    known_messages: AtomicU64,
    known_bytes: AtomicU64,
    /// How many reservations were committed or aborted, at least.
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
    /// Where the next search for leases of dead processes begins.
    search: AtomicU64,
    /// Nonzero: a lease was returned.
    returned: AtomicU64,
    unused: [AtomicU64; 5],

    /// Notified when there may be a message.
    messages: EventCount,
    /// Notified when there may be room.
    room: EventCount,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawQueue>() == 576);

// SAFETY: all fields are atomics. (Loom's atomics are never in mapped memory.)
unsafe impl crate::layout::Shared for RawQueue {}

/// How much a queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many bytes all messages may have, where each counts at least 32 bytes more than its length. One message may
    /// have half of it.
    pub capacity: u64,
    /// How many messages the queue may hold; 0: any number.
    pub messages: u64,
    /// How many bytes those may have together; 0: any number.
    pub bytes: u64,
    /// How many bytes the largest message may have; it follows from the other limits.
    pub largest: u64,
}

impl Bounds {
    /// Returns these bounds, or `None` if no queue can have them.
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

    /// Returns the size of the ring in bytes.
    pub fn ring(&self) -> u64 {
        self.capacity + RING_SLACK
    }
}

impl RawQueue {
    /// Initializes all words of a new queue but the tag. The first `usable` bytes of the ring have memory, and the
    /// queue may release memory among the first `committed_bytes`.
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

    /// Returns the bounds of this queue. Fails with `Corrupt` if no queue can have them.
    pub fn bounds(&self) -> Result<Bounds> {
        let bounds = Bounds::new(
            self.capacity.load(Ordering::Relaxed),
            self.max_messages.load(Ordering::Relaxed),
            self.max_bytes.load(Ordering::Relaxed),
        );
        bounds.ok_or(Error::Corrupt(
            "the capacity of the queue is not one that a queue can have; recreate the queue".into(),
        ))
    }

    /// Returns whether the queue is shut down.
    pub fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst) != 0
    }
}

/// How long recent waits took, for each cause of waiting. It belongs to one handle and is not shared.
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
    /// The producer waits, as long as its options allow.
    #[default]
    Block,
    /// The put fails at once.
    Fail,
    /// The oldest messages are discarded.
    Overwrite,
}

/// A borrowed view of a queue, for one process.
pub struct QueueRef<'a, R: Ring, L: Liveness> {
    /// The words in shared memory.
    pub raw: &'a RawQueue,
    /// The memory of its messages.
    pub ring: &'a R,
    /// How much the queue may hold.
    pub bounds: &'a Bounds,
    /// How positions map to offsets of the ring.
    pub laps: Laps,
    /// What happens to a message for which there is no room.
    pub overflow: Overflow,
    /// How recent waits of this handle went.
    pub handle: &'a QueueHandleState,
    /// The identity of this process.
    pub me: Id,
    /// Reports which processes are dead.
    pub liveness: &'a L,
}

/// The producer lock or the consumer lock, held until this is released or dropped.
struct Held<'a, L: Liveness> {
    lock: &'a lock::RawLock,
    me: Id,
    liveness: &'a L,
}

impl<L: Liveness> Held<'_, L> {
    /// Releases the lock after a few steps without a system call.
    #[inline(always)]
    fn release(self) {
        self.release_mine();
        std::mem::forget(self);
    }

    #[inline(always)]
    fn release_mine(&self) {
        if !self.lock.try_release(self.me) {
            // `release` fails only if the word was overwritten, and then nothing can be repaired here.
            let _ = self.lock.release(self.me);
        }
    }
}

#[cold]
fn release_unless_forked(lock: &lock::RawLock, me: Id, liveness: &impl Liveness) {
    if liveness.origin(me).is_here() {
        // As in `release_mine`.
        let _ = lock.release(me);
    }
}

impl<L: Liveness> Drop for Held<'_, L> {
    /// Releases the lock, unless this is a child that was forked meanwhile: its parent holds the lock.
    #[inline(always)]
    fn drop(&mut self) {
        release_unless_forked(self.lock, self.me, self.liveness);
    }
}

/// How long a call waits for either lock at least, in nanoseconds, even if it may not wait for messages or room
/// (D-056). A holder that takes longer was stopped: the longest hold is that of the producer lock while the ring grows.
const MIN_LOCK_TIMEOUT_NS: u64 = if cfg!(loom) { u64::MAX } else { 250_000_000 };

impl<'a, R: Ring, L: Liveness> QueueRef<'a, R, L> {
    /// Returns the offset in the ring at which the bytes of the message at `position` begin.
    #[inline(always)]
    fn payload(&self, position: u64) -> u64 {
        self.laps.offset(position) + RECORD_HEADER
    }

    /// Acquires one of the two locks if that is one step: the lock is free, and its last owner released it.
    #[inline(always)]
    fn hold_uncontended(&self, lock: &'a lock::RawLock) -> Option<Held<'a, L>> {
        // Not `then_some`, which would create a `Held` even on failure, and so release a lock that is not held.
        lock.try_acquire(self.me).then(|| self.guard(lock))
    }

    #[inline(always)]
    fn guard(&self, lock: &'a lock::RawLock) -> Held<'a, L> {
        Held {
            lock,
            me: self.me,
            liveness: self.liveness,
        }
    }

    /// Notifies a waiter while this process holds a lock of the queue. `Forked`: the wake is a system call.
    fn notify_inside(&self, count: &EventCount, wakes: u64) -> Result<()> {
        count.notify(wakes);
        self.origin().check()
    }

    fn origin(&self) -> Origin {
        self.liveness.origin(self.me)
    }

    /// Checks after a copy of so many bytes that this process began it: a signal handler may have forked meanwhile.
    #[inline(always)]
    fn check_copy(&self, bytes: u64) -> Result<()> {
        /// A shorter copy takes a few nanoseconds, like the window that is left anyway (D-078).
        const LONG_COPY_BYTES: u64 = 512;
        match bytes < LONG_COPY_BYTES {
            true => Ok(()),
            false => self.origin().check(),
        }
    }

    /// Acquires one of the two locks for a moment. Fails with `WouldBlock` or `Timeout` if its holder is alive but
    /// stopped, and with `Interrupted`.
    #[inline(always)]
    fn hold(
        &self,
        lock: &'a lock::RawLock,
        spins: &SpinState,
        options: WaitOptions,
    ) -> Result<Held<'a, L>> {
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
    ) -> Result<Held<'a, L>> {
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
                    "a live process stopped in the middle of a change to the queue".into(),
                ),
                error => error,
            })
    }

    /// As `lock::RawLock::acquire`, but marks the state consistent after an owner's death: that owner left nothing half
    /// done.
    fn acquire(
        &self,
        lock: &'a lock::RawLock,
        spins: &SpinState,
        options: WaitOptions,
    ) -> Result<Held<'a, L>> {
        if lock.acquire(self.me, options, spins, self.liveness)? {
            lock.mark_consistent(self.me)?;
        }
        Ok(self.guard(lock))
    }

    fn hold_producer_lock(&self, options: WaitOptions) -> Result<Held<'a, L>> {
        self.hold(&self.raw.producer_lock, &self.handle.producer_lock, options)
    }

    fn hold_consumer_lock(&self, options: WaitOptions) -> Result<Held<'a, L>> {
        self.hold(&self.raw.consumer_lock, &self.handle.consumer_lock, options)
    }

    /// Acquires one of the two locks; returns `None` if a live process holds it.
    fn try_hold(&self, lock: &'a lock::RawLock) -> Result<Option<Held<'a, L>>> {
        match self.acquire(lock, &SpinState::default(), WaitOptions::NONBLOCKING) {
            Ok(held) => Ok(Some(held)),
            Err(Error::WouldBlock(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn try_hold_consumer_lock(&self) -> Result<Option<Held<'a, L>>> {
        self.try_hold(&self.raw.consumer_lock)
    }

    /// Returns whether every message that was put has been taken, and none is reserved or leased.
    pub fn is_finished(&self) -> bool {
        let tail = self.raw.tail.position();
        self.raw.head() == tail
    }

    /// Shuts the queue down, and wakes all waiters so that they check again.
    ///
    /// Queued messages can still be taken, and reservations can still be committed.
    pub fn shut_down(&self) {
        // SeqCst, as the fences of the event counts: a waiter that prepares from now on sees the shutdown. A put in
        // progress continues, and consumers wait for it.
        self.raw.shut_down.store(1, Ordering::SeqCst);
        self.raw.messages.notify(u64::MAX);
        self.raw.room.notify(u64::MAX);
    }

    /// Waits until every message has been taken, and none is reserved or leased.
    ///
    /// If a consumer dies during its lease, the queue is not finished before another consumer has taken the message.
    /// Fails with `WouldBlock`, `Timeout` or `Interrupted`.
    pub fn join(&self, options: WaitOptions) -> Result<()> {
        let mut wait = Wait::new(options, &self.handle.room, self.origin());
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
            // The consumer that took the last message may have died before it could notify.
            if let Some(held) = self.try_hold_consumer_lock()? {
                self.reclaim(&held)?;
            }
            if self.is_finished() {
                return Ok(());
            }
            wait.check("the queue is not finished")?;
            // In a set of its own: a wake that is meant for a waiter for room must not end at this one.
            self.raw
                .room
                .commit_wait(key, &mut wait, WaitSet::Priority)?;
        }
    }

    /// Iterates over the records from `from` to `to`. The caller must hold a lock that keeps them in the ring.
    fn walk(&self, from: u64, to: u64, tail: u64) -> impl Iterator<Item = Result<record::Seen>> {
        let mut at = Some(from);
        std::iter::from_fn(move || {
            let position = at.filter(|&position| (to.wrapping_sub(position) as i64) > 0)?;
            let seen = Record::find(self.ring, self.laps, position, tail).map(|(_, seen)| seen);
            // Nothing follows a record that is corrupt.
            at = seen.as_ref().ok().map(|seen| seen.next);
            Some(seen)
        })
    }
}

/// Returns how many messages and bytes a record between claim and tail counts for, but does not offer (D-054).
fn unavailable(seen: &record::Seen) -> (u64, u64) {
    match seen.state {
        State::Pad => (0, 0),
        State::Ready => (0, seen.room - seen.length),
        State::Reserved(_) | State::Done | State::Leased(_) => (1, seen.room),
    }
}
