//! Handles: the pointers of C programs. A closed handle, or one of another kind, is recognised and not dereferenced.
//!
//! | tag          | means                    | goes to       |
//! |--------------|--------------------------|---------------|
//! | `OPEN \| kind` | the value may be used    | `CLOSED`, by the one close that wins |
//! | `CLOSED`     | the value has been dropped | freed once `CLOSED_HANDLE_CACHE` more handles have been closed |

use crate::error::{Error, Result};
use crate::layout::Kind;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Numbers that are unlikely to be in memory by chance.
const OPEN: u32 = 0x5ea1_ab00;
const CLOSED: u32 = 0xdead_5ea1;

/// The number of closed handles that are still recognised.
const CLOSED_HANDLE_CACHE: usize = 1024;

/// What handles of all kinds begin with.
#[repr(C)]
struct Head {
    tag: AtomicU32,
    /// Frees the handle, which has no value any more.
    free: unsafe fn(*mut Head),
}

/// A value behind a pointer that C holds.
#[repr(C)]
pub struct Handle<T> {
    head: Head,
    value: UnsafeCell<Option<T>>,
}

/// A type that a handle can contain. The tag of a handle contains its kind.
pub trait Opaque: Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;
}

/// The last closed handles, without their values. No lock guards them: a child may be forked during a close.
static CLOSED_HANDLES: [AtomicPtr<Head>; CLOSED_HANDLE_CACHE] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; CLOSED_HANDLE_CACHE];
/// The number of handles that were ever closed.
static CLOSES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: only `borrow`, `peek` and `close` reach the value. It is Send, and shared only if it is Sync.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T: Opaque> Handle<T> {
    const TAG: u32 = OPEN | T::KIND as u32;

    /// Moves a value behind a pointer.
    pub fn open(value: T) -> *mut Handle<T> {
        Box::into_raw(Box::new(Handle {
            head: Head {
                tag: AtomicU32::new(Self::TAG),
                free: Self::free,
            },
            value: UnsafeCell::new(Some(value)),
        }))
    }

    /// Frees a handle without a value.
    ///
    /// # Safety
    /// `open` of this type must have returned it, and nothing uses it any more.
    unsafe fn free(head: *mut Head) {
        // SAFETY: it is a Handle<T> from `open`, whose head is its first field (the caller guarantees it).
        drop(unsafe { Box::from_raw(head.cast::<Handle<T>>()) });
    }

    fn check(tag: u32) -> Result<()> {
        match tag {
            _ if tag == Self::TAG => Ok(()),
            CLOSED => Err(Error::Closed("the handle was closed".into())),
            _ => {
                let wanted = T::KIND.article();
                let found = Kind::of(tag & !OPEN).filter(|kind| tag == OPEN | *kind as u32);
                let text = match found {
                    Some(found) => format!(
                        "the handle is that of {}, but must be that of {wanted}",
                        found.article()
                    ),
                    None => format!("the pointer must be a handle of {wanted}"),
                };
                Err(Error::WrongKind(text.into()))
            }
        }
    }

    /// Returns the value behind a handle.
    ///
    /// # Safety
    /// If `handle` is not NULL and aligned, `open` of any `T` must have returned it. If it was closed, at most
    /// `CLOSED_HANDLE_CACHE` handles may have been closed since. No other thread may close it meanwhile.
    pub unsafe fn borrow<'a>(handle: *const Handle<T>) -> Result<&'a T> {
        super::check_pointer(handle, "the handle")?;
        // SAFETY: not NULL and aligned (checked above), and not yet freed (the caller guarantees it). Only the tag is read,
        // which is at the same offset in handles of all kinds.
        let tag = unsafe { &(*handle).head.tag };
        // PAIRS handle.close: after CLOSED was read, the value is not read.
        Self::check(tag.load(Ordering::Acquire))?;
        // SAFETY: the tag proves that this is a Handle<T> with a value; no thread closes it meanwhile (# Safety).
        let value = unsafe { &(*handle).value };
        // SAFETY: only `close` writes to it, and no thread calls that meanwhile (the caller guarantees it).
        let value = unsafe { &*value.get() };
        value
            .as_ref()
            .ok_or(Error::Closed("the handle was closed".into()))
    }

    /// Returns what `borrow` does, or `None` instead of an error, for the fast path.
    ///
    /// # Safety
    /// As for `borrow`.
    #[inline(always)]
    pub unsafe fn peek<'a>(handle: *const Handle<T>) -> Option<&'a T> {
        if handle.is_null() || !handle.is_aligned() {
            return None;
        }
        // SAFETY: as in `borrow`.
        let tag = unsafe { &(*handle).head.tag };
        // PAIRS handle.close
        if tag.load(Ordering::Acquire) != Self::TAG {
            return None;
        }
        // SAFETY: as in `borrow`.
        let value = unsafe { &(*handle).value };
        // SAFETY: as in `borrow`.
        let value = unsafe { &*value.get() };
        // SAFETY: the handle has a value from `open` until `close` changes the tag, which is unchanged.
        Some(unsafe { value.as_ref().unwrap_unchecked() })
    }

    /// Drops the value behind a handle, once. NULL is accepted.
    ///
    /// # Safety
    /// As for `borrow`; and no other thread may use the value.
    pub unsafe fn close(handle: *mut Handle<T>) -> Result<()> {
        if handle.is_null() {
            return Ok(());
        }
        super::check_pointer(handle, "the handle")?;
        // SAFETY: as in `borrow`.
        let tag = unsafe { &(*handle).head.tag };
        // PAIRS handle.close: the thread that wins here is the only one with the value.
        let closed = tag.compare_exchange(Self::TAG, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        closed.map(drop).or_else(Self::check)?;
        // SAFETY: the exchange above succeeded, so this is a Handle<T> from `open`, and no other close drops its value.
        let value = unsafe { &(*handle).value };
        // SAFETY: as above; callers that see CLOSED do not read the value.
        drop(unsafe { (*value.get()).take() });
        let at = CLOSES.fetch_add(1, Ordering::Relaxed) % CLOSED_HANDLE_CACHE;
        // PAIRS handle.closed: the thread that frees the handle later has seen the drop above.
        let oldest = CLOSED_HANDLES[at].swap(handle.cast(), Ordering::AcqRel);
        if !oldest.is_null() {
            // SAFETY: a closed handle, which was in the list until this exchange.
            let free = unsafe { (*oldest).free };
            // SAFETY: the handle is of the type that stored `free`, and no program may use it any more.
            unsafe { free(oldest) };
        }
        Ok(())
    }
}
