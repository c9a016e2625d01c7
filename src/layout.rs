//! The layout of bytes in files: every later version must be able to read what an earlier one wrote.
//!
//! A *plain* segment has no layout: all its bytes are the user's. A *managed* segment begins with this header:
//!
//! ```text
//!  0      8      10     12    16             24        32  40            44     48   52           64    72       128
//!  | magic | major | minor | kind | control_bytes | capacity | id | participants | flags | crc | (reserved) | size | … |
//! ```
//!
//! The header is written before the segment has a name, and only `size` changes later. `size` has a cache line of its
//! own. The rest of the control area and all objects in the data are atomic words, which many processes change. `Bytes`
//! is the view through which they are found.

use crate::error::{Error, Result};
use std::marker::PhantomData;
use std::ptr::NonNull;

macro_rules! kinds {
    ($($kind:ident = $number:literal, $article:literal;)+) => {
        /// The kind of an object in shared memory. The numbers never change and are never used again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "each is the noun itself")]
        pub enum Kind {
            $($kind = $number,)+
        }

        impl Kind {
            /// Returns the kind of this number.
            pub fn of(number: u32) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)+
                    _ => None,
                }
            }

            /// Returns the noun with its article, for an error message: "a Lock", "an RLock".
            pub fn article(self) -> &'static str {
                match self {
                    $(Kind::$kind => $article,)+
                }
            }
        }
    };
}

kinds! {
    Segment = 1, "a segment";
    Lock = 2, "a Lock";
    RLock = 3, "an RLock";
    RwLock = 4, "an RWLock";
    Semaphore = 5, "a Semaphore";
    Condition = 6, "a Condition";
    Event = 7, "an Event";
    Barrier = 8, "a Barrier";
    Once = 9, "a Once";
    Queue = 10, "a Queue";
    Array = 11, "an Array";
    Arena = 12, "an arena";
    Atomic = 13, "an Atomic";
    Snapshot = 14, "a Snapshot";
}

impl Kind {
    /// Returns the noun of this kind, for an error message.
    pub fn noun(self) -> &'static str {
        let article = self.article();
        article.split_once(' ').map_or(article, |(_, noun)| noun)
    }
}

/// Keeps a word that many processes write in a cache line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CacheLine<T>(pub T);

/// The major version of the layout. This library reads no other one.
pub const MAJOR: u16 = 2;
/// The minor version of the layout. This library also reads greater ones.
pub const MINOR: u16 = 0;

/// The first bytes of a managed segment. The last byte cannot occur in a text file.
pub const MAGIC: [u8; 8] = *b"shmkit\r\x1a";

/// Size of the header in bytes.
pub const HEADER: usize = 128;
/// Offset of the checksum, which covers all bytes before it.
const CRC: usize = 48;
/// Offset of the size of the data, which changes and which no checksum covers.
pub const SIZE: u64 = 64;

/// The header at offset 0 of a managed segment, in the byte order of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `MAJOR` of the library that created the segment.
    pub major: u16,
    /// `MINOR` of the library that created the segment.
    pub minor: u16,
    /// A `Kind`.
    pub kind: u32,
    /// Size of the control area in bytes, from offset 0 to the first byte of data: whole pages.
    pub control_bytes: u64,
    /// Address space that the creator reserved, in bytes, control area included.
    pub capacity: u64,
    /// A random number that distinguishes two segments of the same name.
    pub id: u64,
    /// Number of participant slots in the control area.
    pub participants: u32,
    /// `EPHEMERAL` or 0.
    pub flags: u32,
    /// Size of the data in bytes.
    pub size: u64,
}

/// In `Header::flags`: the name is removed when no process is attached any more.
pub const EPHEMERAL: u32 = 1;

/// The CRC-32C of `bytes` (Castagnoli's polynomial, reflected, as in iSCSI: RFC 3720, appendix B.4).
fn crc(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

impl Header {
    /// Returns the bytes of the header.
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &self.major.to_ne_bytes());
        put(10, &self.minor.to_ne_bytes());
        put(12, &self.kind.to_ne_bytes());
        put(16, &self.control_bytes.to_ne_bytes());
        put(24, &self.capacity.to_ne_bytes());
        put(32, &self.id.to_ne_bytes());
        put(40, &self.participants.to_ne_bytes());
        put(44, &self.flags.to_ne_bytes());
        put(SIZE as usize, &self.size.to_ne_bytes());
        let crc = crc(&bytes[..CRC]);
        bytes[CRC..CRC + 4].copy_from_slice(&crc.to_ne_bytes());
        bytes
    }

    /// Reads the first bytes of a file; `None` if the file is not a managed segment.
    ///
    /// * `VersionMismatch`: the layout has another major version
    /// * `Corrupt`: the checksum is wrong, or the file is too short
    pub fn parse(bytes: &[u8]) -> Result<Option<Header>> {
        if !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(Error::Corrupt(
                format!(
                    "the header of the segment ends after {} of {HEADER} bytes; recreate the segment",
                    bytes.len()
                )
                .into(),
            ));
        };
        fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
            let mut field = [0; N];
            field.copy_from_slice(&bytes[at..at + N]);
            field
        }
        let header = Header {
            major: u16::from_ne_bytes(field(bytes, 8)),
            minor: u16::from_ne_bytes(field(bytes, 10)),
            kind: u32::from_ne_bytes(field(bytes, 12)),
            control_bytes: u64::from_ne_bytes(field(bytes, 16)),
            capacity: u64::from_ne_bytes(field(bytes, 24)),
            id: u64::from_ne_bytes(field(bytes, 32)),
            participants: u32::from_ne_bytes(field(bytes, 40)),
            flags: u32::from_ne_bytes(field(bytes, 44)),
            size: u64::from_ne_bytes(field(bytes, SIZE as usize)),
        };
        if header.major != MAJOR {
            return Err(Error::VersionMismatch(
                format!(
                    "the segment has layout {}.{}, but this library reads {MAJOR}.x; use the library that created it",
                    header.major, header.minor
                )
                .into(),
            ));
        }
        if crc(&bytes[..CRC]) != u32::from_ne_bytes(field(bytes, CRC)) {
            return Err(Error::Corrupt(
                "the checksum of the segment's header is wrong; recreate the segment".into(),
            ));
        }
        Ok(Some(header))
    }
}

/// A type of which a reference may point into shared memory, where other processes change the bytes at any time.
///
/// # Safety
/// The type is `repr(C)` and consists of atomics and arrays of atomics: any bytes are a value, all access is atomic.
pub unsafe trait Shared {}

// SAFETY: an atomic integer; any bytes are a value.
unsafe impl Shared for std::sync::atomic::AtomicU64 {}

/// Mapped bytes: the only way from bytes to words.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    base: NonNull<u8>,
    length: u64,
    mapped: PhantomData<&'a [std::sync::atomic::AtomicU8]>,
}

impl<'a> Bytes<'a> {
    /// Wraps `length` bytes at `base`.
    ///
    /// # Safety
    /// The bytes are mapped as long as `'a`. They are writable, or the caller stores nothing through what is found. All
    /// processes that share the bytes access them as atomics.
    pub unsafe fn new(base: NonNull<u8>, length: u64) -> Bytes<'a> {
        Bytes {
            base,
            length,
            mapped: PhantomData,
        }
    }

    /// Returns the bytes from `offset` on; empty if there are no more.
    pub fn from(self, offset: u64) -> Bytes<'a> {
        let offset = offset.min(self.length);
        Bytes {
            // SAFETY: offset <= length, all of which is mapped (`new`).
            base: unsafe { self.base.add(offset as usize) },
            length: self.length - offset,
            mapped: PhantomData,
        }
    }

    /// Returns the `T` at `offset`; `None` if it would not lie in the bytes or would not be aligned.
    pub fn at<T: Shared>(self, offset: u64) -> Option<&'a T> {
        self.array(offset, 1)?.first()
    }

    /// Returns the address of `count` bytes at `offset`; `None` if they would not lie in the bytes.
    ///
    /// It is for bytes that are not words of this library.
    pub fn raw(self, offset: u64, count: u64) -> Option<NonNull<u8>> {
        if offset.checked_add(count)? > self.length {
            return None;
        }
        // SAFETY: offset <= length, all of which is mapped (`new`).
        Some(unsafe { self.base.add(usize::try_from(offset).ok()?) })
    }

    /// Returns the `count` words from `offset` on; `None` as for `at`.
    pub fn array<T: Shared>(self, offset: u64, count: usize) -> Option<&'a [T]> {
        let bytes = u64::try_from(size_of::<T>().checked_mul(count)?).ok()?;
        let end = offset.checked_add(bytes)?;
        if end > self.length {
            return None;
        }
        // SAFETY: offset <= end <= length, all of which is mapped (`new`).
        let at = unsafe { self.base.add(usize::try_from(offset).ok()?) }.cast::<T>();
        if !at.is_aligned() {
            return None;
        }
        // SAFETY: `count` words from `at` lie in the mapped bytes and are aligned (checked above). T is Shared, so any
        // bytes are a value, and other processes change them only atomically (`new`).
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_castagnolis() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, and of ones.
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_header_comes_back() {
        let header = Header {
            major: MAJOR,
            minor: MINOR + 1,
            kind: 2,
            control_bytes: 4096,
            capacity: 1 << 40,
            id: 77,
            participants: 5,
            flags: EPHEMERAL,
            size: 9,
        };
        let mut bytes = header.to_bytes();
        assert_eq!(Header::parse(&bytes), Ok(Some(header)));
        // The checksum does not cover the size, which changes.
        bytes[SIZE as usize] = 10;
        assert_eq!(Header::parse(&bytes).unwrap().unwrap().size, 10);
        for at in 10..CRC + 4 {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert!(
                matches!(Header::parse(&bytes), Err(Error::Corrupt(_))),
                "{at}"
            );
        }
        bytes[8] = 3;
        assert!(matches!(
            Header::parse(&bytes),
            Err(Error::VersionMismatch(_))
        ));
        assert!(matches!(Header::parse(&MAGIC), Err(Error::Corrupt(_))));
        assert_eq!(Header::parse(&[0; 128]), Ok(None));
        assert_eq!(Header::parse(b"shmkit"), Ok(None));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_header_lies_as_it_always_has() {
        let header = Header {
            major: 1,
            minor: 0,
            kind: 1,
            control_bytes: 0x3000,
            capacity: 0x0102_0304_0506_0708,
            id: 0x1112_1314_1516_1718,
            participants: 0x80,
            flags: 1,
            size: 0x2122_2324_2526_2728,
        };
        let mut expected = [0; HEADER];
        expected[..8].copy_from_slice(b"shmkit\r\x1a");
        expected[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        expected[16..24].copy_from_slice(&[0, 0x30, 0, 0, 0, 0, 0, 0]);
        expected[24..32].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected[32..40].copy_from_slice(&[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
        expected[40..48].copy_from_slice(&[0x80, 0, 0, 0, 1, 0, 0, 0]);
        expected[64..72].copy_from_slice(&[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21]);
        let bytes = header.to_bytes();
        assert_eq!(bytes[..48], expected[..48]);
        assert_eq!(bytes[52..], expected[52..]);
    }

    #[test]
    fn words_lie_inside_and_aligned() {
        use std::sync::atomic::AtomicU64;
        let memory = [const { AtomicU64::new(0) }; 4];
        // SAFETY: 32 bytes of atomics.
        let bytes = unsafe { Bytes::new(NonNull::from(&memory).cast(), 32) };
        assert!(bytes.at::<AtomicU64>(24).is_some());
        for bad in [25, 32, 1, 4, u64::MAX, u64::MAX - 7] {
            assert!(bytes.at::<AtomicU64>(bad).is_none(), "{bad}");
        }
        assert_eq!(bytes.array::<AtomicU64>(8, 3).map(<[_]>::len), Some(3));
        assert!(bytes.array::<AtomicU64>(8, 4).is_none());
        assert!(bytes.array::<AtomicU64>(0, usize::MAX).is_none());
    }
}
