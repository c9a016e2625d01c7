//! The functions of locks and recursive locks, called through the C ABI: the same for both, under two names.

use crate::library::{Library, Options, Segment, Status, functions, pointer};
use shmkit::capi::lock::shmkit_lock_info;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::segment::{SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED, shmkit_segment};
use std::ffi::{CStr, c_char, c_void};

/// Wait as long as it takes.
pub const FOREVER: i64 = -1;
/// Do not wait.
pub const NOWAIT: i64 = 0;

const TIMEOUT: Status = -10;

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

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock.
    Lock,
    /// A recursive lock.
    RLock,
}

/// A lock of either kind that this process has open.
#[derive(Clone, Copy)]
pub struct Lock {
    kind: Kind,
    pub(crate) handle: *mut c_void,
}

/// How a lock with a name is come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Made.
    Create,
    /// Found.
    Open,
    /// Found, or made.
    OpenOrCreate,
}

/// Options of a lock with a file of its own, for so many processes.
fn options(participants: u32) -> shmkit_object_options {
    shmkit_object_options {
        struct_size: size_of::<shmkit_object_options>() as u32,
        flags: 0,
        mode: 0,
        participants,
        // SHMKIT_DIR says where.
        directory: std::ptr::null(),
    }
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl Library {
    fn of(&self, kind: Kind) -> &Locks {
        &self.locks[kind as usize]
    }

    /// Makes or finds the lock of this name; without a name it is made in the arena of this process.
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
        good(unsafe { function(pointer(name), &options(participants), &raw mut handle) })?;
        Ok(Lock { kind, handle })
    }

    /// Makes or finds the lock at `offset` of the data.
    pub fn create_lock_at(
        &self,
        kind: Kind,
        segment: Segment,
        offset: u64,
    ) -> Result<Lock, Status> {
        let mut handle = std::ptr::null_mut();
        let function = self.of(kind).create_at;
        // SAFETY: a Segment is an open handle; options and out live through the call.
        good(unsafe { function(segment.0, offset, &options(0), &raw mut handle) })?;
        Ok(Lock { kind, handle })
    }

    /// Finds the lock at `offset` of the data.
    pub fn open_lock_at(&self, kind: Kind, segment: Segment, offset: u64) -> Result<Lock, Status> {
        let mut handle = std::ptr::null_mut();
        let function = self.of(kind).open_at;
        // SAFETY: as in `create_lock_at`.
        good(unsafe { function(segment.0, offset, &options(0), &raw mut handle) })?;
        Ok(Lock { kind, handle })
    }

    /// Finds the lock that every managed segment has.
    pub fn built_in_lock(&self, segment: Segment) -> Result<Lock, Status> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: as in `create_lock_at`.
        good(unsafe { (self.functions.lock)(segment.0, &raw mut handle) })?;
        Ok(Lock {
            kind: Kind::Lock,
            handle: handle.cast(),
        })
    }

    /// Takes the lock; returns whether it was told that an owner died.
    pub fn acquire(&self, lock: Lock, timeout: i64) -> Result<bool, Status> {
        let mut recovered = 0;
        let function = self.of(lock.kind).acquire;
        // SAFETY: a Lock is an open handle of its kind; recovered lives through the call.
        good(unsafe { function(lock.handle, timeout, 0, &raw mut recovered) })?;
        Ok(recovered != 0)
    }

    /// Gives the lock back.
    pub fn release(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).release)(lock.handle) }
    }

    /// Says that what the lock guards is whole.
    pub fn mark_consistent(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).mark_consistent)(lock.handle) }
    }

    /// Returns what is known of the lock.
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
        good(unsafe { (self.of(lock.kind).stat)(lock.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Removes the name of a lock that has a file of its own.
    pub fn unlink_lock(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`.
        unsafe { (self.of(lock.kind).unlink)(lock.handle) }
    }

    /// Lets go of the lock.
    pub fn close_lock(&self, lock: Lock) -> Status {
        // SAFETY: as in `acquire`; each handle is closed once.
        unsafe { (self.of(lock.kind).close)(lock.handle) }
    }

    /// As `warm_up`, for managed segments and locks.
    pub fn warm_up_locks(&self) -> Result<(), Status> {
        let name = c"warm-up";
        let managed = Options {
            flags: SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL,
            participants: 1,
            ..Options::default()
        };
        let segment = self.create(Some(name), 8192, managed)?;
        for kind in [Kind::Lock, Kind::RLock] {
            let offset = 64 * kind as u64;
            good(self.close_lock(self.create_lock_at(kind, segment, offset)?))?;
            let lock = self.open_lock_at(kind, segment, offset)?;
            self.acquire(lock, NOWAIT)?;
            self.lock_stat(lock)?;
            good(self.mark_consistent(lock))?;
            good(self.release(lock))?;
            good(self.close_lock(lock))?;
        }
        self.warm_up_events(segment)?;
        self.warm_up_semaphores(segment)?;
        self.warm_up_rwlocks(segment)?;
        self.warm_up_barriers(segment)?;
        self.warm_up_onces(segment)?;
        self.warm_up_queues(segment)?;
        let lock = self.built_in_lock(segment)?;
        self.acquire(lock, NOWAIT)?;
        // Who waits looks how many processors there are.
        let again = self.acquire(lock, 1);
        assert_eq!(again, Err(TIMEOUT), "it is not recursive");
        good(self.release(lock))?;
        good(self.close_lock(lock))?;
        good(self.close(segment))?;
        self.gc()?;
        for kind in [Kind::Lock, Kind::RLock] {
            let lock = self.named_lock(kind, Some(name), Way::OpenOrCreate, 1)?;
            good(self.unlink_lock(lock))?;
            good(self.close_lock(lock))?;
        }
        Ok(())
    }
}
