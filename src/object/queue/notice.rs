//! Notices: descriptors that are readable for poll(2) while there may be a message in a queue, or room for one.
//!
//! poll(2) cannot wait for a futex. So one helper thread of this process waits instead, and raises the flag. A caller
//! that then finds nothing lowers the flag, and the thread waits again. The queue itself does not know the flag,
//! because a producer may be any process, and may be killed.

use super::Core;
use crate::error::{Error, Result};
use crate::raw::WaitOptions;
use crate::sys::eventfd::Flag;
use crate::sys::fork::{ForkLocal, ForkLock, ForkLocked, free_fork_local, new_fork_local};
use crate::sys::thread;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::Duration;

/// What a descriptor reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// There may be a message.
    Messages,
    /// There may be room for one.
    Room,
}

// The states of a watch: the thread waits; the thread has raised the flag and is parked; the thread must end.
const WAITING: u64 = 0;
const RAISED: u64 = 1;
const ENDED: u64 = 2;

/// How often the thread checks whether it must end, in nanoseconds: hardly more often than it wakes anyway.
const CHECK_INTERVAL_NS: u64 = 25_000_000;

struct Watch {
    flag: Flag,
    state: AtomicU64,
}

impl Watch {
    /// Waits for `what` and raises the flag, until the state is ENDED.
    fn run(&self, core: &Core, what: What) {
        let options = WaitOptions::after(Duration::from_nanos(CHECK_INTERVAL_NS));
        // PAIRS notice.state
        while self.state.load(Ordering::Acquire) != ENDED {
            let outcome = core.with(|queue| match what {
                What::Messages => queue.wait_for_message(options),
                What::Room => queue.wait_for_room(options),
            });
            if let Err(Error::Timeout(_)) = outcome {
                continue;
            }
            // The caller's next try reports any other error. PAIRS notice.state
            let raised =
                self.state
                    .compare_exchange(WAITING, RAISED, Ordering::AcqRel, Ordering::Acquire);
            if raised.is_err() {
                continue;
            }
            self.flag.raise();
            while self.state.load(Ordering::Acquire) == RAISED {
                std::thread::park();
            }
        }
    }
}

/// A watch that this process, or its parent, has begun.
struct Notice {
    watch: Arc<Watch>,
    /// The thread has a strong reference to this and to the watch.
    core: Weak<Core>,
    thread: Thread,
    /// 1 in the process that has the thread; 0 in forked children, which must not use the flag.
    mine: ForkLocal,
}

impl Notice {
    fn is_mine(&self) -> bool {
        self.mine.load(Ordering::Relaxed) == 1
    }

    /// Drops the references of the parent's thread, in a child that lacks the thread.
    fn drop_for_parent(&self) {
        // SAFETY: `open` gave the thread one strong reference, which no thread of this process ever drops.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.watch)) };
        // SAFETY: as for `watch`.
        unsafe { Arc::decrement_strong_count(self.core.as_ptr()) };
    }

    fn set(&self, state: u64) {
        // PAIRS notice.state: the thread sees what made this caller set the state, and that the flag is down.
        self.watch.state.store(state, Ordering::Release);
        self.thread.unpark();
    }
}

/// The watches of one handle, each begun at its first use.
pub struct Notices {
    any: AtomicBool,
    open: ForkLocked<[Option<Notice>; 2]>,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices {
            any: AtomicBool::new(false),
            open: ForkLocked::new([None, None]),
        }
    }
}

impl Notices {
    /// Returns the descriptor that gives notice of `what`.
    pub fn open(&self, core: &Arc<Core>, what: What) -> Result<i32> {
        let mut inside = ForkLock::enter();
        if let Some(notice) = &self.open.get(&mut inside)[what as usize]
            && notice.is_mine()
        {
            return Ok(notice.watch.flag.fd());
        }
        let watch = Arc::new(Watch {
            flag: Flag::new()?,
            state: AtomicU64::new(WAITING),
        });
        let fd = watch.flag.fd();
        let mine = new_fork_local(&mut inside)?;
        let thread = {
            let (watch, core) = (watch.clone(), core.clone());
            thread::spawn("shmkit-notice", move || watch.run(&core, what))
        };
        let thread = match thread {
            Ok(handle) => handle.thread().clone(),
            Err(error) => {
                free_fork_local(&mut inside, mine);
                return Err(error);
            }
        };
        mine.store(1, Ordering::Relaxed);
        let notice = Notice {
            watch,
            core: Arc::downgrade(core),
            thread,
            mine,
        };
        // A forked child drops its copy of the parent's notice: that closes the child's descriptor alone.
        let parents = self.open.get(&mut inside)[what as usize].replace(notice);
        if let Some(parents) = &parents {
            free_fork_local(&mut inside, parents.mine);
            parents.drop_for_parent();
        }
        self.any.store(true, Ordering::Relaxed);
        Ok(fd)
    }

    /// Lowers the flag if the call found nothing.
    #[inline(always)]
    pub fn look_after<T>(&self, what: What, result: &Result<T>) {
        if self.any.load(Ordering::Relaxed)
            && matches!(
                result,
                Err(Error::Empty(_) | Error::Full(_) | Error::Timeout(_))
            )
        {
            self.lower(what);
        }
    }

    #[cold]
    fn lower(&self, what: What) {
        let mut inside = ForkLock::enter();
        if let Some(notice) = &self.open.get(&mut inside)[what as usize]
            && notice.is_mine()
        {
            notice.watch.flag.lower();
            // If there is a message or room by now, the thread finds it.
            notice.set(WAITING);
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if !*self.any.get_mut() {
            return;
        }
        let mut inside = ForkLock::enter();
        let mut parents = [None, None];
        let open = std::mem::take(self.open.get(&mut inside));
        for (notice, parents) in open.into_iter().zip(&mut parents) {
            if let Some(notice) = notice {
                let mine = notice.is_mine();
                free_fork_local(&mut inside, notice.mine);
                match mine {
                    true => notice.set(ENDED),
                    false => *parents = Some(notice),
                }
            }
        }
        // Dropping a core closes its descriptors, and that takes the fork lock as well.
        drop(inside);
        parents.iter().flatten().for_each(Notice::drop_for_parent);
    }
}
