//! Says how bytes at rest are laid out: what one version writes and every later one must be able to read.
//!
//! A *plain* segment has no layout: byte 0 is the user's. A *full* segment begins with this header:
//!
//! ```text
//!  0      8      10     12    16             24        32  40            44     48   52           64    72       128
//!  | magic | major | minor | kind | control_bytes | capacity | id | participants | flags | crc | (reserved) | size | … |
//! ```
//!
//! It is written before the segment has a name and never after, but for `size`, which has a cache line of its own.

/// Says what stands at a place in shared memory; the numbers are never changed and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "each is the noun itself")]
pub enum Kind {
    Segment = 1,
    Lock = 2,
    RLock = 3,
    RwLock = 4,
    Semaphore = 5,
    Condition = 6,
    Event = 7,
    Barrier = 8,
    Once = 9,
    Queue = 10,
    Array = 11,
    Arena = 12,
    Atomic = 13,
    Snapshot = 14,
}

/// Keeps what many processes write in a cache line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CacheLine<T>(pub T);

/// Stands at offset 0 of a full segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// `MAGIC`.
    pub magic: [u8; 8],
    /// Another major version cannot be read.
    pub major: u16,
    /// A greater minor version can be read.
    pub minor: u16,
    /// A `Kind`.
    pub kind: u32,
    /// Bytes from here to the first byte of data: whole pages.
    pub control_bytes: u64,
    /// Bytes of address space that its maker asked for, control area included.
    pub capacity: u64,
    /// A random number: two segments of one name are told apart by it.
    pub id: u64,
    /// How many participant slots the control area has.
    pub participants: u32,
    /// Reserved, 0.
    pub flags: u32,
    /// CRC-32C of all bytes before it.
    pub crc: u32,
    /// How many bytes have memory.
    pub size: CacheLine<u64>,
}

/// Tells a full segment from anything else; the last byte cannot stand in a text file.
pub const MAGIC: [u8; 8] = *b"shmkit\r\x1a";

const _: () = assert!(size_of::<Header>() == 128);
const _: () = assert!(std::mem::offset_of!(Header, size) == 64);
const _: () = assert!(std::mem::offset_of!(Header, crc) == 48);
