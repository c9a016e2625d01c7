//! The parts that the targets share: the page that holds the object, the words that overwrite it, checks of statuses.

use arbitrary::Arbitrary;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use std::ffi::c_void;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The size of a page's data.
pub const DATA: u64 = 4096;

/// More than any index of a slot. Behind the data there is no memory, so an access out of bounds is SIGBUS.
const CAPACITY: u64 = 1 << 20;

/// Requires success.
pub fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

/// Requires success or a refusal, not an internal error; returns whether it is success.
pub fn check(status: shmkit_status) -> bool {
    assert!(
        (SHMKIT_ERR_INTERNAL + 1..=SHMKIT_OK).contains(&status),
        "status {status}"
    );
    status == SHMKIT_OK
}

/// A word as an attacker would choose it.
#[derive(Arbitrary, Debug)]
pub enum Word {
    Any(u64),
    Small(u8),
    Large(u8),
    /// The owner of a lock, a turn or a count slot: slot, ticket and marks.
    Owner {
        slot: u16,
        ticket: u8,
        marks: u8,
    },
}

impl Word {
    pub fn value(&self) -> u64 {
        match *self {
            Word::Any(value) => value,
            Word::Small(value) => value.into(),
            Word::Large(value) => u64::MAX - u64::from(value),
            Word::Owner {
                slot,
                ticket,
                marks,
            } => u64::from(slot) & 0x1fff | u64::from(ticket) << 13 | u64::from(marks & 7) << 29,
        }
    }
}

/// The `create_at` or `open_at` of an object, with its options `O`.
pub type At<O, T> =
    unsafe extern "C" fn(*const shmkit_segment, u64, *const O, *mut *mut T) -> shmkit_status;

/// An open managed segment with a page of data.
pub struct Page {
    pub segment: *mut shmkit_segment,
}

impl Page {
    /// Creates a segment without a name.
    pub fn new(participants: u32) -> Page {
        let options = shmkit_segment_options {
            struct_size: size_of::<shmkit_segment_options>() as u32,
            flags: SHMKIT_SEGMENT_MANAGED,
            capacity: CAPACITY,
            mode: 0,
            participants,
            directory: ptr::null(),
        };
        let mut segment = ptr::null_mut();
        // SAFETY: no name, a struct with its size set, a writable output.
        good(unsafe { shmkit_segment_create(ptr::null(), DATA, &options, &mut segment) });
        Page { segment }
    }

    /// Creates or opens an object at `offset`. A refusal must leave the output as it was.
    pub fn object<O, T>(
        &self,
        how: At<O, T>,
        offset: u64,
        options: Option<&O>,
    ) -> Result<*mut T, shmkit_status> {
        let mut object = ptr::null_mut();
        let options = options.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: an open handle, options with their size set or none, a writable output.
        let status = unsafe { how(self.segment, offset, options, &mut object) };
        assert_eq!(check(status), !object.is_null());
        if status == SHMKIT_OK {
            Ok(object)
        } else {
            Err(status)
        }
    }

    /// Stores to a word of the data.
    pub fn store(&self, word: u8, value: u64) {
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY: an open handle and a writable output.
        good(unsafe { shmkit_segment_data(self.segment, &mut data) });
        // SAFETY: the data has 512 words, which are mapped while the segment is open and used as atomics alone.
        let word = unsafe { AtomicU64::from_ptr(data.cast::<u64>().add(word.into())) };
        word.store(value, Relaxed);
    }

    /// Returns the file, whose header, participants and data can be overwritten.
    pub fn file(&self) -> ManuallyDrop<File> {
        let mut fd = -1;
        // SAFETY: an open handle and a writable output.
        good(unsafe { shmkit_segment_fd(self.segment, &mut fd) });
        // SAFETY: the handle keeps the descriptor open, and it is never closed here.
        ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
    }

    /// Returns the offset of the data in the file.
    pub fn control_bytes(&self) -> u64 {
        let mut info = shmkit_segment_info {
            struct_size: size_of::<shmkit_segment_info>() as u32,
            // SAFETY: integers alone.
            ..unsafe { std::mem::zeroed() }
        };
        // SAFETY: an open handle and a struct with its size set.
        good(unsafe { shmkit_segment_stat(self.segment, &mut info) });
        info.control_bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: an open handle, closed once.
        good(unsafe { shmkit_segment_close(self.segment) });
    }
}

/// Overwrites the word at `offset` of a file.
pub fn overwrite(file: &File, offset: u64, word: &Word) {
    file.write_all_at(&word.value().to_ne_bytes(), offset)
        .expect("the file can be written");
}
