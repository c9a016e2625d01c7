//! Errors: one variant per reason, with one fixed number per variant.
//!
//! The numbers are the status codes of the C ABI. A number never changes and is never used again.

use std::borrow::Cow;
use std::fmt;

/// The details of an error: a sentence, and the kernel's `errno` if a system call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The object, the fault with its figures, and the remedy.
    pub text: Cow<'static, str>,
    /// The `errno` of the system call that failed; 0 if none failed.
    pub errno: i32,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&'static str> for Cause {
    fn from(text: &'static str) -> Self {
        Cause {
            text: Cow::Borrowed(text),
            errno: 0,
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Cause {
            text: Cow::Owned(text),
            errno: 0,
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $sentence:literal;)+) => {
        /// The reason why an operation failed.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum Error {
            $($(#[doc = $doc])+ #[error("{0}")] $variant(Cause),)+
        }

        impl Error {
            /// Returns the fixed status number of this reason, always negative.
            pub fn code(&self) -> i32 {
                match self { $(Error::$variant(_) => $code,)+ }
            }

            /// Returns the sentence and the `errno` that belong to this error.
            pub fn cause(&self) -> &Cause {
                match self { $(Error::$variant(cause) => cause,)+ }
            }

            /// Returns a short sentence for a status number, or `None` if no status has this number.
            pub fn sentence(code: i32) -> Option<&'static std::ffi::CStr> {
                match code { $($code => Some($sentence),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// An argument is not valid, for example a NULL pointer, a size of 0 or a name with a slash inside.
    Invalid = -1, c"an argument is not valid";
    /// The handle was closed.
    Closed = -2, c"the handle was closed";
    /// The handle, the object or the file is of another kind.
    WrongKind = -3, c"the handle, the object or the file is of another kind";
    /// The name, the directory or the object does not exist, or no longer exists.
    NotFound = -4, c"the name, the directory or the object does not exist";
    /// The name is taken, or the object exists.
    Exists = -5, c"the name is taken, or the object exists";
    /// The kernel does not permit this user the operation, or the handle is read-only.
    Permission = -6, c"permission denied, or the handle is read-only";
    /// The file belongs to another user, is a symbolic link, or could be truncated.
    Untrusted = -7, c"not trusted: the file of another user, a symbolic link, or a file without seals";
    /// Not enough memory in the file system, the cgroup or the machine, or more than the file size limit.
    NoSpace = -8, c"not enough memory in the file system, the cgroup or the machine";
    /// This process has not enough address space, lockable memory or heap.
    NoMemory = -9, c"not enough address space, lockable memory or heap in this process";
    /// The timeout expired.
    Timeout = -10, c"timed out";
    /// The operation would have to wait, and the caller does not allow that.
    WouldBlock = -11, c"the call would have to wait";
    /// The interrupt hook ended the wait.
    Interrupted = -12, c"interrupted by the interrupt hook";
    /// The caller does not hold what the operation would release or change.
    NotOwner = -13, c"the caller does not hold the object";
    /// A counter would exceed its maximum.
    Overflow = -14, c"a counter would exceed its maximum";
    /// The barrier is broken.
    Broken = -15, c"the barrier is broken";
    /// The queue is empty.
    Empty = -16, c"the queue is empty";
    /// The queue is full.
    Full = -17, c"the queue is full";
    /// The size is larger than this object, a file or the caller's buffer can hold.
    TooLarge = -18, c"larger than this object, a file or the caller's buffer can hold";
    /// Live processes occupy all participant slots of the segment, or all count slots of the object.
    TooManyProcesses = -19, c"no room for another process: increase the participants or the count slots";
    /// This process can no longer find out which processes are alive.
    LivenessUnknown = -20, c"this process can no longer find out which processes are alive";
    /// The shared bytes contradict each other or the size of the file.
    Corrupt = -21, c"the shared bytes are corrupt";
    /// The library or the layout of the segment has another major version.
    VersionMismatch = -22, c"the library or the segment has an incompatible version";
    /// This kernel, file system or version of the library does not support the operation.
    Unsupported = -23, c"not supported by this kernel, file system or version of the library";
    /// Another error of the kernel; the cause has its `errno`.
    System = -24, c"a system call failed";
    /// A defect of this library, for example a panic that was caught at the C ABI.
    Internal = -25, c"internal error in shmkit: please report it";
    /// The call would wait forever: what it waits for is waiting for the caller.
    Deadlock = -26, c"deadlock: the call would wait forever";
    /// The queue was shut down: no message is put any more, and none is left to get.
    ShutDown = -27, c"the queue was shut down";
    /// The process was forked during the call, and this is the child. The call continues in the parent only.
    Forked = -28, c"forked during the call: the call goes on in the parent only";
    /// Another process keeps a read lock on a byte of the file: it may only read the file, and keeps this process out.
    ReadLocked = -29, c"a process that may only read the file keeps a lock on it";
}

/// The result of every function that can fail.
pub type Result<T> = std::result::Result<T, Error>;
