//! The state of a queue, read without a lock and without an identity (D-077).
//!
//! A record between head and tail is not overwritten before head has passed it. So a copy of a record is valid if head,
//! read afterwards, has not passed the record yet. The copy does not touch the mapping: memory that the queue has
//! released meanwhile stays released.

use super::cursor::CursorSnapshot;
use super::record::{Laps, Record, Ring, Seen, State, corrupt};
use super::{AS_CLAIM, RawQueue, unavailable};
use crate::error::Result;
use crate::participant::Id;
use crate::sys::atomic::{Ordering, fence};

/// How often a copy is repeated that was made while the record changed; after that the record is corrupt.
const MAX_COPY_ATTEMPTS: u32 = if cfg!(loom) { 4 } else { 1 << 10 };
/// How often claim may move while tail is read, before the two are taken from different moments.
const MAX_PAIR_ATTEMPTS: u32 = if cfg!(loom) { 4 } else { 1 << 10 };

/// The state of a queue, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueInfo {
    /// How many messages can be taken.
    pub messages: u64,
    /// How many bytes those have.
    pub bytes: u64,
    /// How many are reserved: their producers fill them in place.
    pub reserved: u64,
    /// How many are leased: their consumers read them in place.
    pub leased: u64,
    /// How many were ever put, including those that were skipped.
    pub puts: u64,
    /// How many were ever taken.
    pub gets: u64,
    /// How many were overwritten by newer messages.
    pub overwritten: u64,
    /// How many were skipped because their producer died or aborted them.
    pub skipped: u64,
    /// How often a message was redelivered.
    pub redelivered: u64,
    /// How often a consumer slept, and how often a producer.
    pub waits: (u64, u64),
    /// How many bytes of the ring have memory.
    pub memory: u64,
    /// Whether the queue is shut down.
    pub shut_down: bool,
    /// The owners of the producer lock and of the consumer lock; perhaps dead.
    pub holders: (Option<Id>, Option<Id>),
    /// The producer of the next record, if it is reserved and not committed yet; perhaps dead.
    pub held_up_by: Option<Id>,
}

impl RawQueue {
    /// Returns the first record that is still needed, without the consumer lock.
    pub(super) fn head(&self) -> u64 {
        // In this order: if nothing is leased now, all records before the claim that was just read are free.
        let claim = self.claim.position();
        // PAIRS queue.head: a reader of a head sees that the records before it are done.
        match self.head.load(Ordering::Acquire) {
            AS_CLAIM => claim,
            head => head,
        }
    }

    /// Returns the state of the queue. It waits for no process. Fails with `Corrupt`, and with errors of `ring`.
    pub fn stat(&self, ring: &impl Ring, laps: Laps) -> Result<QueueInfo> {
        let (claim, tail) = self.ends()?;
        let mut stat = QueueInfo {
            messages: 0,
            bytes: 0,
            reserved: 0,
            leased: 0,
            puts: tail.messages,
            gets: claim.messages,
            overwritten: self.overwritten.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            redelivered: self.redelivered.load(Ordering::Relaxed),
            waits: (self.messages.waits(), self.room.waits()),
            memory: self.usable.load(Ordering::Relaxed),
            shut_down: self.is_shut_down(),
            holders: (
                self.producer_lock.stat().owner,
                self.consumer_lock.stat().owner,
            ),
            held_up_by: None,
        };
        let (mut more, mut fewer) = ((0, 0), (0, 0));
        // PAIRS queue.head
        let leases = self.head.load(Ordering::Acquire) != AS_CLAIM;
        if leases || !self.reserved_before(claim.position) {
            for seen in self.walk(ring, laps, self.head(), claim.position, tail.position) {
                let seen = seen?;
                match seen.state {
                    State::Ready => more = (more.0 + 1, more.1 + seen.length),
                    State::Leased(_) => stat.leased += 1,
                    State::Reserved(_) | State::Done | State::Pad => {}
                }
            }
            let end = self.reserved_end(claim.position, tail.position);
            // Whether everything from claim to here is a gap, over which claim has not moved yet.
            let mut is_gap = true;
            for seen in self.walk(ring, laps, claim.position, tail.position, tail.position) {
                let seen = seen?;
                is_gap &= match seen.state {
                    State::Done | State::Pad => true,
                    State::Reserved(id) => {
                        stat.reserved += 1;
                        if is_gap {
                            stat.held_up_by = Some(id);
                        }
                        false
                    }
                    State::Leased(_) => {
                        // Claim has not moved past it yet.
                        stat.leased += 1;
                        false
                    }
                    State::Ready => false,
                };
                let (count, bytes) = unavailable(&seen);
                fewer = (fewer.0 + count, fewer.1 + bytes);
                if !is_gap && (seen.next.wrapping_sub(end) as i64) >= 0 {
                    break;
                }
            }
        }
        // Other processes continue meanwhile, so that the difference can be negative.
        let left = |tail: u64, claim: u64, fewer| {
            (tail.wrapping_sub(claim) as i64)
                .saturating_sub(fewer as i64)
                .max(0) as u64
        };
        stat.messages = left(tail.messages, claim.messages, fewer.0) + more.0;
        stat.bytes = left(tail.bytes, claim.bytes, fewer.1) + more.1;
        Ok(stat)
    }

    /// Returns claim and tail, of the same moment unless claim keeps moving.
    fn ends(&self) -> Result<(CursorSnapshot, CursorSnapshot)> {
        let mut claim = self.claim.read()?;
        let mut tail = self.tail.read()?;
        for _ in 0..MAX_PAIR_ATTEMPTS {
            if self.claim.position() == claim.position {
                break;
            }
            claim = self.claim.read()?;
            tail = self.tail.read()?;
        }
        Ok((claim, tail))
    }

    /// Returns whether every record that was ever reserved is before claim.
    pub(super) fn reserved_before(&self, claim: u64) -> bool {
        // PAIRS queue.reserved
        let reserved = self.reserved.load(Ordering::Acquire);
        claim.wrapping_sub(reserved) as i64 >= 0
    }

    /// Returns the end of the last record that was reserved, between claim and tail.
    pub(super) fn reserved_end(&self, claim: u64, tail: u64) -> u64 {
        // PAIRS queue.reserved
        let reserved = self.reserved.load(Ordering::Acquire);
        match self.reserved_before(claim) {
            true => claim,
            // A producer stores it before tail moves; if the producer died in between, it is beyond tail.
            false if tail.wrapping_sub(reserved) as i64 >= 0 => reserved,
            false => tail,
        }
    }

    /// Iterates over the records from `from` to `to`, without those that head passes meanwhile.
    fn walk<'a>(
        &'a self,
        ring: &'a impl Ring,
        laps: Laps,
        from: u64,
        to: u64,
        tail: u64,
    ) -> impl Iterator<Item = Result<Seen>> + 'a {
        let mut at = Some(from);
        std::iter::from_fn(move || {
            loop {
                let position = at.filter(|&position| (to.wrapping_sub(position) as i64) > 0)?;
                match self.copy(ring, laps, position, tail).transpose() {
                    Some(seen) => {
                        // Nothing follows a record that is corrupt.
                        at = seen.as_ref().ok().map(|seen| seen.next);
                        return Some(seen);
                    }
                    None => {
                        let head = self.head();
                        // Head never moves back, so this ends whatever the words contain.
                        if (head.wrapping_sub(position) as i64) <= 0 {
                            at = None;
                            return Some(Err(corrupt(position)));
                        }
                        at = Some(head);
                    }
                }
            }
        })
    }

    /// Copies the record at `position`, or returns `None` if head has passed it. Fails with `Corrupt` if it is no
    /// record.
    fn copy(&self, ring: &impl Ring, laps: Laps, position: u64, tail: u64) -> Result<Option<Seen>> {
        for _ in 0..MAX_COPY_ATTEMPTS {
            let copy = Record::of(ring.copy(laps.offset(position))?);
            // PAIRS queue.head: a producer overwrites the record only after it has read a head behind it.
            fence(Ordering::Acquire);
            if (self.head().wrapping_sub(position) as i64) > 0 {
                return Ok(None);
            }
            if let Some(seen) = copy.look(laps, position, tail) {
                return Ok(Some(seen));
            }
        }
        Err(corrupt(position))
    }
}
