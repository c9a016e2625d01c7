//! Limits: how large a segment may be.

use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{check_pointer, run, text};
use crate::error::{Error, Result};
use crate::segment::{limits, name};
use std::ffi::c_char;

/// The file system of the directory keeps what it holds in memory (tmpfs).
pub const SHMKIT_LIMITS_IN_MEMORY: u32 = 1;

/// What bounds the size of a segment just now. Sizes in bytes; UINT64_MAX means that there is no limit.
///
/// Set struct_size to sizeof(shmkit_limits_info) before the call. Every figure was true when it was read, and others
/// take and give memory meanwhile.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_limits_info {
    /// sizeof(shmkit_limits_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_LIMITS_IN_MEMORY or 0.
    pub flags: u32,
    /// The largest segment that could be made in the directory now, in whole pages.
    pub largest_named: u64,
    /// The largest anonymous segment that could be made now, in whole pages.
    pub largest_anonymous: u64,
    /// What the file system of the directory can hold (statfs).
    pub directory_total: u64,
    /// What is free there for this user.
    pub directory_free: u64,
    /// MemTotal of /proc/meminfo.
    pub memory_total: u64,
    /// MemAvailable of /proc/meminfo.
    pub memory_available: u64,
    /// SwapTotal of /proc/meminfo.
    pub swap_total: u64,
    /// SwapFree of /proc/meminfo.
    pub swap_free: u64,
    /// The limit of the cgroup that has least left, from this process' own up to the root.
    pub cgroup_limit: u64,
    /// What that cgroup has left, page cache counted as free.
    pub cgroup_free: u64,
    /// CommitLimit less Committed_AS where overcommit_policy is 2.
    pub commit_free: u64,
    /// RLIMIT_FSIZE: the largest file this process may write.
    pub file_size_limit: u64,
    /// RLIMIT_MEMLOCK: how much this process may lock in memory.
    pub locked_memory_limit: u64,
    /// RLIMIT_AS: how much address space this process may have.
    pub address_space_limit: u64,
    /// RLIMIT_NOFILE: how many descriptors this process may have.
    pub open_files_limit: u64,
    /// The size of a page.
    pub page_size: u64,
    /// The size of a huge page; 0 where the kernel has none.
    pub huge_page_size: u64,
    /// /proc/sys/vm/overcommit_memory: 0 guesses, 1 always says yes, 2 counts.
    pub overcommit_policy: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_limits_info {
    const FIRST: usize = size_of::<shmkit_limits_info>();
}

unsafe fn ask(directory: *const c_char) -> Result<limits::Limits> {
    // SAFETY: the caller's promise.
    let directory = unsafe { text(directory) };
    limits::limits(&name::directory(directory)?)
}

/// Tells how large a segment may be: what file system, machine, cgroup and this process' own limits leave.
///
/// `directory` NULL: SHMKIT_DIR, else /dev/shm. SHMKIT_ERR_NOT_FOUND: no such directory.
///
/// # Safety
/// `directory` must be NULL or a C string, `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_limits(
    directory: *const c_char,
    out: *mut shmkit_limits_info,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        // SAFETY: the caller's promise.
        let found = unsafe { ask(directory) }?;
        let info = shmkit_limits_info {
            struct_size: 0,
            flags: if found.space.in_memory {
                SHMKIT_LIMITS_IN_MEMORY
            } else {
                0
            },
            largest_named: found.largest(true).0,
            largest_anonymous: found.largest(false).0,
            directory_total: found.space.total,
            directory_free: found.space.free,
            memory_total: found.machine.total,
            memory_available: found.machine.available,
            swap_total: found.machine.swap_total,
            swap_free: found.machine.swap_free,
            cgroup_limit: found
                .cgroup
                .as_ref()
                .map_or(u64::MAX, |cgroup| cgroup.limit),
            cgroup_free: found.cgroup.as_ref().map_or(u64::MAX, |cgroup| cgroup.free),
            commit_free: found.machine.commit_free,
            file_size_limit: found.file_size,
            locked_memory_limit: found.locked_memory,
            address_space_limit: found.address_space,
            open_files_limit: found.open_files,
            page_size: found.page_size,
            huge_page_size: found.machine.huge_page_size,
            overcommit_policy: found.machine.overcommit,
            reserved: 0,
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    })
}

/// Writes the answer of shmkit_limits as one line for people, NUL-terminated, without a newline.
///
/// `size` is the room in `buffer` in bytes: 1024 are enough. SHMKIT_ERR_TOO_LARGE: they are not, and nothing is written.
///
/// # Safety
/// `directory` must be NULL or a C string, `buffer` NULL or `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_limits_line(
    directory: *const c_char,
    buffer: *mut c_char,
    size: u64,
) -> shmkit_status {
    run(|| {
        check_pointer(buffer, "buffer")?;
        // SAFETY: the caller's promise.
        let line = unsafe { ask(directory) }?.to_string();
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        if line.len() >= room {
            return Err(Error::TooLarge(
                format!("the line has {} bytes with its NUL", line.len() + 1).into(),
            ));
        }
        // SAFETY: line.len() < room bytes, which the caller promises are writable.
        unsafe { std::ptr::copy_nonoverlapping(line.as_ptr().cast(), buffer, line.len()) };
        // SAFETY: as above: one more byte fits.
        let end = unsafe { buffer.add(line.len()) };
        // SAFETY: as above.
        unsafe { end.write(0) };
        Ok(())
    })
}

// The trait's promise that there is no padding.
const _: () = assert!(size_of::<shmkit_limits_info>() == 8 + 17 * 8 + 8);
