//! Limits: how large a segment can be.

use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{check_pointer, run, text};
use crate::error::{Error, Result};
use crate::segment::{limits, name};
use std::ffi::c_char;

/// In shmkit_limits_info: the file system of the directory keeps its files in memory (tmpfs).
pub const SHMKIT_LIMITS_IN_MEMORY: u32 = 1;

/// The limits of a segment's size at the time of the call. Sizes are in bytes; UINT64_MAX means no
/// limit.
///
/// Set struct_size to sizeof(shmkit_limits_info) before the call. All figures are advice, because
/// other processes allocate and free memory meanwhile.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_limits_info {
    /// sizeof(shmkit_limits_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_LIMITS_IN_MEMORY or 0.
    pub flags: u32,
    /// The largest segment that can be created in the directory now, in whole pages.
    pub largest_named: u64,
    /// The largest anonymous segment that can be created now, in whole pages.
    pub largest_anonymous: u64,
    /// The size of the directory's file system (statfs).
    pub directory_total: u64,
    /// The free space of that file system for this user.
    pub directory_free: u64,
    /// MemTotal of /proc/meminfo.
    pub memory_total: u64,
    /// MemAvailable of /proc/meminfo.
    pub memory_available: u64,
    /// SwapTotal of /proc/meminfo.
    pub swap_total: u64,
    /// SwapFree of /proc/meminfo.
    pub swap_free: u64,
    /// The limit of the cgroup with the least memory left, from this process's own cgroup up to the
    /// root.
    pub cgroup_limit: u64,
    /// The memory that this cgroup has left. Page cache counts as free.
    pub cgroup_free: u64,
    /// CommitLimit minus Committed_AS of /proc/meminfo, if overcommit_policy is 2.
    pub commit_free: u64,
    /// RLIMIT_FSIZE: the maximum size of a file that this process writes.
    pub file_size_limit: u64,
    /// RLIMIT_MEMLOCK: the maximum of memory that this process locks.
    pub locked_memory_limit: u64,
    /// RLIMIT_AS: the maximum of address space of this process.
    pub address_space_limit: u64,
    /// RLIMIT_NOFILE: the maximum number of descriptors of this process.
    pub open_files_limit: u64,
    /// The size of a page.
    pub page_size: u64,
    /// The size of a huge page. 0: the kernel has none.
    pub huge_page_size: u64,
    /// /proc/sys/vm/overcommit_memory: 0 heuristic, 1 always, 2 never.
    pub overcommit_policy: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_limits_info {
    const FIRST: usize = size_of::<shmkit_limits_info>();
}

unsafe fn ask(directory: *const c_char) -> Result<limits::Limits> {
    // SAFETY: the caller guarantees it (see # Safety).
    let directory = unsafe { text(directory) };
    limits::limits(&name::directory(directory)?)
}

/// Returns how large a segment can be: the limits of file system, machine, cgroups and this
/// process.
///
///   directory  NULL: SHMKIT_DIR, else /dev/shm
///
///   SHMKIT_ERR_NOT_FOUND   no such directory
///   SHMKIT_ERR_PERMISSION  the path of the directory cannot be searched
///   SHMKIT_ERR_INVALID     the path has a component that is not a directory, or is too long
///
/// # Safety
/// `directory` must be NULL or a C string, `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_limits(
    directory: *const c_char,
    out: *mut shmkit_limits_info,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { structure::check(out, "out") }?;
        // SAFETY: the caller guarantees it (see # Safety).
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
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    })
}

/// Writes the figures of shmkit_limits as one readable line: NUL-terminated, without a newline.
///
///   directory  NULL: SHMKIT_DIR, else /dev/shm
///   size       the size of `buffer` in bytes; 1024 is enough
///
///   SHMKIT_ERR_TOO_LARGE  the line does not fit; nothing is written
///   and the errors of shmkit_limits
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
        // SAFETY: the caller guarantees it (see # Safety).
        let line = unsafe { ask(directory) }?.to_string();
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        if line.len() >= room {
            return Err(Error::TooLarge(
                format!(
                    "the line has {} bytes, the buffer {size}; pass a larger buffer",
                    line.len() + 1
                )
                .into(),
            ));
        }
        // SAFETY: line.len() < room bytes, which the caller guarantees to be writable.
        unsafe { std::ptr::copy_nonoverlapping(line.as_ptr().cast(), buffer, line.len()) };
        // SAFETY: as above: one more byte fits.
        let end = unsafe { buffer.add(line.len()) };
        // SAFETY: as above.
        unsafe { end.write(0) };
        Ok(())
    })
}

// Sized32 requires that there is no padding.
const _: () = assert!(size_of::<shmkit_limits_info>() == 8 + 17 * 8 + 8);
