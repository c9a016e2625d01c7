//! Says what went wrong: one variant per reason, one fixed number per variant.
//!
//! The numbers are the C ABI's status codes; they are never changed and never used again.

use std::borrow::Cow;
use std::fmt;

/// Tells what an operation was refused for: a sentence, and the kernel's `errno` where the kernel refused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What happened, to what, and with which figures.
    pub text: Cow<'static, str>,
    /// The `errno` of the system call that failed; 0 where none did.
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
        /// Names the reason for which an operation was refused.
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

            /// Returns a short sentence for a status number: `None` for a number that means nothing.
            pub fn sentence(code: i32) -> Option<&'static std::ffi::CStr> {
                match code { $($code => Some($sentence),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// An argument cannot be meant: NULL, a size of zero, a name with a slash inside.
    Invalid = -1, c"invalid argument";
    /// The handle has been closed.
    Closed = -2, c"the handle is closed";
    /// Something else stands here: another kind of handle, of object or of file.
    WrongKind = -3, c"another kind of thing stands here";
    /// Nothing has this name (any more).
    NotFound = -4, c"no such name";
    /// The name is taken.
    Exists = -5, c"the name exists already";
    /// The kernel does not permit it to this user.
    Permission = -6, c"permission denied";
    /// It could be done, but what is found belongs to somebody else or could be pulled away.
    Untrusted = -7, c"not to be trusted: another owner, a symbolic link, or no seal";
    /// The memory is not there: file system, cgroup, machine or file size limit.
    NoSpace = -8, c"not enough space for the bytes asked for";
    /// The process cannot have it: address space, locked memory, heap.
    NoMemory = -9, c"not enough memory or address space in this process";
    /// The time was up.
    Timeout = -10, c"timed out";
    /// It would have had to wait, and was told not to.
    WouldBlock = -11, c"would have to wait";
    /// The interrupt hook asked for an end of the wait.
    Interrupted = -12, c"interrupted by the interrupt hook";
    /// The caller does not hold what it wants to give back.
    NotOwner = -13, c"not the owner";
    /// A counter would go past its end.
    Overflow = -14, c"a counter would overflow";
    /// The barrier is broken.
    Broken = -15, c"the barrier is broken";
    /// The queue is empty.
    Empty = -16, c"the queue is empty";
    /// The queue is full.
    Full = -17, c"the queue is full";
    /// It is larger than what this object can ever hold.
    TooLarge = -18, c"larger than this object can ever hold";
    /// The table of participants, or all places of one object, are full of living processes.
    TooManyProcesses = -19, c"the table of participants is full";
    /// This process can no longer ask who is alive.
    LivenessUnknown = -20, c"this process is detached and cannot ask who is alive";
    /// The shared bytes contradict themselves or what the file allows.
    Corrupt = -21, c"the shared bytes are corrupt";
    /// Another major version of the layout or of the library.
    VersionMismatch = -22, c"another, incompatible version";
    /// This kernel or file system cannot do it.
    Unsupported = -23, c"not supported by this kernel or file system";
    /// Another error of the kernel: see its errno.
    System = -24, c"a system call failed";
    /// A defect of this library: a panic was caught at the border.
    Internal = -25, c"internal error in shmkit: please report it";
    /// It would wait for what waits for the caller.
    Deadlock = -26, c"it would wait for ever: a deadlock";
    /// The queue was shut down: nothing more is put, and nothing is left to get.
    ShutDown = -27, c"the queue is shut down";
}

/// What every fallible function here returns.
pub type Result<T> = std::result::Result<T, Error>;
