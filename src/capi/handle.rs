//! Handles: what C holds by pointer. A closed handle, or one of another kind, is recognised instead of followed.
//!
//! | tag          | means                    | goes to       |
//! |--------------|--------------------------|---------------|
//! | `OPEN \| kind` | the value may be used    | CLOSED, by the one close that wins |
//! | `CLOSED`     | the value has been dropped | freed once `CLOSED_HANDLE_CACHE` more handles have been closed |

use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::sys::fork::{ForkLock, ForkLocked};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers that hardly stand in memory by chance.
const OPEN: u32 = 0x5ea1_ab00;
const CLOSED: u32 = 0xdead_5ea1;

/// How many closed handles are still recognised as such.
const CLOSED_HANDLE_CACHE: usize = 1024;

/// A value behind a pointer that C holds; the tag comes first in every kind of handle.
#[repr(C)]
pub struct Handle<T> {
    tag: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

/// Names the kind of a handle, which its tag tells from the others.
pub trait Opaque: Send + Sync + 'static {
    /// What it is.
    const KIND: Kind;
}

/// Inside the fence, or a child forked meanwhile could never close anything.
static CLOSED_HANDLES: ForkLocked<VecDeque<Box<dyn Send>>> = ForkLocked::new(VecDeque::new());

// SAFETY: the value is only reached through `borrow` and `close`; it is Send, and shared only as far as it is Sync.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T: Opaque> Handle<T> {
    const TAG: u32 = OPEN | T::KIND as u32;

    /// Moves a value behind a pointer.
    pub fn open(value: T) -> *mut Handle<T> {
        Box::into_raw(Box::new(Handle {
            tag: AtomicU32::new(Self::TAG),
            value: UnsafeCell::new(Some(value)),
        }))
    }

    fn check(tag: u32) -> Result<()> {
        match tag {
            _ if tag == Self::TAG => Ok(()),
            CLOSED => Err(Error::Closed("the handle has been closed".into())),
            _ => Err(Error::WrongKind(
                format!("this is not a handle of a {:?}", T::KIND).into(),
            )),
        }
    }

    /// Returns the value behind a handle.
    ///
    /// # Safety
    /// Not NULL and aligned, `handle` must have come from `open` of any `T`, no more than `CLOSED_HANDLE_CACHE` handles may have been
    /// closed since it was, and no other thread may close it meanwhile.
    pub unsafe fn borrow<'a>(handle: *const Handle<T>) -> Result<&'a T> {
        super::check_pointer(handle, "the handle")?;
        // SAFETY: not NULL and aligned (checked above), and not yet freed (the caller's promise). Only the tag is
        // looked at, which stands at the same place in a handle of any kind.
        let tag = unsafe { &(*handle).tag };
        // PAIRS handle.close: after CLOSED was read the value is not looked at.
        Self::check(tag.load(Ordering::Acquire))?;
        // SAFETY: the tag says that this is a Handle<T> whose value nobody has taken; nobody closes it meanwhile.
        let value = unsafe { &(*handle).value };
        // SAFETY: only `close` writes to it, which nobody calls meanwhile (the caller's promise).
        let value = unsafe { &*value.get() };
        value
            .as_ref()
            .ok_or(Error::Closed("the handle has been closed".into()))
    }

    /// As `borrow`, where there is no time for reasons.
    ///
    /// # Safety
    /// As `borrow`.
    #[inline(always)]
    pub unsafe fn peek<'a>(handle: *const Handle<T>) -> Option<&'a T> {
        if handle.is_null() || !handle.is_aligned() {
            return None;
        }
        // SAFETY: as in `borrow`.
        let tag = unsafe { &(*handle).tag };
        // PAIRS handle.close
        if tag.load(Ordering::Acquire) != Self::TAG {
            return None;
        }
        // SAFETY: as in `borrow`.
        let value = unsafe { &(*handle).value };
        // SAFETY: as in `borrow`.
        let value = unsafe { &*value.get() };
        // SAFETY: there is one from `open` on until `close` has won the tag, which stands.
        Some(unsafe { value.as_ref().unwrap_unchecked() })
    }

    /// Drops the value behind a handle, once; NULL has none.
    ///
    /// # Safety
    /// As `borrow`; and no other thread may be using the value.
    pub unsafe fn close(handle: *mut Handle<T>) -> Result<()> {
        if handle.is_null() {
            return Ok(());
        }
        super::check_pointer(handle, "the handle")?;
        // SAFETY: as in `borrow`.
        let tag = unsafe { &(*handle).tag };
        // PAIRS handle.close: whoever wins here has the value for itself.
        let closed = tag.compare_exchange(Self::TAG, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        closed.map(drop).or_else(Self::check)?;
        // SAFETY: the exchange above succeeded, so this is a Handle<T> that `open` made and no other close has.
        let mut shell = unsafe { Box::from_raw(handle) };
        drop(shell.value.get_mut().take());
        let mut inside = ForkLock::enter();
        let kept = CLOSED_HANDLES.get(&mut inside);
        kept.push_back(shell);
        if kept.len() > CLOSED_HANDLE_CACHE {
            kept.pop_front();
        }
        Ok(())
    }
}
