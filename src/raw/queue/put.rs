//! Putting: under the producer lock a record is written at tail, and then tail moves past it.

use super::cursor::CursorSnapshot;
use super::place::Used;
use super::record::{RECORD_HEADER, Ring, State, extent};
use super::{AS_CLAIM, Held, LARGE_MESSAGE, Overflow, QueueRef, unavailable};
use crate::error::{Error, Result};
use crate::raw::wait::Wait;
use crate::raw::{Liveness, Timeout, WaitOptions};
use crate::sys::atomic::Ordering;
use crate::sys::futex::WaitSet;

/// Room for a message that its producer fills in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The token that `commit` and `abort` expect.
    pub token: u64,
    /// The offset of its bytes in the ring.
    pub offset: u64,
    /// How many bytes were reserved.
    pub room: u64,
}

/// How many of several messages must be put at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// All of them, or none.
    All,
    /// As many as there is room for, but at least one.
    Some,
}

/// How far ahead the next lines of the ring are prefetched, because consumers have read them in the last lap (D-058).
const PREFETCH_DISTANCE_BYTES: u64 = 1024;
const CACHE_LINE_BYTES: u64 = 64;

/// What a put lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    /// The bounds allow no more messages, or bytes.
    Bounds,
    /// Bytes of the ring.
    Space,
    /// Memory for the bytes: some has been set aside, and more must be.
    Memory,
    /// The right to set memory aside: another live process has had it for a while.
    Growth,
}

type Attempt<T> = std::result::Result<T, Shortage>;
/// The result of an attempt, and how many messages it put.
type Attempted<T> = Result<Attempt<(T, u64)>>;

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Puts a message if that is a few steps: the lock is free, and there is room at tail.
    #[inline(always)]
    pub fn try_put(&self, bytes: &[u8]) -> bool {
        let room = bytes.len() as u64;
        if room >= LARGE_MESSAGE || room > self.bounds.largest {
            return false;
        }
        let Some(held) = self.hold_uncontended(&self.raw.producer_lock) else {
            return false;
        };
        let put = self.try_append(bytes);
        match put {
            true => {
                held.release();
                self.raw.messages.notify_after_exchange(1);
            }
            // Perhaps this is a child that was forked meanwhile.
            false => drop(held),
        }
        put
    }

    #[inline(always)]
    fn try_append(&self, bytes: &[u8]) -> bool {
        let raw = self.raw;
        let Some(now) = raw.tail.look().filter(|_| !raw.is_shut_down()) else {
            return false;
        };
        let Some(new) = self.try_write(now, bytes) else {
            return false;
        };
        // From here on the message is in the queue.
        raw.tail.commit(new);
        true
    }

    /// Writes a message at `now`; returns the tail after it, or `None` if that takes more than a few steps. Requires
    /// the producer lock.
    #[inline(always)]
    fn try_write(&self, now: CursorSnapshot, bytes: &[u8]) -> Option<CursorSnapshot> {
        let room = bytes.len() as u64;
        let (extent, offset) = (extent(room), self.laps.offset(now.position));
        let easy = self.has_room_fast(now, room)
            && self.is_checked(now.position, extent)
            && self.ring.has(offset + extent);
        if !easy {
            return None;
        }
        self.ring.prefetch(offset + PREFETCH_DISTANCE_BYTES);
        self.ring
            .prefetch(offset + PREFETCH_DISTANCE_BYTES + CACHE_LINE_BYTES);
        let record = self.ring.record(offset).ok()?;
        record.write(now.position, State::Ready, room);
        self.ring.write(offset + RECORD_HEADER, bytes).ok()?;
        self.check_copy(room).ok()?;
        Some(now.and(now.position.wrapping_add(extent), room))
    }

    /// Puts a message at the end. When this returns, the message is in the queue.
    ///
    /// Fails with `TooLarge` if it can never be put, with `ShutDown`, with `Corrupt`, and with errors of `liveness`.
    /// Fails with `Full`, `Timeout` or `Interrupted` if there was no room, and with `NoSpace` or `NoMemory` if the ring
    /// cannot grow. The message is not put then.
    #[inline]
    pub fn put(&self, bytes: &[u8], options: WaitOptions) -> Result<()> {
        let room = bytes.len() as u64;
        if room >= LARGE_MESSAGE {
            return self.put_large(bytes, options);
        }
        self.check_size(room)?;
        self.insert(options, |queue| {
            let now = queue.raw.tail.current()?;
            Ok(match queue.append(now, room, State::Ready)? {
                Err(shortage) => Err(shortage),
                Ok((at, new)) => {
                    queue.ring.write(queue.payload(at), bytes)?;
                    queue.check_copy(room)?;
                    // From here on the message is in the queue.
                    queue.raw.tail.commit(new);
                    Ok(((), 1))
                }
            })
        })
    }

    /// Copies without the producer lock, so that other producers continue meanwhile (D-053).
    #[cold]
    fn put_large(&self, bytes: &[u8], options: WaitOptions) -> Result<()> {
        let place = self.reserve(bytes.len() as u64, options)?;
        let written = self.ring.write(place.offset, bytes);
        // A signal handler may fork during a long copy.
        self.origin().check()?;
        match written {
            Ok(()) => self.commit(place.token, bytes.len() as u64),
            Err(error) => self.abort(place.token).and(Err(error)),
        }
    }

    /// Puts several messages, one after the other and no other between them; returns how many.
    ///
    /// Fails as `put`. `TooLarge` means that one message is too large, or that all together exceed half of the ring, or
    /// the bounds.
    pub fn put_many<'m, M>(&self, messages: M, batch: Batch, options: WaitOptions) -> Result<u64>
    where
        M: Iterator<Item = &'m [u8]> + Clone,
    {
        let (mut count, mut bytes, mut whole) = (0, 0u64, 0u64);
        for message in messages.clone() {
            let length = message.len() as u64;
            self.check_size(length)?;
            count += 1;
            bytes = bytes.saturating_add(length);
            whole = whole.saturating_add(extent(length));
        }
        let bounds = self.bounds;
        let beyond = |limit: u64, given: u64| limit > 0 && given > limit;
        if batch == Batch::All
            && (beyond(bounds.messages, count)
                || beyond(bounds.bytes, bytes)
                || count > 1 && whole > bounds.capacity / 2)
        {
            return Err(Error::TooLarge(
                format!("{count} messages of {bytes} bytes can never be put at once; put fewer at a time")
                    .into(),
            ));
        }
        if count == 0 {
            return Ok(0);
        }
        self.insert(options, |queue| {
            let mut now = queue.raw.tail.current()?;
            let mut put = 0;
            for message in messages.clone() {
                if let Some(new) = queue.try_write(now, message) {
                    (now, put) = (new, put + 1);
                    continue;
                }
                let room = message.len() as u64;
                match queue.append(now, room, State::Ready)? {
                    Err(shortage) if put == 0 || batch == Batch::All => return Ok(Err(shortage)),
                    Err(_) => break,
                    Ok((at, new)) => {
                        queue.ring.write(queue.payload(at), message)?;
                        (now, put) = (new, put + 1);
                    }
                }
            }
            queue.raw.tail.commit(now);
            Ok(Ok((put, put)))
        })
    }

    /// Reserves room for a message of `room` bytes, at the end. Before it is committed no consumer gets it, nor any
    /// message behind it.
    ///
    /// Fails as `put`.
    pub fn reserve(&self, room: u64, options: WaitOptions) -> Result<Reservation> {
        self.check_size(room)?;
        self.insert(options, |queue| {
            let now = queue.raw.tail.current()?;
            Ok(match queue.append(now, room, State::Reserved(queue.me))? {
                Err(shortage) => Err(shortage),
                Ok((token, new)) => {
                    // PAIRS queue.reserved: stored before tail moves, so that a reader of the record's position sees
                    // it.
                    queue.raw.reserved.store(new.position, Ordering::Release);
                    queue.raw.tail.commit(new);
                    let offset = queue.payload(token);
                    Ok((
                        Reservation {
                            token,
                            offset,
                            room,
                        },
                        0,
                    ))
                }
            })
        })
    }

    /// Returns whether an empty message would have to wait.
    pub fn is_full(&self) -> Result<bool> {
        let _held = self.hold_producer_lock(WaitOptions::NONBLOCKING)?;
        if self.find_room()?.is_ok() {
            return Ok(false);
        }
        // What dead processes left may be room for this message.
        let found = self
            .without_overflow()
            .make_room(&|queue: &Self| queue.find_room())?;
        Ok(found.is_err())
    }

    /// Waits until there is room for an empty message, which another producer may use first. Fails as `put`. It
    /// discards nothing for that, and waits even where the queue makes a put fail at once.
    pub fn wait_for_room(&self, options: WaitOptions) -> Result<()> {
        if self.overflow == Overflow::Overwrite {
            return Ok(());
        }
        self.without_overflow()
            .insert(options, |queue| queue.find_room())
    }

    /// Returns a view of this queue whose puts wait: they neither discard a message nor fail with `Full` at once.
    fn without_overflow(&self) -> Self {
        QueueRef {
            overflow: Overflow::Block,
            ..*self
        }
    }

    /// Returns whether there is room for an empty message. Requires the producer lock.
    fn find_room(&self) -> Attempted<()> {
        let now = self.raw.tail.current()?;
        if !self.has_room(now, 0)? {
            return Ok(Err(Shortage::Bounds));
        }
        let used = self.used(now);
        let place = used.place(self.laps, u64::MAX, extent(0))?;
        Ok(place.map(|_| ((), 0)).ok_or(Shortage::Space))
    }

    #[inline(always)]
    fn check_size(&self, room: u64) -> Result<()> {
        match room <= self.bounds.largest {
            true => Ok(()),
            false => Err(Error::TooLarge(
                format!(
                    "a message of this queue must have at most {} bytes, not {room}",
                    self.bounds.largest
                )
                .into(),
            )),
        }
    }

    /// Calls `attempt` under the producer lock until there is room. `attempt` returns its result and how many messages
    /// it put.
    #[inline(always)]
    fn insert<T>(
        &self,
        options: WaitOptions,
        attempt: impl Fn(&Self) -> Attempted<T>,
    ) -> Result<T> {
        let held = self.hold_producer_lock(options)?;
        if self.raw.is_shut_down() {
            drop(held);
            // A consumer that waits for the end of the queue may have waited for this holder of the lock.
            self.raw.messages.notify(u64::MAX);
            return Err(shut_down());
        }
        match attempt(self)? {
            Ok((done, put)) => {
                held.release();
                if put > 0 {
                    self.raw.messages.notify_after_exchange(put);
                }
                Ok(done)
            }
            Err(_) => self.insert_slow(options, held, &attempt),
        }
    }

    #[cold]
    fn insert_slow<'a, T>(
        &'a self,
        options: WaitOptions,
        held: Held<'a, L>,
        attempt: &dyn Fn(&Self) -> Attempted<T>,
    ) -> Result<T> {
        let mut wait = Wait::new(options, &self.handle.room, self.origin()).eager();
        let result = self.insert_by(
            &mut wait,
            held,
            options.timeout == Timeout::Immediate,
            attempt,
        );
        // The parent goes on to wait.
        self.origin().check()?;
        // There may be room for more producers; and if this call fails, a wake may have been meant for it.
        self.raw.room.notify(1);
        let (done, put) = result?;
        wait.record_success();
        if put > 0 {
            self.raw.messages.notify(put);
        }
        Ok(done)
    }

    /// Tries until there is room, as long as `wait` allows; with `once`, tries a single time.
    fn insert_by<'a, T>(
        &'a self,
        wait: &mut Wait<'_>,
        mut held: Held<'a, L>,
        once: bool,
        attempt: &dyn Fn(&Self) -> Attempted<T>,
    ) -> Result<(T, u64)> {
        let raw = self.raw;
        let mut key = None;
        loop {
            // 1. Reclaiming, or discarding the oldest, may make room. A message that is taken after this read is news.
            let taken = self.taken();
            match self.make_room(attempt)? {
                Ok(done) => return Ok(done),
                Err(Shortage::Memory) => {
                    // Much memory is set aside in parts, and the lock is released in between, because the hook may put
                    // a message itself.
                    drop(held);
                    wait.ask()?;
                    held = self.hold_producer_lock(wait.rest())?;
                    if raw.is_shut_down() {
                        return Err(shut_down());
                    }
                    continue;
                }
                Err(Shortage::Growth) => {
                    drop(held);
                    wait.check("another process changes the size of the queue")?;
                    wait.ask()?;
                    held = self.hold_producer_lock(wait.rest())?;
                    continue;
                }
                Err(Shortage::Bounds | Shortage::Space) => drop(held),
            }
            if once || self.overflow != Overflow::Block {
                return Err(Error::Full("the queue is full".into()));
            }
            // 2. A consumer may be about to take a message.
            let mut news = false;
            while !news && key.is_none() && wait.spin() {
                news = self.taken() != taken;
            }
            if !news {
                // 3. Sleep until a message is taken, if there was still no room after `prepare_wait`.
                if let Some(key) = key {
                    wait.check("the queue is full")?;
                    raw.room.commit_wait(key, wait, WaitSet::Normal)?;
                }
                key = Some(raw.room.prepare_wait());
            }
            // 4. Another producer may have used the room.
            wait.check_origin()?;
            held = self.hold_producer_lock(wait.rest())?;
            if raw.is_shut_down() {
                return Err(shut_down());
            }
            if let Ok(done) = attempt(self)? {
                return Ok(done);
            }
        }
    }

    /// Returns a value that changes when a message is taken.
    fn taken(&self) -> (u64, u64) {
        (
            self.raw.claim.position(),
            self.raw.head.load(Ordering::Relaxed),
        )
    }

    /// Tries once more after reclaiming what dead processes left, and, in an overwriting queue, after discarding the
    /// oldest.
    fn make_room<T>(&self, attempt: &dyn Fn(&Self) -> Attempted<T>) -> Attempted<T> {
        if self.overflow != Overflow::Overwrite {
            // If a live process holds the consumer lock, it notifies when it has taken a message.
            if let Some(held) = self.try_hold_consumer_lock()? {
                self.reclaim(&held)?;
            }
            return attempt(self);
        }
        let held = match self.hold_consumer_lock(WaitOptions::NONBLOCKING) {
            Ok(held) => held,
            // The holder of the consumer lock was stopped: nothing can be discarded.
            Err(Error::WouldBlock(_)) => return attempt(self),
            Err(error) => return Err(error),
        };
        loop {
            self.reclaim(&held)?;
            let shortage = match attempt(self)? {
                Ok(done) => return Ok(Ok(done)),
                Err(shortage @ (Shortage::Memory | Shortage::Growth)) => {
                    return Ok(Err(shortage));
                }
                Err(shortage) => shortage,
            };
            // Discarding messages behind a record that is still needed frees nothing before that record.
            let held_up =
                shortage == Shortage::Space && self.raw.head.load(Ordering::Relaxed) != AS_CLAIM;
            let discarded = match held_up {
                true => self.discard_head(&held)?,
                false => self.discard_oldest(&held)?,
            };
            if !discarded {
                return Ok(Err(shortage));
            }
        }
    }

    /// Returns whether the bounds allow one more message, of `room` bytes, after those of `now`.
    #[inline(always)]
    fn has_room(&self, now: CursorSnapshot, room: u64) -> Result<bool> {
        match self.has_room_fast(now, room) {
            true => Ok(true),
            false => self.has_room_exact(now, room),
        }
    }

    /// As `has_room`, from the counts that a producer last read: true is certain, false may be wrong.
    #[inline(always)]
    fn has_room_fast(&self, now: CursorSnapshot, room: u64) -> bool {
        let (bounds, raw) = (self.bounds, self.raw);
        if bounds.messages == 0 && bounds.bytes == 0 {
            return true;
        }
        let taken = raw.known_messages.load(Ordering::Relaxed);
        let bytes = raw.known_bytes.load(Ordering::Relaxed);
        self.within(now, room, taken, bytes)
    }

    #[inline(always)]
    fn within(&self, now: CursorSnapshot, room: u64, taken: u64, bytes: u64) -> bool {
        let bounds = self.bounds;
        let fits = |limit: u64, there: u64| limit == 0 || there <= limit;
        fits(
            bounds.messages,
            now.messages.wrapping_sub(taken).saturating_add(1),
        ) && fits(
            bounds.bytes,
            now.bytes.wrapping_sub(bytes).saturating_add(room),
        )
    }

    #[cold]
    fn has_room_exact(&self, now: CursorSnapshot, room: u64) -> Result<bool> {
        let raw = self.raw;
        // 1. Messages that were taken since a producer last read claim.
        let claim = raw.claim.read()?;
        raw.known_messages.store(claim.messages, Ordering::Relaxed);
        raw.known_bytes.store(claim.bytes, Ordering::Relaxed);
        if self.within(now, room, claim.messages, claim.bytes) {
            return Ok(true);
        }
        // 2. Messages that count but cannot be taken. None is overwritten while this process holds the producer lock
        //    (D-054).
        let tail = raw.tail.position();
        let end = self.raw.reserved_end(claim.position, tail);
        let (mut messages, mut bytes) = (claim.messages, claim.bytes);
        for seen in self.walk(claim.position, end, tail) {
            let seen = seen?;
            let (count, less) = match seen.state {
                // It may be committed, and counts then.
                State::Reserved(id) if !self.liveness.is_dead(id, self.origin())? => (0, 0),
                _ => unavailable(&seen),
            };
            messages = messages.wrapping_add(count);
            bytes = bytes.wrapping_add(less);
        }
        Ok(self.within(now, room, messages, bytes))
    }

    /// Returns the part of the ring that is in use. Requires the producer lock.
    fn used(&self, now: CursorSnapshot) -> Used {
        Used {
            head: self.raw.head(),
            tail: now.position,
            wrap_position: self.raw.wrap_position.load(Ordering::Relaxed),
        }
    }

    /// Writes the header of a record of `room` bytes after `now`; returns its position, and the tail after it. Requires
    /// the producer lock.
    #[inline(always)]
    fn append(
        &self,
        now: CursorSnapshot,
        room: u64,
        state: State,
    ) -> Result<Attempt<(u64, CursorSnapshot)>> {
        if !self.has_room(now, room)? {
            return Ok(Err(Shortage::Bounds));
        }
        let extent = extent(room);
        let at = match self.is_checked(now.position, extent) {
            true => now.position,
            false => match self.place(now, extent)? {
                Ok(at) => at,
                Err(shortage) => return Ok(Err(shortage)),
            },
        };
        let offset = self.laps.offset(at);
        self.ring.record(offset)?.write(at, state, room);
        Ok(Ok((at, now.and(at.wrapping_add(extent), room))))
    }

    /// Returns whether a record of `extent` bytes fits at `tail` without a check of head, memory and lap.
    #[inline(always)]
    fn is_checked(&self, tail: u64, extent: u64) -> bool {
        let checked_until = self.raw.checked_until.load(Ordering::Relaxed);
        checked_until.wrapping_sub(tail.wrapping_add(extent + RECORD_HEADER)) as i64 >= 0
    }

    /// Finds a place for a record of `extent` bytes after `now`, and memory for it.
    #[cold]
    fn place(&self, now: CursorSnapshot, extent: u64) -> Result<Attempt<u64>> {
        let (raw, laps, tail) = (self.raw, self.laps, now.position);
        let used = self.used(now);
        let usable = raw.usable.load(Ordering::Relaxed);
        let claim = raw.claim.position();
        if self.raw.reserved_before(claim) {
            // Keeps `reserved` from falling so far behind claim that it would seem to be ahead.
            raw.reserved.store(claim, Ordering::Relaxed);
        }
        let Some(at) = used.place(laps, usable, extent)? else {
            return Ok(Err(Shortage::Space));
        };
        let end = laps.offset(at) + extent + RECORD_HEADER;
        if end > usable {
            match self.grow(end) {
                Ok(true) => {}
                Ok(false) => return Ok(Err(Shortage::Memory)),
                Err(Error::Timeout(_)) => return Ok(Err(Shortage::Growth)),
                Err(error) => return Err(error),
            }
        }
        // Of the records that a batch has written none may count in the end: tail may stay where it is.
        let committed = raw.tail.position();
        if at == tail {
            let jumped = raw.checked_until.load(Ordering::Relaxed) == committed;
            if tail == committed || !jumped {
                let usable = raw.usable.load(Ordering::Relaxed);
                let checked_until = used.checked_until(laps, usable);
                raw.checked_until.store(checked_until, Ordering::Relaxed);
            }
            return Ok(Ok(at));
        }
        self.ring.record(laps.offset(tail))?.write_pad(tail, at);
        // Even if tail never gets there, the next producer checks.
        raw.checked_until.store(committed, Ordering::Relaxed);
        if laps.between(tail, at) == 1 {
            // If this process dies before tail gets there, the position is in tail's own lap and has no meaning.
            raw.wrap_position.store(tail, Ordering::Relaxed);
            self.trim(laps.offset(tail) + extent + RECORD_HEADER)?;
        }
        Ok(Ok(at))
    }
}

#[cold]
pub(super) fn shut_down() -> Error {
    Error::ShutDown("the queue is shut down".into())
}
