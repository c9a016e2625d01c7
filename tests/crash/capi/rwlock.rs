//! The functions of readers-writer locks.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOWAIT, Status, TIMEOUT, check, object_at};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::rwlock::{shmkit_rwlock_info, shmkit_rwlock_options};
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;

functions! {
    RwLocks:
    create_at(*const shmkit_segment, u64, *const shmkit_rwlock_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_rwlock_options, *mut *mut c_void);
    acquire_read(*mut c_void, i64, u32, *mut u32);
    release_read(*mut c_void);
    acquire_write(*mut c_void, i64, u32, *mut u32);
    release_write(*mut c_void);
    upgrade(*mut c_void, i64, u32);
    downgrade(*mut c_void);
    mark_consistent(*mut c_void);
    stat(*const c_void, *mut shmkit_rwlock_info);
    close(*mut c_void);
}

/// The offset of the lock used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 2048;

/// An open lock.
#[derive(Clone, Copy)]
pub struct RwLock<'a> {
    functions: &'a RwLocks,
    handle: *mut c_void,
}

impl<'a> RwLock<'a> {
    /// Creates it at `offset` of the data, with room for `readers` processes that read, or opens it.
    pub fn create(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        readers: u32,
    ) -> Result<RwLock<'a>, Status> {
        let functions = &shmkit.rwlocks;
        let options = shmkit_rwlock_options {
            struct_size: size_of::<shmkit_rwlock_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            readers,
            reserved: 0,
        };
        let handle = object_at(functions.create_at, segment, offset, Some(&options))?;
        Ok(RwLock { functions, handle })
    }

    /// Opens it.
    pub fn open(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<RwLock<'a>, Status> {
        let functions = &shmkit.rwlocks;
        let handle = object_at(functions.open_at, segment, offset, None)?;
        Ok(RwLock { functions, handle })
    }

    /// Acquires it for reading; returns whether a writer has died.
    pub fn acquire_read(&self, timeout: i64) -> Result<bool, Status> {
        let mut owner_died = 0;
        // SAFETY: a RwLock is an open handle; the output lives through the call.
        check(unsafe {
            (self.functions.acquire_read)(self.handle, timeout, 0, &raw mut owner_died)
        })?;
        Ok(owner_died != 0)
    }

    /// Releases it as a reader.
    pub fn release_read(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        check(unsafe { (self.functions.release_read)(self.handle) })
    }

    /// Acquires it for writing; returns whether a writer has died.
    pub fn acquire_write(&self, timeout: i64) -> Result<bool, Status> {
        let mut owner_died = 0;
        // SAFETY: as in `acquire_read`.
        check(unsafe {
            (self.functions.acquire_write)(self.handle, timeout, 0, &raw mut owner_died)
        })?;
        Ok(owner_died != 0)
    }

    /// Releases it as the writer.
    pub fn release_write(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        check(unsafe { (self.functions.release_write)(self.handle) })
    }

    /// Turns a reader into the writer.
    pub fn upgrade(&self, timeout: i64) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        check(unsafe { (self.functions.upgrade)(self.handle, timeout, 0) })
    }

    /// Turns the writer into a reader.
    pub fn downgrade(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        check(unsafe { (self.functions.downgrade)(self.handle) })
    }

    /// Marks the guarded data as consistent.
    pub fn mark_consistent(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        check(unsafe { (self.functions.mark_consistent)(self.handle) })
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_rwlock_info, Status> {
        // SAFETY: it consists of integers, for which zero is a value.
        let mut out: shmkit_rwlock_info = unsafe { std::mem::zeroed() };
        out.struct_size = size_of::<shmkit_rwlock_info>() as u32;
        // SAFETY: as in `acquire_read`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

impl Library {
    /// Calls each function of readers-writer locks once.
    pub fn warm_up_rwlocks(&self, segment: Segment) -> Result<(), Status> {
        RwLock::create(self, segment, WARM_UP, 2)?.close()?;
        let lock = RwLock::open(self, segment, WARM_UP)?;
        for _ in 0..2 {
            lock.acquire_read(FOREVER)?;
            lock.release_read()?;
        }
        lock.acquire_read(FOREVER)?;
        assert_eq!(
            lock.acquire_write(1),
            Err(TIMEOUT),
            "it is held for reading"
        );
        lock.upgrade(FOREVER)?;
        assert_eq!(lock.acquire_read(1), Err(TIMEOUT), "it is held for writing");
        lock.downgrade()?;
        lock.release_read()?;
        lock.acquire_write(NOWAIT)?;
        lock.mark_consistent()?;
        lock.stat()?;
        lock.release_write()?;
        lock.close()
    }
}
