//! The ring of a queue, as one process has it mapped.

use crate::error::{Error, Result};
use crate::layout::Bytes;
use crate::raw::queue::record::{Record, Ring};
use crate::segment::Segment;
use crate::sys::atomic::prefetch_to_write;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes after the words of the queue.
pub(super) struct RingMemory {
    segment: Arc<Segment>,
    /// Where they begin in the data of the segment, and in this process.
    offset: u64,
    base: NonNull<u8>,
    capacity: u64,
    /// How many of them are known to be in the file.
    known: AtomicU64,
}

// SAFETY: a mapping belongs to the process, and lives as long as `segment`.
unsafe impl Send for RingMemory {}
// SAFETY: as for Send. Any process may change the bytes at any time, so further threads add no new kind of access.
unsafe impl Sync for RingMemory {}

impl RingMemory {
    /// Maps `capacity` bytes that begin at `offset` in the data of a segment. Fails with `Corrupt` if the segment is
    /// smaller.
    pub(super) fn new(segment: Arc<Segment>, offset: u64, capacity: u64) -> Result<RingMemory> {
        let room = segment.capacity().saturating_sub(offset);
        if room < capacity {
            let text = format!(
                "the queue needs {capacity} bytes, but its segment has room for {room}; recreate the queue"
            );
            return Err(Error::Corrupt(text.into()));
        }
        let base = segment.data().wrapping_add(offset as usize);
        let ring = RingMemory {
            offset,
            base: NonNull::new(base)
                .ok_or(Error::Internal("the mapping is at address NULL".into()))?,
            capacity,
            known: AtomicU64::new(0),
            segment,
        };
        ring.look(0)?;
        Ok(ring)
    }

    #[inline(always)]
    fn bytes(&self, end: u64) -> Result<Bytes<'_>> {
        if end > self.known.load(Ordering::Relaxed) {
            self.look(end)?;
        }
        // SAFETY: the first `end` bytes from `base` on are in the file: known, or just read. They are in the mapping,
        // because `new` has compared `capacity` with it, and the mapping lives as long as self.
        Ok(unsafe { Bytes::new(self.base, end) })
    }

    /// Checks whether the file has `end` bytes by now.
    #[cold]
    fn look(&self, end: u64) -> Result<()> {
        let size = self
            .segment
            .size()?
            .saturating_sub(self.offset)
            .min(self.capacity);
        self.known.fetch_max(size, Ordering::Relaxed);
        match end <= size {
            true => Ok(()),
            false => Err(Error::Corrupt(
                format!("a message of the queue ends at {end}, but the queue has {size} bytes; recreate the queue")
                    .into(),
            )),
        }
    }

    /// Returns the address of `length` bytes at `offset`. Fails with `Corrupt` if the file ends before.
    #[inline(always)]
    pub(super) fn address(&self, offset: u64, length: usize) -> Result<NonNull<u8>> {
        let end = offset.saturating_add(length as u64);
        let address = self.bytes(end)?.raw(offset, length as u64);
        address.ok_or(Error::Internal("the address is outside the ring".into()))
    }
}

impl Ring for RingMemory {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    #[inline(always)]
    fn has(&self, end: u64) -> bool {
        end <= self.known.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn record(&self, offset: u64) -> Result<&Record> {
        let end = offset.saturating_add(size_of::<Record>() as u64);
        let record = self.bytes(end)?.at(offset);
        record.ok_or_else(|| {
            Error::Corrupt(
                format!(
                    "a record of the queue at offset {offset} is misaligned; recreate the queue"
                )
                .into(),
            )
        })
    }

    fn copy(&self, offset: u64) -> Result<[u64; 4]> {
        let mut bytes = [0; size_of::<Record>()];
        self.segment.read(self.offset + offset, &mut bytes)?;
        let (words, _) = bytes.as_chunks();
        Ok(std::array::from_fn(|word| u64::from_ne_bytes(words[word])))
    }

    #[inline(always)]
    fn reach(&self, end: u64) -> Result<()> {
        self.bytes(end).map(drop)
    }

    #[inline(always)]
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let to = self.address(offset, bytes.len())?;
        // SAFETY: `address` has checked that `to` has room for them. They do not overlap, because the ring is lent as
        // atomics only. Until the commit the record belongs to this process; another process that writes there changes
        // the bytes only.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(())
    }

    #[inline(always)]
    fn read(&self, offset: u64, bytes: &mut [MaybeUninit<u8>]) -> Result<()> {
        let from = self.address(offset, bytes.len())?;
        let length = bytes.len();
        // SAFETY: as in `write`: while the record belongs to this process, another process that writes there changes
        // the bytes only.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(bytes).cast(), length) };
        Ok(())
    }

    #[inline(always)]
    fn prefetch(&self, offset: u64) {
        prefetch_to_write(self.base.as_ptr().wrapping_add(offset as usize));
    }

    fn grow(&self, from: u64, had: u64, to: u64) -> Result<()> {
        let at = |offset: u64| self.offset + offset;
        self.segment
            .set_aside(at(from), at(had.max(from).min(to)), at(to))
    }

    fn release_memory(&self, from: u64, to: u64) -> Result<()> {
        self.segment
            .free_pages(self.offset + from, self.offset + to)
    }
}
