//! The functions of conditions.

use crate::suite::capi::lock::{Kind, Lock};
use crate::suite::capi::segment::{Options, Segment};
use crate::suite::capi::{NOWAIT, Status, TIMEOUT, WOULD_BLOCK, check, object_at};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::condition::{shmkit_condition_info, shmkit_condition_options};
use shmkit::capi::segment::{SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED, shmkit_segment};
use std::ffi::c_void;

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

/// An open condition, and the lock that it is used with.
#[derive(Clone, Copy)]
pub struct Condition {
    handle: *mut c_void,
    lock: Lock,
}

impl Library {
    /// Creates the condition at `offset` of the data, with `cells` cells, or opens it.
    pub fn create_condition_at(
        &self,
        segment: Segment,
        offset: u64,
        cells: u32,
        lock: Lock,
    ) -> Result<Condition, Status> {
        let options = shmkit_condition_options {
            struct_size: size_of::<shmkit_condition_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            cells,
            reserved: 0,
        };
        let handle = object_at(self.conditions.create_at, segment, offset, Some(&options))?;
        Ok(Condition { handle, lock })
    }

    /// Opens the condition at `offset` of the data.
    pub fn open_condition_at(
        &self,
        segment: Segment,
        offset: u64,
        lock: Lock,
    ) -> Result<Condition, Status> {
        let handle = object_at(self.conditions.open_at, segment, offset, None)?;
        Ok(Condition { handle, lock })
    }

    /// Waits; the lock is held before and after.
    pub fn wait(&self, condition: Condition, timeout: i64) -> Status {
        let (handle, mutex) = (condition.handle, condition.lock.handle);
        let mut owner_died = 0;
        // SAFETY: both are open handles; owner_died lives through the call.
        unsafe { (self.conditions.wait)(handle, mutex, timeout, 0, &raw mut owner_died) }
    }

    /// Notifies `count` waiters; `None`: all.
    pub fn notify(&self, condition: Condition, count: Option<u32>) -> Status {
        let (handle, mutex) = (condition.handle, condition.lock.handle);
        match count {
            // SAFETY: both are open handles.
            Some(count) => unsafe { (self.conditions.notify)(handle, mutex, count) },
            // SAFETY: as above.
            None => unsafe { (self.conditions.notify_all)(handle, mutex) },
        }
    }

    /// Returns its counters.
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
        check(unsafe { (self.conditions.stat)(condition.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the condition, not its lock.
    pub fn close_condition(&self, condition: Condition) -> Status {
        // SAFETY: an open handle, which is closed once.
        unsafe { (self.conditions.close)(condition.handle) }
    }

    /// Calls each function of conditions once.
    pub fn warm_up_conditions(&self) -> Result<(), Status> {
        let ephemeral = Options {
            flags: SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL,
            participants: 1,
            ..Options::default()
        };
        let segment = self.create(Some(c"warm-up"), 4096, ephemeral)?;
        let lock = self.create_lock_at(Kind::Lock, segment, 0)?;
        let condition = self.create_condition_at(segment, 64, 1, lock)?;
        check(self.close_condition(condition))?;
        let condition = self.open_condition_at(segment, 64, lock)?;
        self.acquire(lock, NOWAIT)?;
        assert_eq!(self.wait(condition, 1), TIMEOUT);
        assert_eq!(self.wait(condition, NOWAIT), WOULD_BLOCK);
        check(self.notify(condition, Some(1)))?;
        check(self.notify(condition, None))?;
        self.condition_stat(condition)?;
        check(self.release(lock))?;
        check(self.close_condition(condition))?;
        check(self.close_lock(lock))?;
        check(self.close(segment))?;
        self.gc().map(drop)
    }
}
