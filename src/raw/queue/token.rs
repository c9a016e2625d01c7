//! Ending a reservation or a lease, by the token that the process was given for it.
//!
//! ```text
//! token: | position (59 bits) | attempt (5 bits) |
//! ```
//!
//! Each end is one exchange of the record's state, and no step after it can fail.

use super::QueueRef;
use super::record::{RECORD_ALIGN, RECORD_HEADER, Record, Ring, Seen, State};
use crate::error::{Error, Result};
use crate::raw::Liveness;
use crate::sys::atomic::{Ordering, fence};

/// The bits of a token that no position has. They count the attempts, so that the token of an earlier lease is refused.
const ATTEMPTS: u64 = RECORD_ALIGN - 1;

/// Returns the token of the record at `position`, leased for the `attempts`-th time; 0 means reserved.
pub(super) fn of(position: u64, attempts: u32) -> u64 {
    position | u64::from(attempts) & ATTEMPTS
}

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Puts a reserved message into the queue, with the first `length` bytes of its room.
    ///
    /// Fails with `NotOwner` if it was committed or aborted, or if another process reserved it. Fails with `Invalid` if
    /// `length` exceeds its room.
    pub fn commit(&self, token: u64, length: u64) -> Result<()> {
        let mine = State::Reserved(self.me);
        let (record, seen) = self.held(token, mine)?;
        if length > seen.room {
            let text = format!(
                "a commit must have at most the {} bytes reserved, not {length}",
                seen.room
            );
            return Err(Error::Invalid(text.into()));
        }
        if length < seen.room {
            record.set_length(length);
        }
        // From here on the message is in the queue.
        if !record.change(mine, State::Ready) {
            return Err(not_held());
        }
        // PAIRS queue.settled
        self.raw
            .resolved_reservations
            .fetch_add(1, Ordering::Release);
        self.raw.messages.notify_after_exchange(1);
        if length < seen.room && self.bounds.bytes > 0 {
            // The message has fewer bytes than a producer that waits for room has counted.
            self.raw.room.notify(1);
        }
        Ok(())
    }

    /// Aborts a reservation. Fails with `NotOwner` as `commit` does.
    pub fn abort(&self, token: u64) -> Result<()> {
        let mine = State::Reserved(self.me);
        let (record, _) = self.held(token, mine)?;
        if !record.change(mine, State::Done) {
            return Err(not_held());
        }
        // PAIRS queue.settled
        self.raw
            .resolved_reservations
            .fetch_add(1, Ordering::Release);
        self.raw.messages.notify(1);
        self.try_reclaim();
        Ok(())
    }

    /// Acknowledges a lease: no consumer gets the message any more.
    ///
    /// Fails with `NotOwner` if it was acknowledged or returned, or if another process leased it.
    pub fn ack(&self, token: u64) -> Result<()> {
        let mine = State::Leased(self.me);
        let (record, seen) = self.held(token, mine)?;
        // From here on the message is taken.
        if !record.change(mine, State::Done) {
            return Err(not_held());
        }
        // PAIRS queue.done: the process that moves head to this record sees that it is done, or this one sees head
        // there.
        fence(Ordering::SeqCst);
        if self.raw.head.load(Ordering::Acquire) == seen.position {
            self.try_reclaim();
        }
        Ok(())
    }

    /// Returns a lease: the next consumer gets the message. Fails with `NotOwner` as `ack` does.
    pub fn nack(&self, token: u64) -> Result<()> {
        let mine = State::Leased(self.me);
        let (record, _) = self.held(token, mine)?;
        if !record.change(mine, State::Ready) {
            return Err(not_held());
        }
        // PAIRS queue.returned
        self.raw.returned.store(1, Ordering::Release);
        self.raw.messages.notify(1);
        Ok(())
    }

    /// Returns the record that this process holds in the state `mine`. Fails with `NotOwner`.
    fn held(&self, token: u64, mine: State) -> Result<(&Record, Seen)> {
        let laps = self.laps;
        let position = token & !ATTEMPTS;
        let (head, tail) = (self.raw.head(), self.raw.tail.position());
        let inside = laps.in_order(head, position)
            && (tail.wrapping_sub(position) as i64) > 0
            && laps.offset(position) + RECORD_HEADER <= laps.capacity();
        if !inside {
            return Err(not_held());
        }
        match Record::find(self.ring, laps, position, tail) {
            Ok((record, seen)) if seen.state == mine && of(position, seen.attempts) == token => {
                Ok((record, seen))
            }
            // The bytes at a stale position may be no record any more.
            Ok(_) | Err(Error::Corrupt(_)) => Err(not_held()),
            Err(error) => Err(error),
        }
    }
}

#[cold]
fn not_held() -> Error {
    Error::NotOwner(
        "this process does not hold that message; use each token once, where it was given out"
            .into(),
    )
}
