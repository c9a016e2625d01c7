//! Maps files into the address space of this process, past their end where room to grow is asked for.
//!
//! ```text
//! address:  base                base + size            base + capacity
//!           |  what has memory  |  room to grow (SIGBUS) |
//! ```
//!
//! A mapping of 2 MiB or more begins at a multiple of 2 MiB, so that huge pages can be mapped as such.

use super::refused;
use crate::error::{Error, Result};
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// The size of a huge page of shared memory on x86-64, and on aarch64 with 4 KiB pages.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Joins 512 small pages into a huge one (Linux 6.1, madvise(2)); neither nix nor memmap2 names it.
const MADV_COLLAPSE: i32 = 25;

/// A shared mapping of a file; dropped, the address space is given back.
pub struct Map {
    /// Owns the address space: all of it is unmapped when this is dropped, whatever was mapped over it.
    space: MmapRaw,
    base: NonNull<u8>,
    capacity: usize,
    readonly: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}
// SAFETY: the methods take plain integers and change only what the kernel guards itself; the bytes are raw memory.
unsafe impl Sync for Map {}

/// A page of a file that stays mapped in this process alone: it keeps an open file description, and so its locks.
///
/// Forked children do not have it; dropped, exec'ed over or killed, it is gone. A child that has a copy of this value
/// must forget it: there something else may stand at its address.
pub struct LockMapping {
    _page: MmapRaw,
}

impl LockMapping {
    /// Maps a page of `file`, for reading, out of reach of children.
    pub fn new(file: &OwnedFd) -> Result<LockMapping> {
        let length = super::process::page_size() as usize;
        let page = MmapOptions::new().len(length).map_raw_read_only(file);
        let page = page.map_err(|error| no_room(&error, length as u64))?;
        page.advise(Advice::DontFork).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            refused(
                errno,
                "cannot keep a page out of forked children (MADV_DONTFORK)",
            )
        })?;
        Ok(LockMapping { _page: page })
    }
}

fn no_room(error: &std::io::Error, capacity: u64) -> Error {
    let what = format!("cannot map {capacity} bytes of address space (see RLIMIT_AS)");
    match error.raw_os_error() {
        Some(errno) => refused(Errno::from_raw(errno), &what),
        // Refused before the kernel was asked: more than an isize.
        None => Error::TooLarge(what.into()),
    }
}

impl Map {
    /// Maps the first `capacity` bytes of `file`, whether or not it is that long.
    pub fn new(file: &OwnedFd, capacity: u64, readonly: bool) -> Result<Map> {
        let length = usize::try_from(capacity)
            .ok()
            .filter(|&length| isize::try_from(length).is_ok());
        let length = length.and_then(NonZeroUsize::new).ok_or_else(|| {
            Error::TooLarge(
                format!("{capacity} bytes are more than an address space can have").into(),
            )
        })?;
        if capacity >= HUGE_PAGE {
            return Map::aligned(file, length, readonly);
        }
        let mut options = MmapOptions::new();
        options.len(length.get());
        let space = if readonly {
            options.map_raw_read_only(file.as_raw_fd())
        } else {
            options.map_raw(file.as_raw_fd())
        };
        let space = space.map_err(|error| no_room(&error, capacity))?;
        let base =
            NonNull::new(space.as_mut_ptr()).ok_or(Error::Internal("mmap returned NULL".into()))?;
        Ok(Map {
            space,
            base,
            capacity: length.get(),
            readonly,
        })
    }

    /// Maps the file with room to spare, for the address space alone, then once more over the aligned part of it.
    ///
    /// A shared mapping of a file for reading is what the kernel never counts as memory promised, whatever its size
    /// and the overcommit policy.
    fn aligned(file: &OwnedFd, length: NonZeroUsize, readonly: bool) -> Result<Map> {
        let huge = HUGE_PAGE as usize;
        let reserved = length.get().saturating_add(huge);
        let space = MmapOptions::new()
            .len(reserved)
            .map_raw_read_only(file.as_raw_fd())
            .map_err(|error| no_room(&error, length.get() as u64))?;
        let address = (space.as_mut_ptr() as usize).next_multiple_of(huge);
        let access = if readonly {
            ProtFlags::PROT_READ
        } else {
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
        };
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: [address, address + length) lies in the `reserved` bytes that `space` owns and nobody else knows of,
        // so MAP_FIXED replaces nothing but our own reservation.
        let base = unsafe { mmap(NonZeroUsize::new(address), length, access, flags, file, 0) };
        let base = base.map_err(|errno| refused(errno, &format!("cannot map {length} bytes")))?;
        Ok(Map {
            space,
            base: base.cast(),
            capacity: length.get(),
            readonly,
        })
    }

    /// Returns the address of the first byte.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns how many bytes of address space are mapped.
    pub fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Returns the address and length of `[from, to)` widened to whole pages, as far as the mapping goes.
    fn pages(&self, from: u64, to: u64) -> Option<(NonNull<std::ffi::c_void>, usize)> {
        let page = super::process::page_size();
        let from = from / page * page;
        let to = to.min(self.capacity()).next_multiple_of(page);
        if from >= to {
            return None;
        }
        // SAFETY: from < to <= capacity rounded up to a page, all of which the kernel has mapped at base.
        let address = unsafe { self.base.add(from as usize) };
        Some((address.cast(), (to - from) as usize))
    }

    fn advise(&self, from: u64, to: u64, advice: Advice) -> std::result::Result<(), Errno> {
        let (from, to) = (from as usize, to.min(self.capacity()) as usize);
        if from >= to {
            return Ok(());
        }
        let shift = self.base.as_ptr() as usize - self.space.as_mut_ptr() as usize;
        let advised = self.space.advise_range(advice, shift + from, to - from);
        advised.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }

    /// Keeps what lies from `size` on out of core dumps: it has no memory, yet the kernel would walk through it.
    pub fn leave_out_of_dumps(&self, size: u64) {
        let from = size.next_multiple_of(super::process::page_size());
        let _ = self.advise(from, self.capacity(), Advice::DontDump);
    }

    /// Has `[from, to)` written into core dumps like other memory.
    pub fn put_into_dumps(&self, from: u64, to: u64) {
        let _ = self.advise(from, to, Advice::DoDump);
    }

    /// Maps every page of `[from, to)` now, so that no first touch waits for the kernel.
    ///
    /// The bytes must have memory already; false where a signal came first.
    pub fn populate(&self, from: u64, to: u64) -> Result<bool> {
        let advice = if self.readonly {
            Advice::PopulateRead
        } else {
            Advice::PopulateWrite
        };
        match self.advise(from, to, advice) {
            Ok(()) => Ok(true),
            Err(Errno::EINTR) => Ok(false),
            // Before Linux 5.14: one read of every page does nearly the same.
            Err(Errno::EINVAL) => {
                self.touch(from, to);
                Ok(true)
            }
            Err(errno) => Err(refused(
                errno,
                "cannot map the segment's pages ahead of use",
            )),
        }
    }

    fn touch(&self, from: u64, to: u64) {
        let page = super::process::page_size() as usize;
        let to = to.min(self.capacity()) as usize;
        for offset in (from as usize..to).step_by(page) {
            // SAFETY: offset < capacity.
            let address = unsafe { self.base.add(offset) };
            // SAFETY: the byte is mapped and has memory (the caller's promise); a volatile read is not left out.
            unsafe { address.read_volatile() };
        }
    }

    /// Turns `[from, to)` into huge pages as far as the kernel can; what it cannot stays in small pages.
    pub fn collapse(&self, from: u64, to: u64) {
        let Some((address, length)) = self.pages(from, to) else {
            return;
        };
        // SAFETY: the pages are ours (`pages`); collapsing changes no byte that anybody can see.
        unsafe { libc::madvise(address.as_ptr(), length, MADV_COLLAPSE) };
    }

    /// Keeps `[from, to)` in physical memory until the mapping goes.
    pub fn lock(&self, from: u64, to: u64) -> Result<()> {
        let Some((address, length)) = self.pages(from, to) else {
            return Ok(());
        };
        // SAFETY: the pages are ours (`pages`); mlock changes no byte of them.
        let locked = unsafe { mlock(address, length) };
        locked.map_err(|errno| match errno {
            Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN => Error::NoMemory(crate::error::Cause {
                text: format!(
                    "cannot lock {length} bytes in memory: RLIMIT_MEMLOCK is {} bytes",
                    super::process::locked_memory_limit()
                )
                .into(),
                errno: errno as i32,
            }),
            _ => refused(errno, "cannot lock the segment in memory"),
        })
    }

    /// Returns how many bytes this process reaches through huge pages just now, as /proc/self/smaps tells.
    pub fn huge_bytes(&self) -> u64 {
        super::memory::huge_bytes(self.base.as_ptr() as usize, self.capacity)
    }
}
