//! Both kinds of lock through the C interface: bad pointers, bad structs, handles that are closed or of another kind.

use super::common::Name;
use super::*;
use shmkit::capi::lock::*;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::rlock::*;
use shmkit::capi::wait::{SHMKIT_FOREVER, SHMKIT_NOWAIT};

type ByName<H> =
    unsafe extern "C" fn(*const c_char, *const shmkit_object_options, *mut *mut H) -> shmkit_status;
type AtOffset<H> = unsafe extern "C" fn(
    *const shmkit_segment,
    u64,
    *const shmkit_object_options,
    *mut *mut H,
) -> shmkit_status;
type OfLock<H> = unsafe extern "C" fn(*mut H) -> shmkit_status;

/// The functions of one kind of lock.
pub struct Noun<H: 'static> {
    size: unsafe extern "C" fn(*const shmkit_object_options, *mut u64) -> shmkit_status,
    pub create: ByName<H>,
    open: ByName<H>,
    open_or_create: ByName<H>,
    pub create_at: AtOffset<H>,
    open_at: AtOffset<H>,
    open_fd:
        unsafe extern "C" fn(i32, u64, *const shmkit_object_options, *mut *mut H) -> shmkit_status,
    fd: unsafe extern "C" fn(*const H, *mut i32, *mut u64) -> shmkit_status,
    segment: unsafe extern "C" fn(*const H, *mut *mut shmkit_segment) -> shmkit_status,
    pub acquire: unsafe extern "C" fn(*mut H, i64, u32, *mut u32) -> shmkit_status,
    pub release: OfLock<H>,
    mark_consistent: OfLock<H>,
    stat: unsafe extern "C" fn(*const H, *mut shmkit_lock_info) -> shmkit_status,
    unlink: OfLock<H>,
    pub close: OfLock<H>,
}

pub const LOCK: Noun<shmkit_lock> = Noun {
    size: shmkit_lock_size,
    create: shmkit_lock_create,
    open: shmkit_lock_open,
    open_or_create: shmkit_lock_open_or_create,
    create_at: shmkit_lock_create_at,
    open_at: shmkit_lock_open_at,
    open_fd: shmkit_lock_open_fd,
    fd: shmkit_lock_fd,
    segment: shmkit_lock_segment,
    acquire: shmkit_lock_acquire,
    release: shmkit_lock_release,
    mark_consistent: shmkit_lock_mark_consistent,
    stat: shmkit_lock_stat,
    unlink: shmkit_lock_unlink,
    close: shmkit_lock_close,
};

pub const RLOCK: Noun<shmkit_rlock> = Noun {
    size: shmkit_rlock_size,
    create: shmkit_rlock_create,
    open: shmkit_rlock_open,
    open_or_create: shmkit_rlock_open_or_create,
    create_at: shmkit_rlock_create_at,
    open_at: shmkit_rlock_open_at,
    open_fd: shmkit_rlock_open_fd,
    fd: shmkit_rlock_fd,
    segment: shmkit_rlock_segment,
    acquire: shmkit_rlock_acquire,
    release: shmkit_rlock_release,
    mark_consistent: shmkit_rlock_mark_consistent,
    stat: shmkit_rlock_stat,
    unlink: shmkit_rlock_unlink,
    close: shmkit_rlock_close,
};

fn lock_info() -> shmkit_lock_info {
    // SAFETY: it contains only integers, for which zeros are valid.
    let mut info: shmkit_lock_info = unsafe { std::mem::zeroed() };
    info.struct_size = size_of::<shmkit_lock_info>() as u32;
    info.acquisitions = UNTOUCHED;
    info
}

/// Creates a managed segment.
pub fn managed(size: u64) -> Handle {
    let mut out = null_mut();
    let given = shmkit_segment_options {
        flags: SHMKIT_SEGMENT_MANAGED,
        ..options()
    };
    // SAFETY: no name, options, and an output that can be written.
    let status = unsafe { shmkit_segment_create(null(), size, &given, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    Handle(out)
}

/// A function with all arguments bound but the lock's handle.
type Function<H> = Box<dyn Fn(*mut H) -> shmkit_status>;

impl<H> Noun<H> {
    /// Creates an unnamed object.
    pub fn unnamed(&self) -> *mut H {
        let mut out = null_mut();
        // SAFETY: no name, no options, and an output that can be written.
        let status = unsafe { (self.create)(null(), null(), &raw mut out) };
        assert_eq!(status, SHMKIT_OK, "{}", last_text());
        out
    }

    /// All functions that take a handle first; their outputs must be untouched on failure.
    fn functions(&self) -> Vec<(&'static str, Function<H>)> {
        let untouched = |status, is: bool| {
            assert!(
                status == SHMKIT_OK || is,
                "the output was written on failure"
            );
            status
        };
        let (acquire, stat, fd, segment) = (self.acquire, self.stat, self.fd, self.segment);
        let of_lock = |function: OfLock<H>| -> Function<H> {
            // SAFETY: the caller passes what the function promises to recognize.
            Box::new(move |lock| unsafe { function(lock) })
        };
        vec![
            (
                "acquire",
                Box::new(move |lock| {
                    let mut out = 77;
                    // SAFETY: as above, and an output that can be written.
                    let status = unsafe { acquire(lock, SHMKIT_NOWAIT, 0, &raw mut out) };
                    untouched(status, out == 77)
                }),
            ),
            ("mark_consistent", of_lock(self.mark_consistent)),
            ("release", of_lock(self.release)),
            (
                "stat",
                Box::new(move |lock| {
                    let mut out = lock_info();
                    // SAFETY: as above.
                    let status = unsafe { stat(lock, &raw mut out) };
                    untouched(status, out.acquisitions == UNTOUCHED)
                }),
            ),
            (
                "fd",
                Box::new(move |lock| {
                    let (mut out, mut offset) = (-77, UNTOUCHED);
                    // SAFETY: as above.
                    let status = unsafe { fd(lock, &raw mut out, &raw mut offset) };
                    untouched(status, (out, offset) == (-77, UNTOUCHED))
                }),
            ),
            (
                "segment",
                Box::new(move |lock| {
                    let mut out = UNTOUCHED as *mut shmkit_segment;
                    // SAFETY: as above.
                    let status = unsafe { segment(lock, &raw mut out) };
                    if status == SHMKIT_OK {
                        drop(Handle(out));
                    }
                    untouched(status, out as u64 == UNTOUCHED)
                }),
            ),
            ("unlink", of_lock(self.unlink)),
            ("close", of_lock(self.close)),
        ]
    }

    /// Calls each function that returns a handle, with these options and this place for it.
    fn makers(
        &self,
        given: *const shmkit_object_options,
        out: *mut *mut H,
    ) -> Vec<(&'static str, shmkit_status)> {
        let (segment, name, whole) = (managed(4096), Name::new(), self.unnamed());
        let (mut fd, mut offset) = (-1, 0);
        // SAFETY: a handle, and outputs that can be written.
        let status = unsafe { (self.fd)(whole, &raw mut fd, &raw mut offset) };
        assert_eq!(status, SHMKIT_OK);
        let mut results = Vec::new();
        for (what, function) in [
            ("create", self.create),
            ("open", self.open),
            ("open_or_create", self.open_or_create),
        ] {
            // SAFETY: a name; options and a place that the function promises to check.
            results.push((what, unsafe { function(name.as_ptr(), given, out) }));
        }
        for (what, function) in [("create_at", self.create_at), ("open_at", self.open_at)] {
            // SAFETY: a handle, and the rest as above.
            results.push((what, unsafe { function(segment.0, 0, given, out) }));
        }
        // SAFETY: a descriptor, and the rest as above.
        let status = unsafe { (self.open_fd)(fd, offset, given, out) };
        results.push(("open_fd", status));
        // SAFETY: a handle that nothing else uses.
        assert_eq!(unsafe { (self.close)(whole) }, SHMKIT_OK);
        results
    }
}

/// Returns an address that is aligned only for bytes.
fn misaligned<T>(place: &mut [u64; 16]) -> *mut T {
    (&raw mut *place).cast::<u8>().wrapping_add(1).cast()
}

/// Tests one kind of lock; `other` is a handle of another kind.
fn handles<H>(noun: &Noun<H>, other: *mut c_void) {
    let mut block = [UNTOUCHED; 16];
    let segment = managed(64);
    for (name, function) in noun.functions() {
        if name == "close" {
            assert_eq!(function(null_mut()), SHMKIT_OK);
        } else {
            assert_eq!(function(null_mut()), SHMKIT_ERR_INVALID, "{name}");
            assert!(last_text().contains("NULL"), "{name}: {}", last_text());
        }
        assert_eq!(
            function(misaligned(&mut block)),
            SHMKIT_ERR_INVALID,
            "{name}"
        );
        for wrong in [segment.0.cast(), other, (&raw mut block).cast()] {
            assert_eq!(function(wrong.cast()), SHMKIT_ERR_WRONG_KIND, "{name}");
        }
    }
    assert_eq!(block, [UNTOUCHED; 16]);
    let lock = noun.unnamed();
    for (name, function) in noun.functions() {
        let expected = match name {
            "unlink" => SHMKIT_ERR_INVALID,
            _ => SHMKIT_OK,
        };
        assert_eq!(function(lock), expected, "{name}: {}", last_text());
    }
    for (name, function) in noun.functions() {
        assert_eq!(function(lock), SHMKIT_ERR_CLOSED, "{name}");
    }
    // Another thread closes the handle before this one uses it.
    let (lock, close) = (noun.unnamed(), noun.close);
    let address = lock as usize;
    std::thread::scope(|scope| {
        // SAFETY: a handle that nothing else uses meanwhile.
        let closing = scope.spawn(move || unsafe { close(address as *mut H) });
        assert_eq!(closing.join().unwrap(), SHMKIT_OK);
    });
    for (name, function) in noun.functions() {
        assert_eq!(function(lock), SHMKIT_ERR_CLOSED, "{name}");
    }
}

#[test]
fn invalid_handles_are_recognized_by_every_function() {
    let (lock, rlock) = (LOCK.unnamed(), RLOCK.unnamed());
    handles(&LOCK, rlock.cast());
    handles(&RLOCK, lock.cast());
    let mut depth = UNTOUCHED;
    for wrong in [lock.cast(), managed(64).0.cast()] {
        // SAFETY: a handle of another kind, which the function promises to recognize.
        let status = unsafe { shmkit_rlock_depth(wrong, &raw mut depth) };
        assert_eq!((status, depth), (SHMKIT_ERR_WRONG_KIND, UNTOUCHED));
    }
    for (name, function) in functions_of_a_handle() {
        assert_eq!(function(lock.cast()), SHMKIT_ERR_WRONG_KIND, "{name}");
    }
    // SAFETY: handles that nothing else uses.
    assert_eq!(unsafe { shmkit_lock_close(lock) }, SHMKIT_OK);
    // SAFETY: as above.
    assert_eq!(unsafe { shmkit_rlock_close(rlock) }, SHMKIT_OK);
    // SAFETY: a closed handle, which the function promises to recognize.
    let status = unsafe { shmkit_rlock_depth(rlock, &raw mut depth) };
    assert_eq!((status, depth), (SHMKIT_ERR_CLOSED, UNTOUCHED));
}

fn outputs<H>(noun: &Noun<H>) {
    let (lock, mut block) = (noun.unnamed(), [UNTOUCHED; 16]);
    let (mut fd, mut offset) = (-77, UNTOUCHED);
    for bad in [null_mut(), misaligned::<c_void>(&mut block)] {
        // SAFETY: a handle, and outputs that the function promises to check.
        let status = unsafe { (noun.fd)(lock, bad.cast(), &raw mut offset) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { (noun.fd)(lock, &raw mut fd, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { (noun.stat)(lock, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { (noun.size)(null(), bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        for (name, status) in noun.makers(null(), bad.cast()) {
            assert_eq!(status, SHMKIT_ERR_INVALID, "{name}");
        }
    }
    let wrong = misaligned::<u32>(&mut block);
    // SAFETY: as above.
    let status = unsafe { (noun.acquire)(lock, SHMKIT_NOWAIT, 0, wrong) };
    assert_eq!(status, SHMKIT_ERR_INVALID);
    let mut info = lock_info();
    // SAFETY: as above.
    assert_eq!(unsafe { (noun.stat)(lock, &raw mut info) }, SHMKIT_OK);
    assert_eq!(
        (info.acquisitions, info.flags),
        (0, 0),
        "the lock was acquired"
    );
    // The output may be NULL.
    // SAFETY: a handle.
    let status = unsafe { (noun.acquire)(lock, SHMKIT_FOREVER, 0, null_mut()) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!((fd, offset, block), (-77, UNTOUCHED, [UNTOUCHED; 16]));
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { (noun.close)(lock) }, SHMKIT_OK);
}

#[test]
fn null_and_misaligned_outputs_are_invalid() {
    outputs(&LOCK);
    outputs(&RLOCK);
    let mut block = [UNTOUCHED; 16];
    let (rlock, segment) = (RLOCK.unnamed(), managed(64));
    for bad in [null_mut(), misaligned::<c_void>(&mut block)] {
        // SAFETY: a handle, and an output that the function promises to check.
        let status = unsafe { shmkit_rlock_depth(rlock, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
        // SAFETY: as above.
        let status = unsafe { shmkit_segment_lock(segment.0, bad.cast()) };
        assert_eq!(status, SHMKIT_ERR_INVALID);
    }
    assert_eq!(block, [UNTOUCHED; 16]);
    // SAFETY: a handle that nothing else uses.
    assert_eq!(unsafe { shmkit_rlock_close(rlock) }, SHMKIT_OK);
}
