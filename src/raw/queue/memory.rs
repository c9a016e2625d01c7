//! The memory of the ring: it grows when there is no room below, and shrinks when little is queued.
//!
//! | word              | means                                     | goes to                                          |
//! |-------------------|-------------------------------------------|--------------------------------------------------|
//! | `usable`          | so many bytes from the start can be used  | more, after they get it; less, before it goes    |
//! | `committed_bytes` | so many bytes may have memory             | more, before they get it; less, after it is gone |
//! | `idle_laps`       | laps in a row that have used little of it | one more, or 0, at the end of a lap              |
//!
//! All three change under the producer lock. A death in between leaves `committed_bytes` beyond `usable`: too much
//! memory, never a hole that is used.

use super::cursor::CursorSnapshot;
use super::record::{RECORD_HEADER, Ring};
use super::{AS_CLAIM, QueueRef};
use crate::error::{Error, Result};
use crate::raw::Liveness;
use crate::sys::atomic::Ordering;

/// The least and the most memory that is set aside at a time, and by which part of `usable` the ring grows.
const MIN_GROWTH_BYTES: u64 = 64 << 10;
const MAX_GROWTH_BYTES: u64 = 64 << 20;
const GROWTH_DIVISOR: u64 = 4;
const PAGE: u64 = 4096;
/// How much memory an idle queue keeps, and how much is given back at a time: some 5 ms of work for the kernel.
const IDLE_MEMORY_BYTES: u64 = 1 << 20;
const MAX_TRIM_BYTES: u64 = 64 << 20;
/// How many laps in a row use little before any memory goes: a sleeping consumer looks so often within a second. Memory
/// that went between one large message and the next would cost more than the messages.
const IDLE_LAPS_BEFORE_TRIM: u64 = 64;

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Gets memory for the first `end` bytes of the ring and some more; false: for a part of them, because that takes
    /// its time. Requires the producer lock.
    pub(super) fn grow(&self, end: u64) -> Result<bool> {
        let raw = self.raw;
        let usable = raw.usable.load(Ordering::Relaxed);
        let capacity = self.ring.capacity();
        let more = (usable / GROWTH_DIVISOR).clamp(MIN_GROWTH_BYTES, MAX_GROWTH_BYTES);
        let part = |to: u64| {
            to.next_multiple_of(PAGE)
                .min(usable + MAX_GROWTH_BYTES)
                .min(capacity)
        };
        let set_aside = |to: u64| {
            // Before the memory is there, so that what we die over is given back; and compared with what is free only once.
            let committed_bytes = raw.committed_bytes.fetch_max(to, Ordering::Relaxed);
            if let Err(error) = self.ring.grow(usable, committed_bytes, to) {
                // It is not there: the next attempt is compared anew.
                raw.committed_bytes
                    .store(committed_bytes, Ordering::Relaxed);
                return Err(error);
            }
            raw.usable.store(to, Ordering::Relaxed);
            Ok(to >= end)
        };
        match set_aside(part(end + more)) {
            Err(Error::NoSpace(_)) => set_aside(part(end)),
            other => other,
        }
    }

    /// Gives some memory back if little of it was used for a while. Requires the producer lock, and that nothing beyond
    /// `used` is in use.
    pub(super) fn trim(&self, used: u64) {
        let raw = self.raw;
        let needed = (2 * used).max(IDLE_MEMORY_BYTES).next_multiple_of(PAGE);
        // Behind the ring stands what is somebody else's.
        let committed_bytes = raw.committed_bytes.load(Ordering::Relaxed);
        let committed_bytes = committed_bytes.min(self.ring.capacity());
        let idle_laps = match committed_bytes <= needed.saturating_mul(2) {
            true => 0,
            false => raw.idle_laps.load(Ordering::Relaxed).saturating_add(1),
        };
        raw.idle_laps.store(idle_laps, Ordering::Relaxed);
        if idle_laps < IDLE_LAPS_BEFORE_TRIM {
            return;
        }
        // First nobody uses it any more, then it goes: whoever dies in between leaves too much memory, never too little.
        let usable = raw.usable.load(Ordering::Relaxed).min(needed);
        raw.usable.store(usable, Ordering::Relaxed);
        raw.checked_until
            .store(raw.tail.position(), Ordering::Relaxed);
        let from = committed_bytes.saturating_sub(MAX_TRIM_BYTES).max(needed);
        // What cannot be given back now may go some other time.
        if self.ring.give_back(from, committed_bytes).is_ok() {
            raw.committed_bytes.store(from, Ordering::Relaxed);
        }
    }

    /// Ends the lap if the queue is empty and has much memory, which may go then. Requires the consumer lock, and that
    /// there is nothing to take.
    pub(super) fn end_idle_lap(&self, claim: CursorSnapshot) -> Result<()> {
        let raw = self.raw;
        let idle = raw.committed_bytes.load(Ordering::Relaxed) > 2 * IDLE_MEMORY_BYTES
            && raw.head.load(Ordering::Relaxed) == AS_CLAIM
            && raw.tail.position() == claim.position;
        // No producer waits for us: we hold the consumer lock and only try to take the other.
        if !idle {
            return Ok(());
        }
        let Some(_held) = self.hold_uncontended(&raw.producer_lock) else {
            return Ok(());
        };
        let (laps, now) = (self.laps, raw.tail.current()?);
        if now.position != claim.position {
            return Ok(());
        }
        let used = laps.offset(now.position) + RECORD_HEADER;
        // 1. The lap ends here, so that the next message goes to the beginning. 2. Nobody needs the PAD. 3. Nothing is in use.
        if used > IDLE_MEMORY_BYTES / 2 {
            let next = laps.next(now.position);
            self.ring
                .record(laps.offset(now.position))?
                .write_pad(now.position, next);
            raw.checked_until.store(now.position, Ordering::Relaxed);
            raw.wrap_position.store(now.position, Ordering::Relaxed);
            raw.tail.commit(now.at(next));
            // Claim never goes beyond what is known of tail: if we die behind this, the next one goes over the PAD.
            raw.known_tail.store(next, Ordering::Relaxed);
            raw.claim.commit(claim.at(next));
        }
        self.trim(used);
        Ok(())
    }
}
