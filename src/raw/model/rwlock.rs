//! Models of the readers-writer lock.

use super::{SHORT, World, each, id, model};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::count_slot::CountSlot;
use crate::raw::rwlock::{RawRwLock, RwLockHandleState, RwLockRef};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    raw: RawRwLock,
    cells: [CountSlot; 3],
    handle: RwLockHandleState,
    world: World,
    guarded: UnsafeCell<u64>,
    count: AtomicUsize,
}

// SAFETY: `guarded` is reached under the lock alone, which is what is on trial: loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            raw: RawRwLock::default(),
            cells: Default::default(),
            handle: RwLockHandleState::default(),
            world: World::new(),
            guarded: UnsafeCell::new(0),
            count: AtomicUsize::new(0),
        })
    }

    fn whole(&self) -> RwLockRef<'_> {
        RwLockRef {
            raw: &self.raw,
            cells: &self.cells,
            handle: &self.handle,
        }
    }

    fn read(&self, me: Id, options: WaitOptions) -> Result<bool> {
        self.whole().acquire_read(me, options, &self.world)
    }

    fn write(&self, me: Id, options: WaitOptions) -> Result<bool> {
        self.whole().acquire_write(me, options, &self.world)
    }

    fn upgrade(&self, me: Id, options: WaitOptions) -> Result<()> {
        self.whole().upgrade(me, options, &self.world)
    }

    /// Adds one; loom fails where another thread is in here as well.
    fn touch(&self) {
        // SAFETY: the caller writes, which is what is on trial: loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// Reads; loom fails where another thread writes.
    fn look(&self) -> u64 {
        // SAFETY: the caller reads, which is what is on trial: loom checks it.
        self.guarded.with(|guarded| unsafe { *guarded })
    }

    fn write_once(&self, me: Id) {
        assert_eq!(self.write(me, WaitOptions::BLOCKING), Ok(false));
        self.touch();
        self.whole().release_write(me).expect("we write");
    }

    fn read_once(&self, me: Id) -> u64 {
        assert_eq!(self.read(me, WaitOptions::BLOCKING), Ok(false));
        let seen = self.look();
        self.whole().release_read(me).expect("we read");
        seen
    }

    /// Nobody is left in it, and nobody's mark.
    fn is_free(&self) {
        let stat = self.whole().stat();
        assert_eq!((stat.writer, stat.waits, stat.readers), (None, false, 0));
        assert!(
            self.write(id(5), WaitOptions::NONBLOCKING).is_ok(),
            "it is free"
        );
        self.whole().release_write(id(5)).expect("we write");
    }
}

#[test]
fn a_reader_and_a_writer_exclude_each_other_and_nobody_sleeps_for_ever() {
    model(4, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.write_once(id(me)),
            _ => drop(in_thread.read_once(id(me))),
        });
        assert_eq!(shared.look(), 1);
        shared.is_free();
    });
}

#[test]
fn a_reader_that_was_here_before_and_a_writer_exclude_each_other() {
    model(4, || {
        let shared = Shared::new();
        // From now on its cell is known, and it takes the short way.
        shared.read_once(id(1));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.write_once(id(me)),
            _ => {
                let first = in_thread.read_once(id(me));
                assert!(first <= in_thread.read_once(id(me)), "no way back");
            }
        });
        assert_eq!(shared.look(), 1);
        shared.is_free();
    });
}

#[test]
fn two_writers_and_a_reader_exclude_each_other() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            2 => drop(in_thread.read_once(id(me))),
            _ => in_thread.write_once(id(me)),
        });
        assert_eq!(shared.look(), 2);
        shared.is_free();
    });
}

#[test]
fn two_readers_and_a_writer_exclude_each_other() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            2 => in_thread.write_once(id(me)),
            _ => drop(in_thread.read_once(id(me))),
        });
        assert_eq!(shared.look(), 1);
        shared.is_free();
    });
}

#[test]
fn who_upgrades_lets_nobody_write_in_between() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                assert_eq!(in_thread.read(id(me), WaitOptions::BLOCKING), Ok(false));
                let before = in_thread.look();
                // The other one may hold the turnstile for a moment: the model knows no time to sleep until then.
                loop {
                    match in_thread.upgrade(id(me), WaitOptions::NONBLOCKING) {
                        Ok(()) => break,
                        Err(Error::Deadlock(_)) => {
                            return in_thread.whole().release_read(id(me)).expect("we read");
                        }
                        Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                    }
                    thread::yield_now();
                }
                assert_eq!(in_thread.look(), before);
                in_thread.touch();
                in_thread.whole().release_write(id(me)).expect("we write");
            }
            _ => in_thread.write_once(id(me)),
        });
        shared.is_free();
    });
}

#[test]
fn who_upgrades_waits_until_the_others_have_left() {
    model(4, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(0), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread
                    .upgrade(id(me), WaitOptions::BLOCKING)
                    .expect("we read");
                in_thread.touch();
                in_thread.whole().release_write(id(me)).expect("we write");
            }
            _ => drop(in_thread.read_once(id(me))),
        });
        shared.is_free();
    });
}

#[test]
fn of_two_who_upgrade_one_is_refused_and_nobody_sleeps_for_ever() {
    model(3, || {
        let shared = Shared::new();
        for me in 0..2 {
            assert_eq!(shared.read(id(me), WaitOptions::BLOCKING), Ok(false));
        }
        let in_thread = shared.clone();
        each(2, move |me| {
            let options = if me == 0 {
                WaitOptions::BLOCKING
            } else {
                WaitOptions::NONBLOCKING
            };
            match in_thread.upgrade(id(me), options) {
                Ok(()) => {
                    in_thread.touch();
                    in_thread.whole().release_write(id(me)).expect("we write");
                }
                Err(error) => {
                    assert!(matches!(error, Error::WouldBlock(_) | Error::Deadlock(_)));
                    assert!(me == 1, "{error}");
                    in_thread.look();
                    in_thread.whole().release_read(id(me)).expect("still");
                }
            }
        });
        shared.is_free();
    });
}

#[test]
fn who_downgrades_lets_nobody_write_in_between() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                assert_eq!(in_thread.write(id(me), WaitOptions::BLOCKING), Ok(false));
                in_thread.touch();
                let mine = in_thread.look();
                in_thread
                    .whole()
                    .downgrade(id(me), &in_thread.world)
                    .expect("we write");
                assert_eq!(in_thread.look(), mine);
                in_thread.whole().release_read(id(me)).expect("we read");
            }
            _ => in_thread.write_once(id(me)),
        });
        assert_eq!(shared.look(), 2);
        shared.is_free();
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_in() {
    model(3, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(2), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                // Nobody leaves before it has given up, and the model has no deadlines: so it only tries.
                let refused = in_thread.write(id(me), WaitOptions::NONBLOCKING);
                assert!(matches!(refused, Err(Error::WouldBlock(_))));
            }
            _ => drop(in_thread.read_once(id(me))),
        });
        shared.whole().release_read(id(2)).expect("we read");
        shared.is_free();
    });
}

#[test]
fn a_writer_out_of_time_wakes_those_who_wait_for_it() {
    model(2, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(2), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => match in_thread.write(id(me), SHORT) {
                Ok(_) => {
                    in_thread.touch();
                    in_thread.whole().release_write(id(me)).expect("we write");
                }
                Err(error) => assert!(matches!(error, Error::Timeout(_))),
            },
            1 => in_thread.whole().release_read(id(2)).expect("it is read"),
            _ => drop(in_thread.read_once(id(me))),
        });
        shared.is_free();
    });
}

#[test]
fn what_a_dead_writer_leaves_is_told_until_it_is_mended() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let mortal = in_thread.world.mortals[0].0;
                match in_thread.write(mortal, WaitOptions::NONBLOCKING) {
                    Ok(owner_died) => {
                        assert!(!owner_died);
                        in_thread.touch();
                        in_thread.count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
                in_thread.world.dies(0);
            }
            _ => {
                if let Ok(owner_died) = in_thread.read(id(me), WaitOptions::NONBLOCKING) {
                    let seen = in_thread.look();
                    assert_eq!(owner_died, seen == 1, "a write that nobody finished");
                    in_thread.whole().release_read(id(me)).expect("we read");
                }
            }
        });
        let died = shared.count.load(Ordering::Relaxed) == 1;
        assert_eq!(shared.read(id(5), WaitOptions::NONBLOCKING), Ok(died));
        shared.whole().release_read(id(5)).expect("we read");
        assert_eq!(shared.write(id(5), WaitOptions::NONBLOCKING), Ok(died));
        shared.whole().mark_consistent(id(5)).expect("we write");
        shared.whole().release_write(id(5)).expect("we write");
        assert_eq!(shared.read(id(5), WaitOptions::NONBLOCKING), Ok(false));
        shared.whole().release_read(id(5)).expect("we read");
        shared.is_free();
    });
}

#[test]
fn a_dead_reader_holds_up_nobody_and_leaves_no_mark() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let mortal = in_thread.world.mortals[0].0;
                if let Ok(owner_died) = in_thread.read(mortal, WaitOptions::NONBLOCKING) {
                    assert!(!owner_died);
                    in_thread.look();
                }
                in_thread.world.dies(0);
            }
            _ => match in_thread.write(id(me), WaitOptions::NONBLOCKING) {
                Ok(owner_died) => {
                    assert!(!owner_died);
                    in_thread.touch();
                    in_thread.whole().release_write(id(me)).expect("we write");
                }
                Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
            },
        });
        assert_eq!(shared.write(id(5), WaitOptions::NONBLOCKING), Ok(false));
        shared.whole().release_write(id(5)).expect("we write");
        shared.is_free();
    });
}
