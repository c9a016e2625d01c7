//! Queues: messages of any length from many producers to many consumers, each of which may be killed at any moment.
//!
//! A message is copied in and out, or written and read in place. A consumer that dies before it acknowledges a lease
//! leaves the message to the next. `raw::queue` has the states.
//!
//! ```
//! use shmkit::queue::{Options, Queue};
//! use std::sync::atomic::Ordering::Relaxed;
//! use std::time::Duration;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let queue = Queue::unnamed(&Options::default())?;
//! queue.put(b"copied in")?;
//! assert_eq!(queue.get()?, b"copied in");
//! assert_eq!(queue.get_timeout(Duration::from_millis(1))?, None);
//!
//! let slot = queue.reserve(4)?;
//! for (byte, value) in slot.bytes().iter().zip(b"fill") {
//!     byte.store(*value, Relaxed);
//! }
//! slot.commit(4)?;
//! let lease = queue.lease()?;
//! assert_eq!(lease.bytes()[0].load(Relaxed), b'f');
//! lease.ack()?;
//! # Ok(())
//! # }
//! ```

mod notice;
mod ring;

pub use super::{Create, FileOptions};
use super::{Layout, NoCell, Noun, Object, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::{Id, ProcessInfo};
use crate::raw::WaitOptions;
use crate::raw::queue as raw;
pub use crate::raw::queue::record::RECORD_ALIGN;
pub use crate::raw::queue::{Batch, LARGE_MESSAGE, Overflow, QueueInfo, Taken};
use crate::raw::queue::{Bounds, Laps, MAX_CAPACITY, MIN_CAPACITY, QueueHandleState, RawQueue};
use crate::segment::Segment;
use notice::Notices;
pub use notice::What;
use ring::RingMemory;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// The default capacity of a queue with a file of its own: address space, not memory.
pub const CAPACITY: u64 = 64 << 30;
/// The default capacity of a queue in a segment.
pub const CAPACITY_AT: u64 = 64 << 10;

/// How much of a file of its own has memory from the beginning.
const FIRST: u64 = 64 << 10;

// Flags of the tag: what happens to messages for which there is no room.
const OVERWRITE: u16 = 1;
const FAIL: u16 = 2;

impl Object for RawQueue {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// How a queue is created and opened. With `Options::default()` memory follows the contents, and `put` never waits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many bytes the queue holds, 1 KiB to 64 TiB, a multiple of 32. A message counts 32 bytes more than its length
    /// and may take half of it. 0: 64 GiB, of which only what is used has memory; in a segment 64 KiB.
    pub capacity: u64,
    /// How many messages the queue holds; 0: any number.
    pub messages: u64,
    /// How many bytes those may have together; 0: any number.
    pub bytes: u64,
    /// What happens to a message for which there is no room.
    pub overflow: Overflow,
    /// The file of a queue that is not in a segment.
    pub file: FileOptions,
}

impl Options {
    fn bounds(&self, storage: Storage) -> Result<Bounds> {
        let capacity = match (self.capacity, storage) {
            (0, Storage::File) => CAPACITY,
            (0, Storage::Segment) => CAPACITY_AT,
            (capacity, _) => capacity,
        };
        Bounds::new(capacity, self.messages, self.bytes).ok_or_else(|| {
            let text = format!(
                "the capacity of a queue must be a multiple of {RECORD_ALIGN} from {MIN_CAPACITY} to {MAX_CAPACITY} bytes, not {capacity}"
            );
            Error::Invalid(text.into())
        })
    }

    /// Returns the size of such a queue in a segment, in bytes.
    ///
    /// # Errors
    /// * `Invalid`: the capacity is out of range
    pub fn size(&self) -> Result<u64> {
        Queue::size(self)
    }
}

impl RawQueue {
    const SIZE: u64 = size_of::<RawQueue>() as u64;
}

/// A queue that this process has open.
pub struct Queue {
    core: Arc<Core>,
    notices: Notices,
}

/// What a queue shares with its helper threads.
struct Core {
    object: ObjectHandle<RawQueue>,
    ring: RingMemory,
    bounds: Bounds,
    laps: Laps,
    overflow: Overflow,
    handle: QueueHandleState,
}

impl Core {
    /// Calls `body` with the queue as this process sees it.
    #[inline(always)]
    fn with<T>(
        &self,
        body: impl FnOnce(&raw::QueueRef<'_, RingMemory, Segment>) -> Result<T>,
    ) -> Result<T> {
        body(&self.queue(self.object.id()?))
    }

    #[inline(always)]
    fn queue(&self, me: Id) -> raw::QueueRef<'_, RingMemory, Segment> {
        raw::QueueRef {
            raw: self.object.raw(),
            ring: &self.ring,
            bounds: &self.bounds,
            laps: self.laps,
            overflow: self.overflow,
            handle: &self.handle,
            me,
            liveness: self.object.segment(),
        }
    }
}

impl Noun for Queue {
    type Raw = RawQueue;
    type Options = Options;
    const UNNAMED: Storage = Storage::File;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, _: Create, storage: Storage) -> Result<Layout<'_, RawQueue>> {
        let bounds = options.bounds(storage)?;
        let tag = Tag {
            flags: match options.overflow {
                Overflow::Block => 0,
                Overflow::Fail => FAIL,
                Overflow::Overwrite => OVERWRITE,
            },
            ..Tag::of(Kind::Queue)
        };
        let ring = bounds.ring();
        // In a segment all memory is the segment's, and none is returned to the kernel.
        let (usable, committed_bytes) = match storage {
            Storage::Segment => (ring, 0),
            Storage::File => {
                let usable = ring.min(FIRST - RawQueue::SIZE);
                (usable, usable)
            }
        };
        let prepare =
            move |raw: &RawQueue, _: &[NoCell]| raw.prepare(&bounds, usable, committed_bytes);
        Ok(Layout {
            tail: usable,
            growth: ring - usable,
            ..Layout::new(tag, prepare)
        })
    }

    fn new(object: ObjectHandle<RawQueue>) -> Result<Queue> {
        let bounds = object.raw().bounds()?;
        let segment = object.segment().clone();
        let offset = object.offset() + RawQueue::SIZE;
        let ring = RingMemory::new(segment, offset, bounds.ring())?;
        let overflow = match object.flags() {
            OVERWRITE => Overflow::Overwrite,
            FAIL => Overflow::Fail,
            _ => Overflow::Block,
        };
        Ok(Queue {
            core: Arc::new(Core {
                object,
                ring,
                laps: Laps::new(bounds.ring()),
                bounds,
                overflow,
                handle: QueueHandleState::default(),
            }),
            notices: Notices::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawQueue> {
        &self.core.object
    }

    fn check(&self, options: &Options, storage: Storage) -> Result<()> {
        let Bounds {
            capacity,
            messages,
            bytes,
            ..
        } = self.core.bounds;
        match self.core.bounds == options.bounds(storage)? {
            true => Ok(()),
            false => Err(Error::Invalid(
                format!(
                    "the Queue exists with other limits: capacity {capacity}, messages {messages}, bytes {bytes} (0: no limit); pass the same, or open it without creating it"
                )
                .into(),
            )),
        }
    }
}

life_cycle!(Queue, Options);

impl Queue {
    /// Puts a message at the end. When this returns the message is in the queue, even if this process dies.
    ///
    /// # Errors
    /// The message is not put if this fails.
    /// * `TooLarge`: the message can never fit
    /// * `Full`: there is no room, and the queue was created with [`Overflow::Fail`]
    /// * `NoSpace`: there is no memory into which the queue could grow
    /// * `ShutDown`: the queue was shut down
    /// * `TooManyProcesses`, `LivenessUnknown`, `Permission`, `Corrupt`: as for
    ///   [`Lock::acquire`](crate::lock::Lock::acquire)
    pub fn put(&self, message: &[u8]) -> Result<()> {
        self.put_with(message, WaitOptions::BLOCKING)
    }

    /// Puts a message at the end without waiting for room.
    ///
    /// # Errors
    /// As for [`put`](Queue::put), and
    /// * `Full`: there is no room
    pub fn try_put(&self, message: &[u8]) -> Result<()> {
        self.put_with(message, WaitOptions::NONBLOCKING)
    }

    /// Puts a message at the end, and waits for room at most this long.
    ///
    /// # Errors
    /// As for [`put`](Queue::put), and
    /// * `Timeout`: there was no room
    pub fn put_timeout(&self, message: &[u8], time: Duration) -> Result<()> {
        self.put_with(message, WaitOptions::after(time))
    }

    /// As `put`. If it fails with `Full`, `Timeout` or `Interrupted`, the message was not put.
    #[doc(hidden)]
    #[inline]
    pub fn put_with(&self, message: &[u8], options: WaitOptions) -> Result<()> {
        match self.fast_put(message) {
            true => Ok(()),
            false => self.put_slow(message, options),
        }
    }

    /// As `put`, in a few steps; it cannot panic.
    #[inline(always)]
    pub(crate) fn fast_put(&self, message: &[u8]) -> bool {
        let me = self.core.object.known_id();
        me.is_some_and(|me| self.core.queue(me).try_put(message))
    }

    #[cold]
    fn put_slow(&self, message: &[u8], options: WaitOptions) -> Result<()> {
        let put = self.core.with(|queue| queue.put(message, options));
        self.notices.look_after(What::Room, &put);
        put
    }

    /// Puts several messages, one after the other and no other between them; returns how many.
    ///
    /// # Errors
    /// As for [`put`](Queue::put), and
    /// * `TooLarge`: with [`Batch::All`], together they exceed half the capacity, or the bounds
    pub fn put_many<'m, M>(&self, messages: M, batch: Batch) -> Result<u64>
    where
        M: Iterator<Item = &'m [u8]> + Clone,
    {
        self.put_many_with(messages, batch, WaitOptions::BLOCKING)
    }

    /// As `put_many`; fails as `put_with`.
    #[doc(hidden)]
    pub fn put_many_with<'m, M>(
        &self,
        messages: M,
        batch: Batch,
        options: WaitOptions,
    ) -> Result<u64>
    where
        M: Iterator<Item = &'m [u8]> + Clone,
    {
        let put = self
            .core
            .with(|queue| queue.put_many(messages, batch, options));
        self.notices.look_after(What::Room, &put);
        put
    }

    /// Takes the first message. When this returns no other consumer gets it.
    ///
    /// # Errors
    /// * `ShutDown`: the queue was shut down, and is empty
    /// * `NoMemory`: there is no memory for the message, which remains in the queue
    /// * `TooManyProcesses`, `LivenessUnknown`, `Permission`, `Corrupt`: as for
    ///   [`Lock::acquire`](crate::lock::Lock::acquire)
    pub fn get(&self) -> Result<Vec<u8>> {
        self.get_with(WaitOptions::BLOCKING)
    }

    /// Takes the first message; returns `None` if there is none.
    ///
    /// # Errors
    /// As for [`get`](Queue::get).
    pub fn try_get(&self) -> Result<Option<Vec<u8>>> {
        present(self.get_with(WaitOptions::NONBLOCKING))
    }

    /// Takes the first message, and waits for one at most this long; returns `None` if there was none.
    ///
    /// # Errors
    /// As for [`get`](Queue::get).
    pub fn get_timeout(&self, time: Duration) -> Result<Option<Vec<u8>>> {
        present(self.get_with(WaitOptions::after(time)))
    }

    /// As `get`. Fails with `Empty`, `Timeout` or `Interrupted` if there was no message.
    #[doc(hidden)]
    pub fn get_with(&self, options: WaitOptions) -> Result<Vec<u8>> {
        const USUAL: usize = 256;
        let mut message = Vec::<u8>::with_capacity(USUAL);
        loop {
            let length = match self.get_into_with(message.spare_capacity_mut(), options) {
                Ok(taken) => {
                    // SAFETY: `get_into_with` has initialized the first `taken.length` bytes of the spare capacity.
                    unsafe { message.set_len(taken.length as usize) };
                    return Ok(message);
                }
                // Another consumer may take it first; then the next may be larger still.
                Err(Error::TooLarge(_)) => self.peek_into_with(&mut [], options)?.length,
                Err(error) => return Err(error),
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if message.try_reserve_exact(length).is_err() {
                let text = format!(
                    "no memory for the {length} bytes of the message, which stays in the queue; free memory"
                );
                return Err(Error::NoMemory(text.into()));
            }
        }
    }

    /// As `get_with`, into a buffer. Fails with `TooLarge` if the message is larger than the buffer; the message stays.
    #[doc(hidden)]
    #[inline]
    pub fn get_into_with(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        options: WaitOptions,
    ) -> Result<Taken> {
        match self.fast_get(buffer) {
            Some(length) => Ok(Taken {
                length,
                attempts: 0,
            }),
            None => self.get_slow(buffer, options),
        }
    }

    /// As `get_into_with`, in a few steps; it cannot panic.
    #[inline(always)]
    pub(crate) fn fast_get(&self, buffer: &mut [MaybeUninit<u8>]) -> Option<u64> {
        let me = self.core.object.known_id()?;
        self.core.queue(me).try_get(buffer)
    }

    #[cold]
    fn get_slow(&self, buffer: &mut [MaybeUninit<u8>], options: WaitOptions) -> Result<Taken> {
        let taken = self.core.with(|queue| queue.get(buffer, options));
        self.notices.look_after(What::Messages, &taken);
        taken
    }

    /// Copies the beginning of the first message, which stays; returns its whole length. Fails as `get_with`.
    #[doc(hidden)]
    pub fn peek_into_with(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        options: WaitOptions,
    ) -> Result<Taken> {
        let seen = self.core.with(|queue| queue.peek(buffer, options));
        self.notices.look_after(What::Messages, &seen);
        seen
    }

    /// Takes as many messages as there are lengths and the buffer has room for, one behind the other; waits for the
    /// first. Returns how many. Fails as `get_into_with`.
    #[doc(hidden)]
    pub fn get_many_into_with(
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

    /// Reserves room at the end for a message of up to `room` bytes, which the caller writes in place.
    ///
    /// Until it is committed no consumer gets the messages behind it. If this process dies before, it is skipped.
    ///
    /// # Errors
    /// As for [`put`](Queue::put).
    pub fn reserve(&self, room: u64) -> Result<Reservation<'_>> {
        self.reservation(room, WaitOptions::BLOCKING)
    }

    /// As [`reserve`](Queue::reserve), without waiting for room.
    ///
    /// # Errors
    /// As for [`try_put`](Queue::try_put).
    pub fn try_reserve(&self, room: u64) -> Result<Reservation<'_>> {
        self.reservation(room, WaitOptions::NONBLOCKING)
    }

    /// As [`reserve`](Queue::reserve), and waits for room at most this long.
    ///
    /// # Errors
    /// As for [`put_timeout`](Queue::put_timeout).
    pub fn reserve_timeout(&self, room: u64, time: Duration) -> Result<Reservation<'_>> {
        self.reservation(room, WaitOptions::after(time))
    }

    fn reservation(&self, room: u64, options: WaitOptions) -> Result<Reservation<'_>> {
        let raw::Reservation {
            token,
            offset,
            room,
        } = self.reserve_with(room, options)?;
        match self.address(offset, room) {
            Ok(address) => Ok(Reservation {
                queue: self,
                token,
                address,
                room: room as usize,
            }),
            Err(error) => {
                let _ = self.abort(token);
                Err(error)
            }
        }
    }

    /// As `reserve`; the caller commits or aborts it by its token.
    #[doc(hidden)]
    pub fn reserve_with(&self, room: u64, options: WaitOptions) -> Result<raw::Reservation> {
        let place = self.core.with(|queue| queue.reserve(room, options));
        self.notices.look_after(What::Room, &place);
        place
    }

    /// Puts a reserved message into the queue, with the first `length` bytes of its room. Fails with `NotOwner` if it
    /// was committed or aborted, or if another process reserved it. Fails with `Invalid` if `length` exceeds its room.
    #[doc(hidden)]
    pub fn commit(&self, token: u64, length: u64) -> Result<()> {
        self.core.with(|queue| queue.commit(token, length))
    }

    /// Aborts a reservation. Fails with `NotOwner` as `commit` does.
    #[doc(hidden)]
    pub fn abort(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.abort(token))
    }

    /// Leases the first message, to read it in place. If the lease is dropped, the next consumer gets the message.
    ///
    /// Until it is acknowledged no other consumer gets it. If this process dies before, the next consumer does.
    ///
    /// # Errors
    /// As for [`get`](Queue::get), without `NoMemory`.
    pub fn lease(&self) -> Result<Lease<'_>> {
        self.loan(WaitOptions::BLOCKING)
    }

    /// Leases the first message; returns `None` if there is none.
    ///
    /// # Errors
    /// As for [`lease`](Queue::lease).
    pub fn try_lease(&self) -> Result<Option<Lease<'_>>> {
        present(self.loan(WaitOptions::NONBLOCKING))
    }

    /// Leases the first message, and waits for one at most this long; returns `None` if there was none.
    ///
    /// # Errors
    /// As for [`lease`](Queue::lease).
    pub fn lease_timeout(&self, time: Duration) -> Result<Option<Lease<'_>>> {
        present(self.loan(WaitOptions::after(time)))
    }

    fn loan(&self, options: WaitOptions) -> Result<Lease<'_>> {
        let lease = self.lease_with(options)?;
        match self.address(lease.offset, lease.length) {
            Ok(address) => Ok(Lease {
                queue: self,
                token: lease.token,
                address,
                length: lease.length as usize,
                attempts: lease.attempts,
            }),
            Err(error) => {
                let _ = self.nack(lease.token);
                Err(error)
            }
        }
    }

    /// As `lease`; the caller acknowledges or returns it by its token. Fails as `get_with`.
    #[doc(hidden)]
    pub fn lease_with(&self, options: WaitOptions) -> Result<raw::Lease> {
        let lease = self.core.with(|queue| queue.lease(options));
        self.notices.look_after(What::Messages, &lease);
        lease
    }

    /// Acknowledges a lease. Fails with `NotOwner` if it was acknowledged or returned, or if another process holds it.
    #[doc(hidden)]
    pub fn ack(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.ack(token))
    }

    /// Returns a lease: the next consumer gets the message. Fails with `NotOwner` as `ack` does.
    #[doc(hidden)]
    pub fn nack(&self, token: u64) -> Result<()> {
        self.core.with(|queue| queue.nack(token))
    }

    /// Returns the address of `length` bytes at `offset`, as a raw reservation or lease gives them. They do not move
    /// while this handle is open. Fails with `Corrupt` if they are outside the queue.
    #[doc(hidden)]
    pub fn address(&self, offset: u64, length: u64) -> Result<NonNull<u8>> {
        self.core
            .ring
            .address(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Waits until every message has been taken, and none is reserved or leased.
    ///
    /// # Errors
    /// As for [`Lock::acquire`](crate::lock::Lock::acquire).
    pub fn join(&self) -> Result<()> {
        self.join_with(WaitOptions::BLOCKING)
    }

    /// As [`join`](Queue::join), for at most this long; returns false if the time ran out.
    ///
    /// # Errors
    /// As for [`join`](Queue::join).
    pub fn join_timeout(&self, time: Duration) -> Result<bool> {
        in_time(self.join_with(WaitOptions::after(time))).map(|joined| joined.is_some())
    }

    /// As `join`. Fails with `WouldBlock`, `Timeout` or `Interrupted` if there are messages.
    #[doc(hidden)]
    pub fn join_with(&self, options: WaitOptions) -> Result<()> {
        self.core.with(|queue| queue.join(options))
    }

    /// Shuts the queue down: producers fail with `ShutDown`; consumers get the messages that are left, and then fail too.
    ///
    /// # Errors
    /// As for [`Lock::acquire`](crate::lock::Lock::acquire).
    pub fn shut_down(&self) -> Result<()> {
        self.core.with(|queue| {
            queue.shut_down();
            Ok(())
        })
    }

    /// Returns a descriptor that is readable for poll(2) while there may be a message, or room for one.
    ///
    /// It belongs to this handle; a helper thread of this process updates it. After each event the caller tries without
    /// waiting, and polls again if another process was faster.
    ///
    /// # Errors
    /// * `Unsupported`: there is no thread or descriptor left
    pub fn notice(&self, what: What) -> Result<RawFd> {
        self.notices.open(&self.core, what)
    }

    /// Returns the state of the queue, and which participant delays it. It waits for no process and changes nothing.
    ///
    /// # Errors
    /// * `Corrupt`: the words of the queue contradict each other
    /// * `LivenessUnknown`: this process has lost the descriptor of the segment, and messages are reserved or leased
    pub fn stat(&self) -> Result<QueueInfo> {
        self.core.object.raw().stat(&self.core.ring, self.core.laps)
    }

    /// Returns whether an empty message would have to wait for room.
    ///
    /// # Errors
    /// * `Corrupt`: the words of the queue contradict each other
    /// * `WouldBlock`: a producer was stopped in the middle of a change
    pub fn is_full(&self) -> Result<bool> {
        self.core.with(|queue| queue.is_full())
    }

    /// Returns the limits of the queue: capacity in bytes, messages, bytes of messages; 0 means any number.
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

    /// Returns what happens to a message for which there is no room.
    pub fn overflow(&self) -> Overflow {
        self.core.overflow
    }

    /// Returns what is known of a participant that `stat` names.
    pub fn process_info(&self, id: Id) -> Option<ProcessInfo> {
        self.segment().process_info(id)
    }
}

/// Turns the lack of a message into `None`.
fn present<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Empty(_)) => Ok(None),
        other => in_time(other),
    }
}

/// Returns `length` bytes of the ring, for threads and processes that change them meanwhile.
fn bytes(_: &Queue, address: NonNull<u8>, length: usize) -> &[AtomicU8] {
    // SAFETY: the bytes were in the file and mapped when `Queue::address` returned them, and do not move while the handle
    // is open; any process may change an AtomicU8 at any time.
    unsafe { slice::from_raw_parts(address.cast::<AtomicU8>().as_ptr(), length) }
}

/// Room for a message that the caller writes in place. If this is dropped, the message is skipped.
#[derive(Debug)]
#[must_use = "the reservation is aborted at once if it is not kept"]
pub struct Reservation<'a> {
    queue: &'a Queue,
    token: u64,
    address: NonNull<u8>,
    room: usize,
}

// SAFETY: the bytes are shared with other processes as atomics, so with other threads too.
unsafe impl Send for Reservation<'_> {}
// SAFETY: as above.
unsafe impl Sync for Reservation<'_> {}

impl Reservation<'_> {
    /// Returns the bytes, with whatever an earlier message has left in them.
    pub fn bytes(&self) -> &[AtomicU8] {
        bytes(self.queue, self.address, self.room)
    }

    /// Returns the address of the bytes, a multiple of [`RECORD_ALIGN`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// Puts the message into the queue, with the first `length` bytes.
    ///
    /// # Errors
    /// * `Invalid`: there are fewer bytes
    /// * `NotOwner`: this is a forked child, and its parent has reserved them
    pub fn commit(self, length: u64) -> Result<()> {
        self.queue.commit(self.token, length)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // It fails in a forked child, which has not reserved it.
        let _ = self.queue.abort(self.token);
    }
}

/// A message that the caller reads in place. If this is dropped, the next consumer gets the message.
#[derive(Debug)]
#[must_use = "the message is returned at once if the lease is not kept"]
pub struct Lease<'a> {
    queue: &'a Queue,
    token: u64,
    address: NonNull<u8>,
    length: usize,
    attempts: u32,
}

// SAFETY: as for `Reservation`.
unsafe impl Send for Lease<'_> {}
// SAFETY: as for `Reservation`.
unsafe impl Sync for Lease<'_> {}

impl Lease<'_> {
    /// Returns the bytes of the message. A process that can write the queue can change them.
    pub fn bytes(&self) -> &[AtomicU8] {
        bytes(self.queue, self.address, self.length)
    }

    /// Copies the message.
    pub fn to_vec(&self) -> Vec<u8> {
        let bytes = self.bytes().iter();
        bytes.map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    /// Returns the address of the bytes, a multiple of [`RECORD_ALIGN`].
    pub fn as_ptr(&self) -> *const u8 {
        self.address.as_ptr()
    }

    /// Returns how often the message was leased, this time included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Acknowledges the message: no other consumer gets it.
    ///
    /// # Errors
    /// * `NotOwner`: this is a forked child, and its parent holds the lease
    pub fn ack(self) -> Result<()> {
        self.queue.ack(self.token)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // As for `Reservation`.
        let _ = self.queue.nack(self.token);
    }
}
