//! The recursive lock: a lock whose owner is a thread, which may acquire it several times and releases it as often
//! (PTHREAD_MUTEX_RECURSIVE). Its words are those of the lock (D-021).
//!
//! | word   | token     | depth | means                                                              |
//! |--------|-----------|-------|--------------------------------------------------------------------|
//! | free   | 0         | any   | free                                                               |
//! | me     | 0         | any   | a thread of my process has just acquired it or is about to release |
//! | me     | my thread | n     | my thread holds it n times                                         |
//! | dead … | any       | any   | taken over as any lock; the new owner stores both again            |
//!
//! Only the owner stores token and depth, and it stores token 0 before it releases the word. So a thread that finds its
//! own token with its own id has stored that token itself. If a process dies anywhere, its lock is taken over as any.

use super::lock::RawLock;
use super::wait::SpinState;
use super::{Liveness, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::Ordering;
#[cfg(loom)]
use loom::thread_local;
#[cfg(not(loom))]
use std::thread_local;

/// Returns a number that distinguishes this thread from all others that ever use this segment.
///
/// It is the lower half of the participant's ticket, and a number that no other thread of this process ever had. The
/// second number would be enough for the threads of one process. But after a take-over the word has the new owner's id
/// and still the dead owner's token, until the new owner stores its own.
#[inline(always)]
fn token(me: Id) -> u64 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LAST: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static NUMBER: u32 = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    }
    // The thread-local has no destructor, so a thread that is just ending can read it as well.
    let number = NUMBER.with(|number| *number);
    me.ticket() << 32 | u64::from(number)
}

/// Acquires the lock if it is free and no owner died.
#[inline(always)]
pub fn try_acquire(raw: &RawLock, me: Id) -> bool {
    let taken = raw.try_acquire(me);
    if taken {
        raw.depth.store(1, Ordering::Relaxed);
        raw.token.store(token(me), Ordering::Relaxed);
    }
    taken
}

/// Releases the lock if this thread holds it once, no waiter sleeps and no owner died.
#[inline(always)]
pub fn try_release(raw: &RawLock, me: Id) -> bool {
    if !is_held_by_this_thread(raw, me) || raw.depth.load(Ordering::Relaxed) != 1 {
        return false;
    }
    let token = raw.token.load(Ordering::Relaxed);
    raw.token.store(0, Ordering::Relaxed);
    let given = raw.try_release(me);
    if !given {
        // This thread still holds the lock.
        raw.token.store(token, Ordering::Relaxed);
    }
    given
}

/// Acquires the lock, or acquires it once more; returns as `RawLock::acquire`.
///
/// `Overflow`: this thread holds it 2^64 - 1 times.
pub fn acquire(
    raw: &RawLock,
    me: Id,
    options: WaitOptions,
    spins: &SpinState,
    liveness: &impl Liveness,
) -> Result<bool> {
    if try_acquire(raw, me) {
        return Ok(false);
    }
    if is_held_by_this_thread(raw, me) {
        let depth = raw.depth.load(Ordering::Relaxed);
        let deeper = depth.checked_add(1).ok_or_else(|| {
            Error::Overflow(
                "this thread holds the recursive lock 2^64 - 1 times: release it".into(),
            )
        })?;
        raw.depth.store(deeper, Ordering::Relaxed);
        return Ok(raw.owner_died());
    }
    acquire_all(raw, me, 1, options, spins, liveness)
}

/// Releases the lock once. `NotOwner`: another thread holds it, or none does.
pub fn release(raw: &RawLock, me: Id) -> Result<()> {
    if try_release(raw, me) {
        return Ok(());
    }
    if !is_held_by_this_thread(raw, me) {
        return Err(not_this_thread("release only what it acquired"));
    }
    let depth = raw.depth.load(Ordering::Relaxed);
    if depth > 1 {
        raw.depth.store(depth - 1, Ordering::Relaxed);
        return Ok(());
    }
    raw.token.store(0, Ordering::Relaxed);
    raw.release(me)
}

/// Releases the lock completely; returns how often this thread held it. `NotOwner`: this thread does not hold it.
pub fn release_all(raw: &RawLock, me: Id) -> Result<u64> {
    let depth = depth(raw, me);
    if depth == 0 {
        return Err(not_this_thread("release only what it acquired"));
    }
    raw.token.store(0, Ordering::Relaxed);
    raw.release(me).map(|()| depth)
}

/// Acquires the lock, which this thread does not hold, `depth` times; otherwise as `acquire`.
pub fn acquire_all(
    raw: &RawLock,
    me: Id,
    depth: u64,
    options: WaitOptions,
    spins: &SpinState,
    liveness: &impl Liveness,
) -> Result<bool> {
    let owner_died = raw.acquire(me, options, spins, liveness)?;
    raw.depth.store(depth, Ordering::Relaxed);
    raw.token.store(token(me), Ordering::Relaxed);
    Ok(owner_died)
}

/// Does what `RawLock::mark_consistent` does, for the thread that holds the lock.
pub fn mark_consistent(raw: &RawLock, me: Id) -> Result<()> {
    if !is_held_by_this_thread(raw, me) {
        return Err(not_this_thread("acquire it first"));
    }
    raw.mark_consistent(me)
}

/// Returns how often this thread holds the lock.
pub fn depth(raw: &RawLock, me: Id) -> u64 {
    match is_held_by_this_thread(raw, me) {
        true => raw.depth.load(Ordering::Relaxed),
        false => 0,
    }
}

#[cold]
fn not_this_thread(remedy: &str) -> Error {
    let text = format!("this thread does not hold the recursive lock: {remedy}");
    Error::NotOwner(text.into())
}

#[inline(always)]
fn is_held_by_this_thread(raw: &RawLock, me: Id) -> bool {
    raw.is_held_by(me) && raw.token.load(Ordering::Relaxed) == token(me)
}
