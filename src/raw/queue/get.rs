//! Getting: under the consumer lock the first READY record is found, and claim moves past it (D-048).

use super::cursor::CursorSnapshot;
use super::find::{EmptyReason, Found, SlotState};
use super::put::shut_down;
use super::record::{RECORD_HEADER, Ring, State};
use super::token;
use super::{AS_CLAIM, Held, LARGE_MESSAGE, QueueRef};
use crate::error::{Error, Result};
use crate::raw::wait::Wait;
use crate::raw::{Liveness, Timeout, WaitOptions};
use crate::sys::atomic::Ordering;
use crate::sys::futex::WaitSet;
use std::mem::MaybeUninit;

/// A message that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How many bytes the message has.
    pub length: u64,
    /// How often the message was leased before: each of those consumers died, or returned it.
    pub attempts: u32,
}

/// A message that its consumer reads in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The token that `ack` and `nack` expect.
    pub token: u64,
    /// The offset of its bytes in the ring.
    pub offset: u64,
    /// How many bytes the message has.
    pub length: u64,
    /// How often the message was leased, this time included.
    pub attempts: u32,
}

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Takes the first message if that is a few steps: the lock is free, nothing is leased, and the message fits.
    #[inline(always)]
    pub fn try_get(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<u64> {
        let held = self.hold_uncontended(&self.raw.consumer_lock)?;
        let taken = self.try_take(buffer);
        match taken {
            Some(_) => {
                held.release();
                self.notify_taken();
            }
            // Perhaps this is a child that was forked meanwhile.
            None => drop(held),
        }
        taken
    }

    #[inline(always)]
    fn try_take(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<u64> {
        let (raw, laps) = (self.raw, self.laps);
        let claim = raw.claim.look()?;
        let tail = raw.known_tail.load(Ordering::Relaxed);
        let offset = laps.offset(claim.position);
        if raw.head.load(Ordering::Relaxed) != AS_CLAIM
            || tail == claim.position
            || !self.ring.has(offset + RECORD_HEADER)
        {
            return None;
        }
        let seen = self
            .ring
            .record(offset)
            .ok()?
            .look(laps, claim.position, tail)?;
        let simple =
            seen.state == State::Ready && seen.attempts == 0 && seen.length < LARGE_MESSAGE;
        if !simple || !self.ring.has(offset + RECORD_HEADER + seen.length) {
            return None;
        }
        let place = buffer.get_mut(..seen.length as usize)?;
        self.ring.read(offset + RECORD_HEADER, place).ok()?;
        self.check_copy(seen.length).ok()?;
        // From here on the message is taken, and nothing slow follows.
        raw.claim.commit(claim.and(seen.next, seen.room));
        Some(seen.length)
    }

    /// Takes the first message. When this returns, no other consumer gets it.
    ///
    /// Fails with `TooLarge` if the message is larger than the buffer; the message stays. Fails with `Empty`, `Timeout`
    /// or `Interrupted` if there is none, with `ShutDown` if none will follow, with `Corrupt`, and with errors of
    /// `liveness`.
    #[inline]
    pub fn get(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        let mut large = None;
        let taken = self.fetch(options, |queue, found| {
            let seen = found.seen;
            let taken = Taken {
                length: seen.length,
                attempts: seen.attempts,
            };
            let room = buffer.len() as u64;
            let Some(place) = buffer.get_mut(..seen.length as usize) else {
                return Err(Error::TooLarge(
                    format!(
                        "the message has {} bytes, the buffer {room}; pass a larger buffer",
                        seen.length
                    )
                    .into(),
                ));
            };
            if seen.length >= LARGE_MESSAGE {
                large = Some(queue.lend(&found)?);
                return Ok(taken);
            }
            queue.ring.read(queue.payload(seen.position), place)?;
            queue.check_copy(seen.length)?;
            // From here on the message is taken, and nothing slow follows.
            queue.take(&found);
            Ok(taken)
        })?;
        if let Some(lease) = large {
            self.read_large(&lease, buffer)?;
        }
        Ok(taken)
    }

    /// Copies without the consumer lock, so that other consumers continue meanwhile (D-053).
    #[cold]
    fn read_large(&self, lease: &Lease, buffer: &mut [MaybeUninit<u8>]) -> Result<()> {
        let read = self
            .ring
            .read(lease.offset, &mut buffer[..lease.length as usize]);
        // As in `put_large`.
        self.origin().check()?;
        match read {
            Ok(()) => self.ack(lease.token),
            Err(error) => self.nack(lease.token).and(Err(error)),
        }
    }

    /// Copies the beginning of the first message, as much as the buffer has room for; the message stays.
    ///
    /// Fails as `get`, but not with `TooLarge`.
    pub fn peek(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        self.fetch(options, |queue, found| {
            let seen = found.seen;
            let length = buffer.len().min(seen.length as usize);
            let place = &mut buffer[..length];
            queue.ring.read(queue.payload(seen.position), place)?;
            Ok(Taken {
                length: seen.length,
                attempts: seen.attempts,
            })
        })
    }

    /// Takes the first messages, one behind the other, as many as there are lengths and the buffer has room for. Waits
    /// for the first. Returns how many.
    ///
    /// Fails as `get`; `TooLarge` means that the first is larger than the buffer.
    pub fn get_many(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        lengths: &mut [MaybeUninit<u64>],
        options: WaitOptions,
    ) -> Result<u64> {
        if lengths.is_empty() {
            return Ok(0);
        }
        self.fetch(options, |queue, found| {
            let mut filled = 0;
            let mut next = Some(found);
            let mut behind = None;
            let mut count = 0;
            while let Some(found) = next.take() {
                let length = found.seen.length as usize;
                let end = filled + length;
                let Some(place) = buffer.get_mut(filled..end) else {
                    if count > 0 {
                        break;
                    }
                    let text = format!(
                        "the message has {length} bytes, the buffer {}; pass a larger buffer",
                        buffer.len()
                    );
                    return Err(Error::TooLarge(text.into()));
                };
                match queue.ring.read(queue.payload(found.seen.position), place) {
                    // A fault in a later message ends the batch, and the next call reports it.
                    Err(_) if count > 0 => break,
                    other => other?,
                }
                lengths[count].write(length as u64);
                (filled, count) = (end, count + 1);
                match found.claim {
                    // While nothing is leased, one commit takes all of them.
                    Some(claim) if queue.raw.head.load(Ordering::Relaxed) == AS_CLAIM => {
                        queue.count_redelivery(&found);
                        behind = Some(claim.and(found.seen.next, found.seen.room));
                    }
                    _ => queue.take(&found),
                }
                if count == lengths.len() {
                    break;
                }
                // The caller keeps what was copied. If the next record is faulty, the next call reports it.
                next = queue.next_of(&mut behind).ok().flatten();
            }
            if let Some(claim) = behind {
                queue.raw.claim.commit(claim);
            }
            Ok(count as u64)
        })
    }

    /// Returns the next message of a batch. `behind` is where claim goes at the end, or `None` if each message moves
    /// claim.
    fn next_of(&self, behind: &mut Option<CursorSnapshot>) -> Result<Option<Found<'_>>> {
        let Some(claim) = behind else {
            return Ok(self.find()?.ok());
        };
        loop {
            match self.look_at(*claim)? {
                SlotState::Message(message) => return Ok(Some(Found::at(*claim, message))),
                SlotState::Gap(next) => *claim = next,
                SlotState::End | SlotState::Obstacle => return Ok(None),
            }
        }
    }

    /// Leases the first message, to read it in place. No other consumer gets it before it is acknowledged. If this
    /// process dies before, the next consumer gets it.
    ///
    /// Fails as `get`.
    pub fn lease(&self, options: WaitOptions) -> Result<Lease> {
        self.fetch(options, |queue, found| queue.lend(&found))
    }

    /// Waits until there is a message, which another consumer may take first. Fails as `get`.
    pub fn wait_for_message(&self, options: WaitOptions) -> Result<()> {
        self.fetch(options, |_, _| Ok(()))
    }

    /// Calls `body` with the first message, under the consumer lock, as soon as there is a message.
    #[inline(always)]
    fn fetch<T>(
        &self,
        options: WaitOptions,
        mut body: impl FnMut(&Self, Found<'_>) -> Result<T>,
    ) -> Result<T> {
        let held = self.hold_consumer_lock(options)?;
        match self.find()? {
            Ok(found) => {
                let done = body(self, found)?;
                held.release();
                self.notify_taken();
                Ok(done)
            }
            Err(reason) => self.await_message(held, reason, options, &mut body),
        }
    }

    #[inline(always)]
    fn notify_taken(&self) {
        // A process in `join` waits on the same event count.
        let claim = self.raw.claim.position();
        let last = claim == self.raw.known_tail.load(Ordering::Relaxed);
        let count = if last { u64::MAX } else { 1 };
        self.raw.room.notify_after_exchange(count);
    }

    #[cold]
    fn await_message<'a, T>(
        &'a self,
        mut held: Held<'a, L>,
        mut reason: EmptyReason,
        options: WaitOptions,
        body: &mut dyn FnMut(&Self, Found<'_>) -> Result<T>,
    ) -> Result<T> {
        let raw = self.raw;
        let mut wait = Wait::new(options, &self.handle.messages, self.origin()).eager();
        let mut slept = false;
        let result = loop {
            // 1. No message can be taken, perhaps forever.
            match self.is_over(&mut reason) {
                Ok(false) => {}
                Ok(true) => break Err(shut_down()),
                Err(error) => break Err(error),
            }
            // 2. A producer may be about to put a message (D-059).
            if reason.held_up {
                wait.expect_soon();
            }
            if wait.spin() {
                drop(held);
                while !self.has_news(&reason) && wait.spin() {}
            } else {
                // 3. Sleep until a message was put.
                if let Err(error) = self.end_idle_lap(reason.claim) {
                    break Err(error);
                }
                if options.timeout == Timeout::Immediate {
                    return Err(Error::Empty("the queue is empty".into()));
                }
                let key = raw.messages.prepare_wait();
                drop(held);
                if !self.has_news(&reason) {
                    slept = true;
                    if let Err(error) = wait
                        .check("the queue is empty")
                        .and_then(|()| raw.messages.commit_wait(key, &mut wait, WaitSet::Normal))
                    {
                        return self.leave(error);
                    }
                }
            }
            // 4. Another consumer may have taken it.
            wait.check_origin()?;
            held = match self.hold_consumer_lock(wait.rest()) {
                Ok(held) => held,
                Err(error) => return self.leave(error),
            };
            match self.find() {
                Ok(Ok(found)) => break body(self, found),
                Ok(Err(now)) => reason = now,
                Err(error) => break Err(error),
            }
        };
        let more = raw.tail.position() != raw.claim.position();
        drop(held);
        match result {
            Ok(done) => {
                wait.record_success();
                self.notify_taken();
                if slept && more {
                    raw.messages.notify(1);
                }
                Ok(done)
            }
            Err(error) => self.leave(error),
        }
    }

    /// Returns without a message. If a wake was meant for this caller, another waiter gets it. After a fork the caller
    /// goes on in the parent.
    fn leave<T>(&self, error: Error) -> Result<T> {
        if !matches!(error, Error::Forked(_)) {
            self.raw.messages.notify(1);
        }
        Err(error)
    }

    /// Returns whether there may be a message now, although there was none for `reason`.
    fn has_news(&self, reason: &EmptyReason) -> bool {
        let raw = self.raw;
        let waits = reason.held_up
            || reason.leased
            || reason.putting && raw.producer_lock.stat().owner.is_some();
        if raw.returned.load(Ordering::Relaxed) != 0 || raw.is_shut_down() && !waits {
            return true;
        }
        let claim = reason.claim.position;
        match reason.held_up {
            // The record itself may be overwritten by now: only the owner of the consumer lock may read it.
            true => {
                raw.claim.position() != claim
                    || raw.resolved_reservations.load(Ordering::Relaxed)
                        != reason.resolved_reservations
            }
            false => raw.tail.position() != claim,
        }
    }

    /// Returns whether no message can follow any more (D-055). Requires the consumer lock.
    fn is_over(&self, reason: &mut EmptyReason) -> Result<bool> {
        let raw = self.raw;
        if !raw.is_shut_down() || reason.held_up || reason.leased {
            return Ok(false);
        }
        // The next owner of the producer lock sees the shutdown. The present owner may not have, so consumers wait for
        // it.
        match self.try_hold(&raw.producer_lock)? {
            Some(_held) => Ok(raw.tail.position() == reason.claim.position),
            None => {
                reason.putting = true;
                Ok(false)
            }
        }
    }

    /// Takes the message that was found. Requires the consumer lock.
    #[inline(always)]
    fn take(&self, found: &Found<'_>) {
        let raw = self.raw;
        let simple = raw.head.load(Ordering::Relaxed) == AS_CLAIM;
        self.count_redelivery(found);
        if !simple {
            found.record.finish();
        }
        match found.claim {
            Some(claim) => raw
                .claim
                .commit(claim.and(found.seen.next, found.seen.room)),
            // The message is taken even if head then meets a faulty record: the next search reports that.
            None => drop(self.advance_head(raw.claim.position())),
        }
    }

    fn count_redelivery(&self, found: &Found<'_>) {
        if found.seen.attempts > 0 {
            self.raw.redelivered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Leases the message that was found. Requires the consumer lock.
    fn lend(&self, found: &Found<'_>) -> Result<Lease> {
        let (raw, seen) = (self.raw, found.seen);
        // 1. Head stays here. A reader that sees claim past the record sees this head before.
        if let Some(claim) = found.claim
            && raw.head.load(Ordering::Relaxed) == AS_CLAIM
        {
            raw.head.store(claim.position, Ordering::Release);
        }
        let attempts = found.record.count_attempt(&seen);
        if attempts > 1 {
            raw.redelivered.fetch_add(1, Ordering::Relaxed);
        }
        // 2. The record belongs to this process; if it dies, the record becomes READY again.
        if !found.record.change(State::Ready, State::Leased(self.me)) {
            return Err(Error::Corrupt(
                "a message changed while its consumer held the consumer lock; recreate the queue"
                    .into(),
            ));
        }
        if let Some(claim) = found.claim {
            raw.claim.commit(claim.and(seen.next, seen.room));
        }
        Ok(Lease {
            token: token::of(seen.position, attempts),
            offset: self.payload(seen.position),
            length: seen.length,
            attempts,
        })
    }

    /// Discards the record at head if it was returned, or if its reader is dead. Returns false if a live process reads
    /// the record. Requires both locks, after `reclaim`.
    pub(super) fn discard_head(&self, _held: &Held<'_, L>) -> Result<bool> {
        let (record, seen) = self.record(self.raw.head.load(Ordering::Relaxed))?;
        match seen.state {
            State::Ready => {}
            State::Leased(id) if self.liveness.is_dead(id, self.origin())? => {}
            _ => return Ok(false),
        }
        self.raw.overwritten.fetch_add(1, Ordering::Relaxed);
        record.finish();
        self.advance_head(self.raw.claim.position())?;
        Ok(true)
    }

    /// Discards the oldest message that can be taken. Returns false if there is none. Requires both locks.
    pub(super) fn discard_oldest(&self, _held: &Held<'_, L>) -> Result<bool> {
        match self.skip()? {
            (claim, SlotState::Message(message)) => {
                self.raw.overwritten.fetch_add(1, Ordering::Relaxed);
                self.take(&Found::at(claim, message));
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
