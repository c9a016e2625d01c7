//! The functions of locks and recursive locks: the same, with two prefixes.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{NOWAIT, Status, TIMEOUT, Way, check, object_at};
use crate::suite::harness::library::{Library, functions, pointer};
use shmkit::capi::lock::shmkit_lock_info;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::{CStr, c_char, c_void};

functions! {
    Locks:
    create(*const c_char, *const shmkit_object_options, *mut *mut c_void);
    open(*const c_char, *const shmkit_object_options, *mut *mut c_void);
    open_or_create(*const c_char, *const shmkit_object_options, *mut *mut c_void);
    create_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    acquire(*mut c_void, i64, u32, *mut u32);
    release(*mut c_void);
    mark_consistent(*mut c_void);
    stat(*const c_void, *mut shmkit_lock_info);
    unlink(*mut c_void);
    close(*mut c_void);
}

/// The kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock.
    Lock,
    /// A recursive lock.
    RLock,
}

/// An open lock of either kind.
#[derive(Clone, Copy)]
pub struct Lock {
    kind: Kind,
    pub(crate) handle: *mut c_void,
}

/// Options of a lock with a file of its own.
fn options(participants: u32) -> shmkit_object_options {
    shmkit_object_options {
        struct_size: size_of::<shmkit_object_options>() as u32,
        flags: 0,
        mode: 0,
        participants,
        // From SHMKIT_DIR.
        directory: std::ptr::null(),
    }
}

impl Library {
    fn of(&self, kind: Kind) -> &Locks {
        &self.locks[kind as usize]
    }

    /// Creates or opens the lock of this name; without a name it is created in the arena of this process.
    pub fn named_lock(
        &self,
        kind: Kind,
        name: Option<&CStr>,
        way: Way,
        participants: u32,
    ) -> Result<Lock, Status> {
        let function = match way {
            Way::Create => self.of(kind).create,
            Way::Open => self.of(kind).open,
            Way::OpenOrCreate => self.of(kind).open_or_create,
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: the name is NULL or ends with a NUL byte; options and out live through the call.
        check(unsafe { function(pointer(name), &options(participants), &raw mut handle) })?;
        Ok(Lock { kind, handle })
    }

    /// Creates the lock at `offset` of the data, or opens it.
    pub fn create_lock_at(
        &self,
        kind: Kind,
        segment: Segment,
        offset: u64,
    ) -> Result<Lock, Status> {
        let handle = object_at(self.of(kind).create_at, segment, offset, Some(&options(0)))?;
        Ok(Lock { kind, handle })
    }

    /// Opens the lock at `offset` of the data.
    pub fn open_lock_at(&self, kind: Kind, segment: Segment, offset: u64) -> Result<Lock, Status> {
        let handle = object_at(self.of(kind).open_at, segment, offset, Some(&options(0)))?;
        Ok(Lock { kind, handle })
    }

    /// Opens the lock that every managed segment has.
    pub fn built_in_lock(&self, segment: Segment) -> Result<Lock, Status> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: a Segment is an open handle; the output lives through the call.
        check(unsafe { (self.segments.lock)(segment.0, &raw mut handle) })?;
        Ok(Lock {
            kind: Kind::Lock,
            handle: handle.cast(),
        })
    }

    /// Acquires the lock; returns whether an owner has died.
    pub fn acquire(&self, lock: Lock, timeout: i64) -> Result<bool, Status> {
        let mut owner_died = 0;
        let function = self.of(lock.kind).acquire;
        // SAFETY: a Lock is an open handle of its kind; owner_died lives through the call.
        check(unsafe { function(lock.handle, timeout, 0, &raw mut owner_died) })?;
        Ok(owner_died != 0)
    }

    /// Releases the lock.
    pub fn release(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).release)(lock.handle) }
    }

    /// Marks the guarded data as consistent.
    pub fn mark_consistent(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).mark_consistent)(lock.handle) }
    }

    /// Returns the counters and the owner of the lock.
    pub fn lock_stat(&self, lock: Lock) -> Result<shmkit_lock_info, Status> {
        let mut out = shmkit_lock_info {
            struct_size: size_of::<shmkit_lock_info>() as u32,
            flags: 0,
            acquisitions: 0,
            contended: 0,
            recoveries: 0,
            contended_since: 0,
            owner_ticket: 0,
            owner_namespace: 0,
            offset: 0,
            owner_pid: 0,
            reserved: 0,
        };
        // SAFETY: as in `acquire`; out has its size set.
        check(unsafe { (self.of(lock.kind).stat)(lock.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Removes the name of a lock that has a file of its own.
    pub fn unlink_lock(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).unlink)(lock.handle) }
    }

    /// Closes the lock.
    pub fn close_lock(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`; a handle is closed once.
        unsafe { (self.of(lock.kind).close)(lock.handle) }
    }

    /// Calls each function of locks in a segment once.
    pub fn warm_up_locks(&self, segment: Segment) -> Result<(), Status> {
        for kind in [Kind::Lock, Kind::RLock] {
            let offset = 64 * kind as u64;
            check(self.close_lock(self.create_lock_at(kind, segment, offset)?))?;
            let lock = self.open_lock_at(kind, segment, offset)?;
            self.acquire(lock, NOWAIT)?;
            self.lock_stat(lock)?;
            check(self.mark_consistent(lock))?;
            check(self.release(lock))?;
            check(self.close_lock(lock))?;
        }
        let lock = self.built_in_lock(segment)?;
        self.acquire(lock, NOWAIT)?;
        // The first wait counts the processors.
        let again = self.acquire(lock, 1);
        assert_eq!(again, Err(TIMEOUT), "the lock is not recursive");
        check(self.release(lock))?;
        check(self.close_lock(lock))
    }

    /// Calls each function of named locks once.
    pub fn warm_up_named_locks(&self, name: &CStr) -> Result<(), Status> {
        for kind in [Kind::Lock, Kind::RLock] {
            let lock = self.named_lock(kind, Some(name), Way::OpenOrCreate, 1)?;
            check(self.unlink_lock(lock))?;
            check(self.close_lock(lock))?;
        }
        Ok(())
    }
}
