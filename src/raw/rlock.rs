//! The recursive lock: a lock whose owner is a thread, which may take it again and gives it back as often.
//!
//! | word  | token     | depth | means                                                      |
//! |-------|-----------|-------|------------------------------------------------------------|
//! | free  | 0         | any   | free                                                       |
//! | me    | 0         | any   | just taken, or just about to be given back, by some thread |
//! | me    | my thread | n     | held by this thread, n times                               |
//! | dead … | any      | any   | taken over as any lock; the new owner stores both anew     |
//!
//! Token and depth are only stored by the owner; the token is 0 before the word is given back, so a thread that finds
//! its own token under its own id has stored it itself. If a process dies anywhere, its lock is taken over as any.

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

/// Returns what tells this thread from all others that ever use this segment.
///
/// The lower half of the participant's ticket and a number that no other thread of this process ever had. A number
/// alone would do for the threads of one process, but after a take-over the token of the dead one stands there until
/// the new owner stores its own.
#[inline(always)]
fn token(me: Id) -> u64 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LAST: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static NUMBER: u32 = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    }
    // Nothing is dropped with a thread's number, so a thread that is just ending has it as well.
    let number = NUMBER.with(|number| *number);
    me.ticket() << 32 | u64::from(number)
}

/// Takes the lock if it is free and no owner died.
#[inline(always)]
pub fn try_acquire(raw: &RawLock, me: Id) -> bool {
    let taken = raw.try_acquire(me);
    if taken {
        raw.depth.store(1, Ordering::Relaxed);
        raw.token.store(token(me), Ordering::Relaxed);
    }
    taken
}

/// Gives the lock back if this thread holds it once, nobody waits and no owner died.
#[inline(always)]
pub fn try_release(raw: &RawLock, me: Id) -> bool {
    if !is_held_by_this_thread(raw, me) || raw.depth.load(Ordering::Relaxed) != 1 {
        return false;
    }
    let token = raw.token.load(Ordering::Relaxed);
    raw.token.store(0, Ordering::Relaxed);
    let given = raw.try_release(me);
    if !given {
        // It is still ours, and so is the token.
        raw.token.store(token, Ordering::Relaxed);
    }
    given
}

/// Takes the lock, or takes it once more; returns as `RawLock::acquire`.
///
/// `Overflow`: held 2^64 - 1 times.
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
        let deeper = depth
            .checked_add(1)
            .ok_or_else(|| Error::Overflow("the recursive lock is held too often".into()))?;
        raw.depth.store(deeper, Ordering::Relaxed);
        return Ok(raw.owner_died());
    }
    acquire_all(raw, me, 1, options, spins, liveness)
}

/// Gives the lock back once. `NotOwner`: another thread holds it, or nobody.
pub fn release(raw: &RawLock, me: Id) -> Result<()> {
    if try_release(raw, me) {
        return Ok(());
    }
    if !is_held_by_this_thread(raw, me) {
        return Err(not_this_thread());
    }
    let depth = raw.depth.load(Ordering::Relaxed);
    if depth > 1 {
        raw.depth.store(depth - 1, Ordering::Relaxed);
        return Ok(());
    }
    raw.token.store(0, Ordering::Relaxed);
    raw.release(me)
}

/// Gives the lock back wholly; returns how often this thread held it. `NotOwner`: not at all.
pub fn release_all(raw: &RawLock, me: Id) -> Result<u64> {
    let depth = depth(raw, me);
    if depth == 0 {
        return Err(not_this_thread());
    }
    raw.token.store(0, Ordering::Relaxed);
    raw.release(me).map(|()| depth)
}

/// Takes the lock, which this thread does not hold, and holds it `depth` times; otherwise as `acquire`.
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

/// As `RawLock::mark_consistent`, for the thread that holds it.
pub fn mark_consistent(raw: &RawLock, me: Id) -> Result<()> {
    if !is_held_by_this_thread(raw, me) {
        return Err(not_this_thread());
    }
    raw.mark_consistent(me)
}

/// Returns how often this thread holds it.
pub fn depth(raw: &RawLock, me: Id) -> u64 {
    match is_held_by_this_thread(raw, me) {
        true => raw.depth.load(Ordering::Relaxed),
        false => 0,
    }
}

#[cold]
fn not_this_thread() -> Error {
    Error::NotOwner("this thread does not hold the recursive lock".into())
}

#[inline(always)]
fn is_held_by_this_thread(raw: &RawLock, me: Id) -> bool {
    raw.is_held_by(me) && raw.token.load(Ordering::Relaxed) == token(me)
}
