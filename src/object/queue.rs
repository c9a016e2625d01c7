//! Queues: messages of any length from many producers to many consumers, of whom any may be killed at any instruction.
//!
//! `sync::queue` has the states and what changes them; here a queue gets its place, its memory, which grows with what is in
//! it, and its users' identity.
//!
//! ```
//! use shmkit::queue::{Options, WaitOptions, Queue};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let queue = Queue::unnamed(&Options::default())?;
//! queue.put(b"copied in", WaitOptions::BLOCKING)?;
//! assert_eq!(queue.get(WaitOptions::BLOCKING)?, b"copied in");
//!
//! let slot = queue.reserve(4, WaitOptions::BLOCKING)?;
//! // SAFETY: the four bytes are ours until they are committed.
//! unsafe { slot.bytes().cast::<[u8; 4]>().write(*b"fill") };
//! slot.commit(4)?;
//! let lease = queue.lease(WaitOptions::BLOCKING)?;
//! // SAFETY: nobody writes them as long as the lease lasts.
//! assert_eq!(unsafe { lease.bytes().cast::<[u8; 4]>().read() }, *b"fill");
//! lease.ack()?; // had this process been killed, another one would get it
//! # Ok(())
//! # }
//! ```

mod notice;
mod ring;

pub use super::lock::{Create, Named, Timeout, WaitOptions};
use super::{NoCell, Object, Placed, Recipe, Tag, place};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::{Id, Person};
pub use crate::raw::queue::record::GRAIN;
pub use crate::raw::queue::{Batch, LARGE, Lease, Overflow, Reservation, Stat, Taken};
use crate::raw::queue::{Bounds, Habits, LEAST, Laps, MOST, Words};
use crate::segment::Segment;
use notice::Notices;
pub use notice::What;
use ring::Memory;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How many bytes a queue with a file of its own may hold, where nothing is said: that much address space, and no memory.
pub const CAPACITY: u64 = 64 << 30;
/// How many bytes one in a segment holds, where nothing is said.
pub const CAPACITY_AT: u64 = 64 << 10;

/// How much of a file of its own has memory from the beginning.
const FIRST: u64 = 64 << 10;

/// In the tag: what becomes of messages for which there is no room.
const OVERWRITE: u16 = 1;
const FAIL: u16 = 2;

impl Object for Words {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// How a queue is made. `Options::default()` never blocks who puts: its memory follows what is in it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many bytes it may hold, 32 and more for each message included, 1 KiB to 64 TiB, a multiple of 32; a message may
    /// have half of it. 0: 64 GiB, of which only what is used gets memory; in a segment 64 KiB.
    pub capacity: u64,
    /// How many messages it may hold; 0: any number.
    pub messages: u64,
    /// How many bytes those may have together; 0: any number.
    pub bytes: u64,
    /// What becomes of a message for which there is no room.
    pub overflow: Overflow,
    /// How one with a file of its own is made and opened.
    pub named: Named,
}

impl Options {
    fn bounds(&self, capacity: u64) -> Result<Bounds> {
        let capacity = match self.capacity {
            0 => capacity,
            capacity => capacity,
        };
        Bounds::new(capacity, self.messages, self.bytes).ok_or_else(|| {
            let text = format!(
                "options: a capacity of {capacity} bytes; a queue has {LEAST} to {MOST}, in multiples of {GRAIN}"
            );
            Error::Invalid(text.into())
        })
    }

    /// Returns how many bytes such a queue takes in a segment.
    pub fn size(&self) -> Result<u64> {
        Ok(Words::SIZE + self.bounds(CAPACITY_AT)?.ring())
    }

    /// Makes or finds one by `place`; of its ring a new one has `usable` bytes at first, of which `touched` are to be given back.
    fn place(
        &self,
        bounds: &Bounds,
        usable: u64,
        touched: u64,
        create: Create,
        place: impl FnOnce(&Recipe<'_, Words>) -> Result<Placed<Words>>,
    ) -> Result<Queue> {
        let tag = Tag {
            kind: Kind::Queue,
            flags: match self.overflow {
                Overflow::Block => 0,
                Overflow::Fail => FAIL,
                Overflow::Overwrite => OVERWRITE,
            },
            cells: 0,
        };
        let prepare = |words: &Words, _: &[NoCell]| words.prepare(bounds, usable, touched);
        let queue = Queue::new(place(&Recipe {
            behind: usable,
            growth: bounds.ring() - usable,
            ..Recipe::new(tag, &prepare)
        })?)?;
        if create == Create::IfMissing && queue.core.bounds != *bounds {
            return Err(Error::Invalid(
                format!(
                    "the Queue is there, but was made for {:?}",
                    queue.core.bounds
                )
                .into(),
            ));
        }
        Ok(queue)
    }

    fn in_file(
        &self,
        create: Create,
        place: impl FnOnce(&Recipe<'_, Words>) -> Result<Placed<Words>>,
    ) -> Result<Queue> {
        let bounds = self.bounds(CAPACITY)?;
        let usable = bounds.ring().min(FIRST - Words::SIZE);
        self.place(&bounds, usable, usable, create, place)
    }

    fn in_segment(
        &self,
        create: Create,
        place: impl FnOnce(&Recipe<'_, Words>) -> Result<Placed<Words>>,
    ) -> Result<Queue> {
        let bounds = self.bounds(CAPACITY_AT)?;
        // Its memory is the segment's.
        self.place(&bounds, bounds.ring(), 0, create, place)
    }
}

impl Words {
    const SIZE: u64 = size_of::<Words>() as u64;
}

/// A queue of which this process has a handle.
pub struct Queue {
    core: Arc<Core>,
    notices: Notices,
}

/// What its helper threads share with it.
struct Core {
    placed: Placed<Words>,
    ring: Memory,
    bounds: Bounds,
    laps: Laps,
    overflow: Overflow,
    habits: Habits,
}

impl Core {
    /// Calls `body` with the queue as this process has it.
    #[inline(always)]
    fn with<T>(
        &self,
        body: impl FnOnce(&crate::raw::queue::Queue<'_, Memory, Segment>) -> Result<T>,
    ) -> Result<T> {
        body(&self.queue(self.placed.id()?))
    }

    #[inline(always)]
    fn queue(&self, me: Id) -> crate::raw::queue::Queue<'_, Memory, Segment> {
        crate::raw::queue::Queue {
            words: self.placed.words(),
            ring: &self.ring,
            bounds: &self.bounds,
            laps: self.laps,
            overflow: self.overflow,
            habits: &self.habits,
            me,
            life: self.placed.segment(),
        }
    }
}

impl Queue {
    fn new(placed: Placed<Words>) -> Result<Queue> {
        let bounds = placed.words().bounds()?;
        let segment = placed.segment().clone();
        let offset = placed.offset() + Words::SIZE;
        let ring = Memory::new(segment, offset, bounds.ring())?;
        let overflow = match placed.flags() {
            OVERWRITE => Overflow::Overwrite,
            FAIL => Overflow::Fail,
            _ => Overflow::Block,
        };
        Ok(Queue {
            core: Arc::new(Core {
                placed,
                ring,
                laps: Laps::new(bounds.ring()),
                bounds,
                overflow,
                habits: Habits::default(),
            }),
            notices: Notices::default(),
        })
    }

    /// Makes one without a name, in a memory file of its own: children have it, and whoever is handed its descriptor.
    pub fn unnamed(options: &Options) -> Result<Queue> {
        options.in_file(Create::Always, |recipe| {
            Placed::in_unnamed_file(recipe, &options.named)
        })
    }

    /// Makes or finds the queue of this name: a file that holds it alone.
    ///
    /// `Invalid`: it is there, but was made with other bounds.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<Queue> {
        options.in_file(create, |recipe| {
            Placed::in_file(name, recipe, create, &options.named)
        })
    }

    /// Makes or finds the queue at `offset` of the data of a full segment; it takes `Options::size` bytes there, and never
    /// more.
    ///
    /// `WrongKind`: something else stands there, or the segment is plain. `Invalid`: not a multiple of 64, not inside, or it
    /// was made with other bounds.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<Queue> {
        options.in_segment(create, |recipe| Placed::at(segment, offset, recipe, create))
    }

    /// Finds the queue that was handed over: a descriptor, and the place that `offset` said where it comes from.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<Queue> {
        options.in_file(Create::Never, |recipe| {
            Placed::open_fd(fd, offset, recipe, &options.named)
        })
    }

    /// Puts a message at the end; when this returns it is in the queue, whatever becomes of us.
    ///
    /// `TooLarge`: it can never be put. `Full`, `Timeout`, `Interrupted`: it was not put; nor where `NoSpace` says that there is
    /// no memory to grow into. `Closed`: the queue is shut down. `Corrupt`; as of `Lock::acquire`.
    #[inline]
    pub fn put(&self, bytes: &[u8], options: WaitOptions) -> Result<()> {
        match self.put_fast(bytes) {
            true => Ok(()),
            false => self.put_slowly(bytes, options),
        }
    }

    /// As `put`, if that is a few steps; it cannot panic.
    #[inline(always)]
    pub(crate) fn put_fast(&self, bytes: &[u8]) -> bool {
        let me = self.core.placed.known_id();
        me.is_some_and(|me| self.core.queue(me).put_easily(bytes))
    }

    #[cold]
    fn put_slowly(&self, bytes: &[u8], options: WaitOptions) -> Result<()> {
        let put = self.core.with(|queue| queue.put(bytes, options));
        self.notices.look_after(What::Room, &put);
        put
    }

    /// Puts several messages, one after the other and nothing between them; returns how many.
    ///
    /// As `put`; `TooLarge`: `Batch::All`, and together they are more than half the capacity, or than the bounds.
    pub fn put_many<'m, M>(&self, messages: M, batch: Batch, options: WaitOptions) -> Result<u64>
    where
        M: Iterator<Item = &'m [u8]> + Clone,
    {
        let put = self
            .core
            .with(|queue| queue.put_many(messages, batch, options));
        self.notices.look_after(What::Room, &put);
        put
    }

    /// Takes the first message; when this returns nobody else gets it.
    ///
    /// `Empty`, `Timeout`, `Interrupted`: there is none. `Closed`: the queue is shut down, and nothing is left. `Corrupt`; as of
    /// `Lock::acquire`.
    pub fn get(&self, options: WaitOptions) -> Result<Vec<u8>> {
        const USUAL: usize = 256;
        let mut message = Vec::<u8>::with_capacity(USUAL);
        loop {
            let length = match self.get_into(message.spare_capacity_mut(), options) {
                Ok(taken) => {
                    // SAFETY: so many bytes have been written.
                    unsafe { message.set_len(taken.length as usize) };
                    return Ok(message);
                }
                // Another may take it first; then the next may be larger still.
                Err(Error::TooLarge(_)) => self.peek_into(&mut [], options)?.length,
                Err(error) => return Err(error),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if message.try_reserve_exact(length).is_err() {
                let text = format!(
                    "no memory for the {length} bytes of the message, which is still there"
                );
                return Err(Error::NoMemory(text.into()));
            }
        }
    }

    /// As `get`, into memory of the caller's. `TooLarge`: the message is larger than that, and still there.
    #[inline]
    pub fn get_into(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        match self.get_fast(buffer) {
            Some(length) => Ok(Taken {
                length,
                attempts: 0,
            }),
            None => self.get_slowly(buffer, options),
        }
    }

    /// As `get_into`, if that is a few steps; it cannot panic.
    #[inline(always)]
    pub(crate) fn get_fast(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<u64> {
        let me = self.core.placed.known_id()?;
        self.core.queue(me).get_easily(buffer)
    }

    #[cold]
    fn get_slowly(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        let taken = self.core.with(|queue| queue.get(buffer, options));
        self.notices.look_after(What::Messages, &taken);
        taken
    }

    /// Copies the beginning of the first message and leaves it there; tells its whole length. As `get`.
    pub fn peek_into(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        let seen = self.core.with(|queue| queue.peek(buffer, options));
        self.notices.look_after(What::Messages, &seen);
        seen
    }

    /// Takes the first messages, as many as there are lengths and the buffer has room for, one behind the other in it; waits
    /// for the first of them. Returns how many.
    ///
    /// As `get_into`.
    pub fn get_many_into(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        lengths: &mut [MaybeUninit<u64>],
        options: WaitOptions,
    ) -> Result<u64> {
        let count = self
            .core
            .with(|queue| queue.get_many(buffer, lengths, options));
        self.notices.look_after(What::Messages, &count);
        count
    }

    /// Reserves room for a message of up to `room` bytes, at the end, to fill it in place; dropped, it is given up.
    ///
    /// As `put`. Until it is committed nobody gets what is put behind it; if this process dies before, it is skipped.
    pub fn reserve(&self, room: u64, options: WaitOptions) -> Result<Slot<'_>> {
        let place = self.reserve_token(room, options)?;
        Ok(Slot { queue: self, place })
    }

    /// As `reserve`; the caller commits or aborts it by its token.
    pub fn reserve_token(&self, room: u64, options: WaitOptions) -> Result<Reservation> {
        let place = self.core.with(|queue| queue.reserve(room, options));
        self.notices.look_after(What::Room, &place);
        place
    }

    /// Puts what was reserved into the queue, with the first `length` bytes of its room.
    ///
    /// `NotOwner`: committed or aborted already, or another process' own. `Invalid`: more than was reserved.
    pub fn commit(&self, token: u64, length: u64) -> Result<()> {
        self.core.with(|queue| queue.commit(token, length))
    }

    /// Gives up what was reserved. `NotOwner`: as of `commit`.
    pub fn abort(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.abort(token))
    }

    /// Takes the first message to read it in place; dropped, it is given back.
    ///
    /// As `get`. Until it is acknowledged nobody else gets it; if this process dies before, the next one does.
    pub fn lease(&self, options: WaitOptions) -> Result<Loan<'_>> {
        let lease = self.lease_token(options)?;
        Ok(Loan { queue: self, lease })
    }

    /// As `lease`; the caller acknowledges it or gives it back by its token.
    pub fn lease_token(&self, options: WaitOptions) -> Result<Lease> {
        let lease = self.core.with(|queue| queue.lease(options));
        self.notices.look_after(What::Messages, &lease);
        lease
    }

    /// Says that a lease is done with. `NotOwner`: acknowledged or given back already, or another process' own.
    pub fn ack(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.ack(token))
    }

    /// Gives a lease back: the next who gets something gets it. `NotOwner`: as of `ack`.
    pub fn nack(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.nack(token))
    }

    /// Returns the address of `length` bytes at `offset`, as a `Reservation` or a `Lease` tells them.
    ///
    /// They stay where they are as long as this handle lives; whose they are says the token. `Corrupt`: there are none.
    pub fn address(&self, offset: u64, length: u64) -> Result<NonNull<u8>> {
        self.core
            .ring
            .address(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Waits until every message has been taken, and none is being filled or read in place. As `Event::wait`.
    pub fn join(&self, options: WaitOptions) -> Result<()> {
        self.core.with(|queue| queue.join(options))
    }

    /// Says that nothing more is put: who waits for room gets `Closed`, who waits for a message gets what is left, and then
    /// `Closed`.
    pub fn shut_down(&self) -> Result<()> {
        self.core.with(|queue| {
            queue.shut();
            Ok(())
        })
    }

    /// Returns a descriptor that poll(2) says can be read from while there may be a message, or room for one; it is this
    /// handle's, and one helper thread of this process keeps it so.
    ///
    /// `Unsupported`: no thread or descriptor is to be had. Whoever is told so tries without waiting, and waits again if
    /// another was faster.
    pub fn notice(&self, what: What) -> Result<i32> {
        self.notices.open(&self.core, what)
    }

    /// Returns what is in it and what has happened to it, and who holds it up.
    ///
    /// `Corrupt`; `WouldBlock`: something is being filled or read in place, and who holds the consumers' lock was stopped.
    pub fn stat(&self) -> Result<Stat> {
        self.core.with(|queue| queue.stat())
    }

    /// Says whether an empty message would have to wait. `WouldBlock`: as of `stat`, of the producers' lock.
    pub fn is_full(&self) -> Result<bool> {
        self.core.with(|queue| queue.is_full())
    }

    /// Returns how much it may hold: bytes in all, messages, bytes of messages; 0: any number.
    pub fn bounds(&self) -> (u64, u64, u64) {
        let Bounds {
            capacity,
            messages,
            bytes,
            ..
        } = self.core.bounds;
        (capacity, messages, bytes)
    }

    /// Returns how many bytes the largest message may have.
    pub fn largest(&self) -> u64 {
        self.core.bounds.largest
    }

    /// Returns what becomes of messages for which there is no room.
    pub fn overflow(&self) -> Overflow {
        self.core.overflow
    }

    /// Returns what is known of a participant that `stat` tells of.
    pub fn person(&self, id: crate::participant::Id) -> Option<Person> {
        self.segment().person(id)
    }
}

place!(Queue, core.placed);

/// Room for a message that is filled in place.
pub struct Slot<'a> {
    queue: &'a Queue,
    place: Reservation,
}

impl Slot<'_> {
    /// Returns the address of its bytes, at a multiple of `GRAIN`: whatever an earlier message has left there.
    pub fn bytes(&self) -> *mut u8 {
        let address = self.queue.address(self.place.offset, self.place.room);
        address.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    /// Returns how many bytes it has.
    pub fn room(&self) -> u64 {
        self.place.room
    }

    /// Puts its first `length` bytes into the queue. As `Queue::commit`.
    pub fn commit(self, length: u64) -> Result<()> {
        self.queue.commit(self.place.token, length)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // It fails in a forked child, whose it is not.
        let _ = self.queue.abort(self.place.token);
    }
}

/// A message that is read in place.
pub struct Loan<'a> {
    queue: &'a Queue,
    lease: Lease,
}

impl Loan<'_> {
    /// Returns the address of its bytes, at a multiple of `GRAIN`; whoever can write the queue can change them.
    pub fn bytes(&self) -> *const u8 {
        let address = self.queue.address(self.lease.offset, self.lease.length);
        address.map_or(std::ptr::null(), |address| address.as_ptr())
    }

    /// Returns how many bytes it has.
    pub fn length(&self) -> u64 {
        self.lease.length
    }

    /// Returns how often it was leased, this time included.
    pub fn attempts(&self) -> u32 {
        self.lease.attempts
    }

    /// Says that it is done with. As `Queue::ack`.
    pub fn ack(self) -> Result<()> {
        self.queue.ack(self.lease.token)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // As for `Slot`.
        let _ = self.queue.nack(self.lease.token);
    }
}
