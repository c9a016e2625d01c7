//! The functions of conditions, called through the C ABI.

use crate::library::{Library, Options, Segment, Status, functions};
use crate::locks::{Kind, Lock, NOWAIT};
use shmkit::capi::condition::{shmkit_condition_info, shmkit_condition_options};
use shmkit::capi::segment::{SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED, shmkit_segment};
use std::ffi::c_void;

/// SHMKIT_ERR_TIMEOUT.
pub const TIMEOUT: Status = -10;
/// SHMKIT_ERR_WOULD_BLOCK.
pub const WOULD_BLOCK: Status = -11;

functions! {
    Conditions:
    create_at(*const shmkit_segment, u64, *const shmkit_condition_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_condition_options, *mut *mut c_void);
    wait(*mut c_void, *mut c_void, i64, u32, *mut u32);
    notify(*mut c_void, *mut c_void, u32);
    notify_all(*mut c_void, *mut c_void);
    stat(*const c_void, *mut shmkit_condition_info);
    close(*mut c_void);
}

/// A condition that this process has open, and the lock it goes with.
#[derive(Clone, Copy)]
pub struct Condition {
    handle: *mut c_void,
    lock: Lock,
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl Library {
    /// Makes the condition at `offset` of the data, with so many cells, or finds it.
    pub fn create_condition_at(
        &self,
        segment: Segment,
        offset: u64,
        cells: u32,
        lock: Lock,
    ) -> Result<Condition, Status> {
        let mut handle = std::ptr::null_mut();
        let options = shmkit_condition_options {
            struct_size: size_of::<shmkit_condition_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            cells,
            reserved: 0,
        };
        // SAFETY: a Segment is an open handle; options and out live through the call.
        good(unsafe { (self.conditions.create_at)(segment.0, offset, &options, &raw mut handle) })?;
        Ok(Condition { handle, lock })
    }

    /// Finds the condition at `offset` of the data.
    pub fn open_condition_at(
        &self,
        segment: Segment,
        offset: u64,
        lock: Lock,
    ) -> Result<Condition, Status> {
        let mut handle = std::ptr::null_mut();
        let open = self.conditions.open_at;
        // SAFETY: as in `create_condition_at`; there are no options.
        good(unsafe { open(segment.0, offset, std::ptr::null(), &raw mut handle) })?;
        Ok(Condition { handle, lock })
    }

    /// Waits, holding its lock before and after.
    pub fn wait(&self, condition: Condition, timeout: i64) -> Status {
        let (handle, mutex) = (condition.handle, condition.lock.handle);
        let mut recovered = 0;
        // SAFETY: both are open handles; recovered lives through the call.
        unsafe { (self.conditions.wait)(handle, mutex, timeout, 0, &raw mut recovered) }
    }

    /// Notifies so many; `None`: all.
    pub fn notify(&self, condition: Condition, count: Option<u32>) -> Status {
        let (handle, mutex) = (condition.handle, condition.lock.handle);
        match count {
            // SAFETY: both are open handles.
            Some(count) => unsafe { (self.conditions.notify)(handle, mutex, count) },
            // SAFETY: as above.
            None => unsafe { (self.conditions.notify_all)(handle, mutex) },
        }
    }

    /// Returns what is known of it.
    pub fn condition_stat(&self, condition: Condition) -> Result<shmkit_condition_info, Status> {
        let mut out = shmkit_condition_info {
            struct_size: size_of::<shmkit_condition_info>() as u32,
            flags: 0,
            cells: 0,
            waiting: 0,
            waits: 0,
            notified: 0,
            timeouts: 0,
            recoveries: 0,
            offset: 0,
        };
        // SAFETY: an open handle; out has its size set.
        good(unsafe { (self.conditions.stat)(condition.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Lets go of it, not of its lock.
    pub fn close_condition(&self, condition: Condition) -> Status {
        // SAFETY: an open handle; each is closed once.
        unsafe { (self.conditions.close)(condition.handle) }
    }

    /// As `warm_up`, for conditions.
    pub fn warm_up_conditions(&self) -> Result<(), Status> {
        let managed = Options {
            flags: SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL,
            participants: 1,
            ..Options::default()
        };
        let segment = self.create(Some(c"warm-up"), 4096, managed)?;
        let lock = self.create_lock_at(Kind::Lock, segment, 0)?;
        let condition = self.create_condition_at(segment, 64, 1, lock)?;
        good(self.close_condition(condition))?;
        let condition = self.open_condition_at(segment, 64, lock)?;
        self.acquire(lock, NOWAIT)?;
        assert_eq!(self.wait(condition, 1), TIMEOUT);
        assert_eq!(self.wait(condition, NOWAIT), WOULD_BLOCK);
        good(self.notify(condition, Some(1)))?;
        good(self.notify(condition, None))?;
        self.condition_stat(condition)?;
        good(self.release(lock))?;
        good(self.close_condition(condition))?;
        good(self.close_lock(lock))?;
        good(self.close(segment))?;
        self.gc().map(drop)
    }
}
