//! The control area: what stands at the beginning of a managed segment, in whole pages, and is not the user's.
//!
//! ```text
//! 0         64     128       192             256
//! | header  | size | tickets | built-in lock | slot 0 | slot 1 | …  | (rest of the page) | data …
//! ```
//!
//! It is written before the segment has a name. Whoever opens one reads the header once, from the file, and checks it
//! against what the file has; all else is words that may change at any time.

use crate::error::{Error, Result};
use crate::layout::{Bytes, CacheLine, EPHEMERAL, HEADER, Header, Kind, MAJOR, MINOR, SIZE};
use crate::participant::{self, Slot, Table, Tickets};
use crate::raw::lock;
use crate::sys::process;
use std::sync::atomic::{AtomicU64, Ordering};

const TICKETS: u64 = HEADER as u64;
const LOCK: u64 = TICKETS + size_of::<CacheLine<AtomicU64>>() as u64;
const SLOTS: u64 = LOCK + size_of::<lock::RawLock>() as u64;

/// What a new control area is to be.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the segment holds.
    pub kind: Kind,
    /// How many slots; 0: `participant::DEFAULT_PARTICIPANTS`.
    pub participants: u32,
    /// Whether the name goes when nobody is attached any more.
    pub ephemeral: bool,
}

impl Plan {
    /// Lays out the header for `size` bytes of data of which `capacity` are wanted as address space.
    pub fn header(&self, size: u64, capacity: u64) -> Result<Header> {
        let participants = match self.participants {
            0 => participant::DEFAULT_PARTICIPANTS,
            count @ 1..=participant::MAX_PARTICIPANTS => count,
            count => {
                return Err(Error::Invalid(
                    format!(
                        "{count} participants: a segment has 1 to {}",
                        participant::MAX_PARTICIPANTS
                    )
                    .into(),
                ));
            }
        };
        let control_bytes = bytes_of(participants).next_multiple_of(process::page_size());
        Ok(Header {
            major: MAJOR,
            minor: MINOR,
            kind: self.kind as u32,
            control_bytes,
            capacity: capacity.max(size).saturating_add(control_bytes),
            id: random(),
            participants,
            flags: if self.ephemeral { EPHEMERAL } else { 0 },
            size,
        })
    }
}

fn bytes_of(participants: u32) -> u64 {
    SLOTS + u64::from(participants) * size_of::<Slot>() as u64
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Checks a header against the `file_size` bytes of the file in which it was found.
pub fn check(header: &Header, file_size: u64, wanted: Kind) -> Result<()> {
    if header.kind != wanted as u32 {
        let found = match Kind::of(header.kind) {
            Some(kind) => format!("a {kind:?}"),
            None => format!("something newer (kind {})", header.kind),
        };
        return Err(Error::WrongKind(
            format!("{found} stands here, not a {wanted:?}").into(),
        ));
    }
    let corrupt = |what: &str| {
        Err(Error::Corrupt(
            format!("the segment's header {what}").into(),
        ))
    };
    if !(1..=participant::MAX_PARTICIPANTS).contains(&header.participants) {
        return corrupt("has an impossible number of participants");
    }
    if !header.control_bytes.is_multiple_of(process::page_size())
        || header.control_bytes < bytes_of(header.participants)
    {
        return corrupt("has no room for its participants");
    }
    let needed = header.control_bytes.checked_add(header.size);
    if header.size == 0 || needed.is_none_or(|needed| needed > file_size) {
        return corrupt("tells of more bytes than the file has");
    }
    if needed > Some(header.capacity) {
        return corrupt("has a capacity below the size");
    }
    Ok(())
}

/// The control area of a mapped segment.
pub struct Control<'a> {
    size: &'a AtomicU64,
    /// The participants.
    pub table: Table<'a>,
    /// The lock that every managed segment has.
    pub lock: &'a lock::RawLock,
}

impl<'a> Control<'a> {
    /// Finds the parts in the mapped bytes, of which `check` has proved that they are there.
    pub fn find(bytes: Bytes<'a>, participants: u32) -> Result<Control<'a>> {
        let parts = || {
            Some(Control {
                size: bytes.at(SIZE)?,
                table: Table {
                    tickets: bytes.at::<Tickets>(TICKETS)?,
                    slots: bytes.array(SLOTS, participants as usize)?,
                },
                lock: bytes.at(LOCK)?,
            })
        };
        parts().ok_or_else(|| Error::Corrupt("the control area is not mapped".into()))
    }

    /// Returns how many bytes of data the segment has, as its last grower said.
    pub fn size(&self) -> u64 {
        // PAIRS segment.size: the memory was there before the size said so.
        self.size.load(Ordering::Acquire)
    }

    /// Says how many bytes of data the segment has; they have memory.
    pub fn set_size(&self, size: u64) {
        // PAIRS segment.size
        self.size.store(size, Ordering::Release);
    }
}
