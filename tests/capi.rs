//! The C functions, called as from C: bad pointers, bad structs, bad handles, and every status.
//!
//! | module      | what is tested                                                              |
//! |-------------|-----------------------------------------------------------------------------|
//! | `pointer`   | NULL and misaligned pointers everywhere; outputs are untouched on failure    |
//! | `object`    | the life cycle of every noun: handles, outputs, names, structs               |
//! | `lock`      | the same for locks of either kind                                           |
//! | `semaphore` | the same for semaphores                                                     |
//! | `queue`     | the same for queues                                                         |
//! | `rwlock`    | a second reader that upgrades                                               |
//! | `handle`    | closed handles, and memory that is no handle                                 |
//! | `structure` | structs of older and newer callers, unknown flags and fields                 |
//! | `status`    | every status is provoked; texts; the last error of each thread; versions     |
//! | `call`      | what the functions return on success                                         |

#[macro_use]
mod common;

#[path = "capi/call.rs"]
mod call;
#[path = "capi/handle.rs"]
mod handle;
#[path = "capi/lock.rs"]
mod lock;
#[path = "capi/object.rs"]
mod object;
#[path = "capi/pointer.rs"]
mod pointer;
#[path = "capi/queue.rs"]
mod queue;
#[path = "capi/rwlock.rs"]
mod rwlock;
#[path = "capi/semaphore.rs"]
mod semaphore;
#[path = "capi/status.rs"]
mod status;
#[path = "capi/structure.rs"]
mod structure;

use shmkit::capi::limits::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

/// The content of an output before a call, which shows whether the call has written to it.
const UNTOUCHED: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// A handle as in C; dropping it closes it if it is still open.
struct Handle(*mut shmkit_segment);

impl Handle {
    /// Creates an anonymous segment.
    fn anonymous(size: u64) -> Handle {
        let mut out = null_mut();
        // SAFETY: no name, no options, and an output that can be written.
        let status = unsafe { shmkit_segment_create(null(), size, null(), &raw mut out) };
        assert_eq!(status, SHMKIT_OK, "{}", last_text());
        Handle(out)
    }

    /// Closes it.
    fn close(&self) -> shmkit_status {
        // SAFETY: a handle that may be closed, but was not closed long ago; nothing else uses it.
        unsafe { shmkit_segment_close(self.0) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns options as in C: all zeros but their size.
fn options() -> shmkit_segment_options {
    shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags: 0,
        capacity: 0,
        mode: 0,
        participants: 0,
        directory: null(),
    }
}

/// Returns a struct for the result of stat.
fn info() -> shmkit_segment_info {
    shmkit_segment_info {
        struct_size: size_of::<shmkit_segment_info>() as u32,
        flags: 0,
        size: UNTOUCHED,
        capacity: UNTOUCHED,
        allocated: UNTOUCHED,
        device: UNTOUCHED,
        inode: UNTOUCHED,
        links: UNTOUCHED,
        user: 0,
        mode: 0,
        id: 0,
        control_bytes: 0,
        participants: 0,
        reserved: 0,
    }
}

/// Returns a struct for the result of limits.
fn limits_info() -> shmkit_limits_info {
    // SAFETY: it contains only integers, for which zeros are valid.
    let mut info: shmkit_limits_info = unsafe { std::mem::zeroed() };
    info.struct_size = size_of::<shmkit_limits_info>() as u32;
    info.largest_named = UNTOUCHED;
    info
}

/// Returns the last error of this thread: status, errno, text.
fn last_error() -> (shmkit_status, i32, String) {
    let (mut code, mut errno, mut text) = (1, -1, null());
    // SAFETY: three outputs that can be written.
    let status = unsafe { shmkit_last_error(&raw mut code, &raw mut errno, &raw mut text) };
    assert_eq!(status, SHMKIT_OK);
    (code, errno, text_at(text))
}

fn last_text() -> String {
    last_error().2
}

/// Copies a text that the library has returned.
fn text_at(text: *const c_char) -> String {
    assert!(!text.is_null());
    // SAFETY: the texts of the library end with a NUL byte.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().expect("UTF-8").to_owned()
}

/// A function with all arguments bound but the handle.
type OfHandle = fn(*mut shmkit_segment) -> shmkit_status;

/// All functions that take a handle first, with outputs that can be written.
fn functions_of_a_handle() -> Vec<(&'static str, OfHandle)> {
    /// Calls a function with a handle and an output of this type, which must be untouched on failure.
    macro_rules! asking {
        ($function:ident, $before:expr, $same:expr) => {
            (stringify!($function), |handle| {
                let mut out = $before;
                // SAFETY: the caller passes what the function promises to recognize; the output can be written.
                let status = unsafe { $function(handle, &raw mut out) };
                if status != SHMKIT_OK {
                    assert!($same(&out), "{} wrote its output on failure", stringify!($function));
                }
                status
            })
        };
    }
    vec![
        asking!(
            shmkit_segment_data,
            UNTOUCHED as *mut c_void,
            |out: &*mut c_void| *out as u64 == UNTOUCHED
        ),
        asking!(shmkit_segment_size, UNTOUCHED, |out: &u64| *out
            == UNTOUCHED),
        asking!(shmkit_segment_capacity, UNTOUCHED, |out: &u64| *out
            == UNTOUCHED),
        asking!(shmkit_segment_fd, -77, |out: &i32| *out == -77),
        asking!(
            shmkit_segment_name,
            UNTOUCHED as *const c_char,
            |out: &*const c_char| *out as u64 == UNTOUCHED
        ),
        asking!(
            shmkit_segment_directory,
            UNTOUCHED as *const c_char,
            |out: &*const c_char| *out as u64 == UNTOUCHED
        ),
        asking!(shmkit_segment_huge, UNTOUCHED, |out: &u64| *out
            == UNTOUCHED),
        asking!(shmkit_segment_stat, info(), |out: &shmkit_segment_info| out
            .size
            == UNTOUCHED),
        ("shmkit_segment_resize", |handle| {
            // SAFETY: the caller passes what the function promises to recognize.
            unsafe { shmkit_segment_resize(handle, 4096, 0) }
        }),
        ("shmkit_segment_unlink", |handle| {
            // SAFETY: as above.
            unsafe { shmkit_segment_unlink(handle) }
        }),
        ("shmkit_segment_close", |handle| {
            // SAFETY: as above; nothing else uses it.
            unsafe { shmkit_segment_close(handle) }
        }),
    ]
}

/// All functions that return a handle, as functions of the options and the place for the handle.
type Maker = Box<dyn Fn(*const shmkit_segment_options, *mut *mut shmkit_segment) -> shmkit_status>;

fn makers(name: &CStr, fd: i32) -> Vec<(&'static str, Maker)> {
    /// Wraps a function that takes a name and a size.
    fn by_name(
        name: &CStr,
        function: unsafe extern "C" fn(
            *const c_char,
            u64,
            *const shmkit_segment_options,
            *mut *mut shmkit_segment,
        ) -> shmkit_status,
    ) -> Maker {
        let name: CString = name.to_owned();
        // SAFETY: a name; the caller passes options and a place that the function promises to check.
        Box::new(move |options, out| unsafe { function(name.as_ptr(), 4096, options, out) })
    }
    vec![
        (
            "shmkit_segment_create",
            by_name(name, shmkit_segment_create),
        ),
        ("shmkit_segment_open", by_name(name, shmkit_segment_open)),
        (
            "shmkit_segment_open_or_create",
            by_name(name, shmkit_segment_open_or_create),
        ),
        (
            "shmkit_segment_open_fd",
            // SAFETY: as above, with a descriptor, which may be any number.
            Box::new(move |options, out| unsafe { shmkit_segment_open_fd(fd, 4096, options, out) }),
        ),
    ]
}
