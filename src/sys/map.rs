//! Mappings of files into the address space of this process, with room to grow beyond the end of the file.
//!
//! ```text
//! address:  base                base + size            base + capacity
//!           |  has memory       |  room to grow (SIGBUS) |
//! ```
//!
//! A mapping of 2 MiB or more begins at a multiple of 2 MiB, so that it can use huge pages (D-008).

use super::fork::Origin;
use super::{refused, refused_because};
use crate::error::{Error, Result};
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap};
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;

/// The size of a huge page of shared memory on x86-64, and on aarch64 with 4 KiB pages.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Joins 512 small pages to a huge one (Linux 6.1, madvise(2)); neither nix nor memmap2 defines it.
const MADV_COLLAPSE: i32 = 25;

/// A shared mapping of a file; dropping it unmaps the file.
pub struct Map {
    /// Owns the address space: dropping it unmaps everything in it, also what was mapped over it.
    space: MmapRaw,
    base: NonNull<u8>,
    capacity: usize,
    readonly: bool,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}
// SAFETY: the methods take integers and change only state of the kernel, which is thread-safe. The bytes are raw
// memory.
unsafe impl Sync for Map {}

/// A mapped page of a file, the pin: it keeps an open file description alive, and so the locks of that description.
///
/// Forked children do not have the mapping. It ends with a drop, an exec or the death of the process. In a forked child
/// a drop does nothing, because the address may be in other use there.
pub struct LockMapping {
    page: ManuallyDrop<MmapRaw>,
    origin: Origin,
}

impl Drop for LockMapping {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: the page is not used after this, because `self` is being dropped.
            unsafe { ManuallyDrop::drop(&mut self.page) };
        }
    }
}

impl LockMapping {
    /// Maps a page of `file` read-only, and excludes it from forked children.
    pub fn new(file: &OwnedFd) -> Result<LockMapping> {
        let length = super::process::page_size() as usize;
        let page = MmapOptions::new().len(length).map_raw_read_only(file);
        let page = page.map_err(|error| no_room(&error, length as u64))?;
        page.advise(Advice::DontFork).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            refused(
                errno,
                "cannot exclude a page from forked children (MADV_DONTFORK)",
            )
        })?;
        Ok(LockMapping {
            page: ManuallyDrop::new(page),
            origin: Origin::here(),
        })
    }
}

fn no_room(error: &std::io::Error, capacity: u64) -> Error {
    let text = |fault: &str| {
        format!(
            "cannot map {capacity} bytes of address space{fault}; lower the capacity, or raise RLIMIT_AS"
        )
    };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => refused_because(errno, text(&format!(": {}", errno.desc()))),
        // memmap2 refuses more than an isize without asking the kernel.
        None => Error::TooLarge(text("").into()),
    }
}

impl Map {
    /// Maps the first `capacity` bytes of `file`, which may be shorter.
    pub fn new(file: &OwnedFd, capacity: u64, readonly: bool) -> Result<Map> {
        let length = usize::try_from(capacity)
            .ok()
            .filter(|&length| isize::try_from(length).is_ok());
        let length = length.and_then(NonZeroUsize::new).ok_or_else(|| {
            Error::TooLarge(
                format!("{capacity} bytes are more than the address space; lower the capacity")
                    .into(),
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

    /// Reserves address space with room to spare, then maps the file over the aligned part of it.
    ///
    /// The reservation is a shared read-only mapping of the file, because the kernel never counts that as committed
    /// memory, whatever its size and the overcommit policy.
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
        // SAFETY: [address, address + length) lies in the `reserved` bytes that `space` owns and that no other code
        // uses, so MAP_FIXED replaces only our own reservation.
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

    /// Returns the size of the mapped address space in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Returns the address and length of `[from, to)` widened to whole pages, within the mapping.
    fn pages(&self, from: u64, to: u64) -> Option<(NonNull<std::ffi::c_void>, usize)> {
        let page = super::process::page_size();
        let from = from / page * page;
        let to = to.min(self.capacity()).next_multiple_of(page);
        if from >= to {
            return None;
        }
        // SAFETY: from < to <= capacity rounded up to a page, all of which is mapped.
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

    /// Excludes the bytes from `size` on from core dumps: they have no memory, but the kernel would visit each page.
    pub fn leave_out_of_dumps(&self, size: u64) {
        let from = size.next_multiple_of(super::process::page_size());
        let _ = self.advise(from, self.capacity(), Advice::DontDump);
    }

    /// Includes `[from, to)` in core dumps.
    pub fn put_into_dumps(&self, from: u64, to: u64) {
        let _ = self.advise(from, to, Advice::DoDump);
    }

    /// Maps every page of `[from, to)` now, so that no first touch enters the kernel.
    ///
    /// The bytes must have memory already. Returns false if a signal came first.
    pub fn populate(&self, from: u64, to: u64) -> Result<bool> {
        let advice = if self.readonly {
            Advice::PopulateRead
        } else {
            Advice::PopulateWrite
        };
        match self.advise(from, to, advice) {
            Ok(()) => Ok(true),
            Err(Errno::EINTR) => Ok(false),
            // Before Linux 5.14: reading every page has nearly the same effect.
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
            // SAFETY: the byte is mapped, and the caller guarantees that it has memory.
            unsafe { address.read_volatile() };
        }
    }

    /// Joins `[from, to)` to huge pages as far as the kernel can; the rest stays in small pages.
    pub fn collapse(&self, from: u64, to: u64) {
        let Some((address, length)) = self.pages(from, to) else {
            return;
        };
        // SAFETY: the pages are ours (`pages`); collapsing does not change their contents.
        unsafe { libc::madvise(address.as_ptr(), length, MADV_COLLAPSE) };
    }

    /// Locks `[from, to)` in physical memory until the unmapping.
    pub fn lock(&self, from: u64, to: u64) -> Result<()> {
        let Some((address, length)) = self.pages(from, to) else {
            return Ok(());
        };
        // SAFETY: the pages are ours (`pages`); mlock does not change their contents.
        let locked = unsafe { mlock(address, length) };
        locked.map_err(|errno| match errno {
            Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN => Error::NoMemory(crate::error::Cause {
                text: format!(
                    "cannot lock {length} bytes in memory, RLIMIT_MEMLOCK is {} bytes; raise it, or omit the \
                     lock option",
                    super::process::locked_memory_limit()
                )
                .into(),
                errno: errno as i32,
            }),
            _ => refused(errno, "cannot lock the segment in memory"),
        })
    }

    /// Returns the bytes that this process maps by huge pages now, from /proc/self/smaps.
    pub fn huge_bytes(&self) -> u64 {
        super::memory::huge_bytes(self.base.as_ptr() as usize, self.capacity)
    }
}
