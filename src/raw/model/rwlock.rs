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

// SAFETY: only owners of the lock reach `guarded`; the model tests that, and loom checks it.
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

    fn view(&self) -> RwLockRef<'_> {
        RwLockRef {
            raw: &self.raw,
            cells: &self.cells,
            handle: &self.handle,
        }
    }

    fn read(&self, me: Id, options: WaitOptions) -> Result<bool> {
        self.view().acquire_read(me, options, &self.world)
    }

    fn write(&self, me: Id, options: WaitOptions) -> Result<bool> {
        self.view().acquire_write(me, options, &self.world)
    }

    fn upgrade(&self, me: Id, options: WaitOptions) -> Result<()> {
        self.view().upgrade(me, options, &self.world)
    }

    /// Adds one; loom fails if another thread is inside as well.
    fn touch(&self) {
        // SAFETY: the caller holds the lock for writing; the model tests that, and loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// Reads; loom fails if another thread writes.
    fn look(&self) -> u64 {
        // SAFETY: the caller holds the lock for reading; the model tests that, and loom checks it.
        self.guarded.with(|guarded| unsafe { *guarded })
    }

    fn write_once(&self, me: Id) {
        assert_eq!(self.write(me, WaitOptions::BLOCKING), Ok(false));
        self.touch();
        self.view()
            .release_write(me)
            .expect("a write lock of this process");
    }

    fn read_once(&self, me: Id) -> u64 {
        assert_eq!(self.read(me, WaitOptions::BLOCKING), Ok(false));
        let seen = self.look();
        self.view()
            .release_read(me)
            .expect("a read lock of this process");
        seen
    }

    /// Checks that no process holds the lock, and that no mark is left.
    fn is_free(&self) {
        let stat = self.view().stat();
        assert_eq!((stat.writer, stat.waits, stat.readers), (None, false, 0));
        assert!(
            self.write(id(5), WaitOptions::NONBLOCKING).is_ok(),
            "the lock is free"
        );
        self.view()
            .release_write(id(5))
            .expect("a write lock of this process");
    }
}

#[test]
fn a_reader_and_a_writer_exclude_each_other_and_neither_sleeps_forever() {
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
fn a_reader_with_a_known_slot_and_a_writer_exclude_each_other() {
    model(4, || {
        let shared = Shared::new();
        // From now on the reader's slot is known, and it takes the fast path.
        shared.read_once(id(1));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.write_once(id(me)),
            _ => {
                let first = in_thread.read_once(id(me));
                assert!(
                    first <= in_thread.read_once(id(me)),
                    "the value never decreases"
                );
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
fn no_other_writer_comes_between_a_read_and_its_upgrade() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                assert_eq!(in_thread.read(id(me), WaitOptions::BLOCKING), Ok(false));
                let before = in_thread.look();
                // The other one may hold the turnstile for a moment; the model has no deadlines that would end a sleep.
                loop {
                    match in_thread.upgrade(id(me), WaitOptions::NONBLOCKING) {
                        Ok(()) => break,
                        Err(Error::Deadlock(_)) => {
                            return in_thread
                                .view()
                                .release_read(id(me))
                                .expect("a read lock of this process");
                        }
                        Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                    }
                    thread::yield_now();
                }
                assert_eq!(in_thread.look(), before);
                in_thread.touch();
                in_thread
                    .view()
                    .release_write(id(me))
                    .expect("a write lock of this process");
            }
            _ => in_thread.write_once(id(me)),
        });
        shared.is_free();
    });
}

#[test]
fn an_upgrade_waits_until_the_other_readers_have_left() {
    model(4, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(0), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread
                    .upgrade(id(me), WaitOptions::BLOCKING)
                    .expect("a read lock of this process");
                in_thread.touch();
                in_thread
                    .view()
                    .release_write(id(me))
                    .expect("a write lock of this process");
            }
            _ => drop(in_thread.read_once(id(me))),
        });
        shared.is_free();
    });
}

#[test]
fn one_of_two_upgrades_is_refused_and_neither_sleeps_forever() {
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
                    in_thread
                        .view()
                        .release_write(id(me))
                        .expect("a write lock of this process");
                }
                Err(error) => {
                    assert!(matches!(error, Error::WouldBlock(_) | Error::Deadlock(_)));
                    assert!(me == 1, "{error}");
                    in_thread.look();
                    in_thread
                        .view()
                        .release_read(id(me))
                        .expect("a read lock of this process");
                }
            }
        });
        shared.is_free();
    });
}

#[test]
fn no_other_writer_comes_between_a_write_and_its_downgrade() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                assert_eq!(in_thread.write(id(me), WaitOptions::BLOCKING), Ok(false));
                in_thread.touch();
                let mine = in_thread.look();
                in_thread
                    .view()
                    .downgrade(id(me), &in_thread.world)
                    .expect("a write lock of this process");
                assert_eq!(in_thread.look(), mine);
                in_thread
                    .view()
                    .release_read(id(me))
                    .expect("a read lock of this process");
            }
            _ => in_thread.write_once(id(me)),
        });
        assert_eq!(shared.look(), 2);
        shared.is_free();
    });
}

#[test]
fn a_writer_that_times_out_admits_the_readers() {
    model(3, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(2), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                // No reader leaves before this one has given up, and the model has no deadlines: so it does not wait.
                let refused = in_thread.write(id(me), WaitOptions::NONBLOCKING);
                assert!(matches!(refused, Err(Error::WouldBlock(_))));
            }
            _ => drop(in_thread.read_once(id(me))),
        });
        shared
            .view()
            .release_read(id(2))
            .expect("a read lock of this process");
        shared.is_free();
    });
}

#[test]
fn a_writer_that_times_out_wakes_the_waiters_behind_it() {
    model(2, || {
        let shared = Shared::new();
        assert_eq!(shared.read(id(2), WaitOptions::BLOCKING), Ok(false));
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => match in_thread.write(id(me), SHORT) {
                Ok(_) => {
                    in_thread.touch();
                    in_thread
                        .view()
                        .release_write(id(me))
                        .expect("a write lock of this process");
                }
                Err(error) => assert!(matches!(error, Error::Timeout(_))),
            },
            1 => in_thread
                .view()
                .release_read(id(2))
                .expect("a read lock of this process"),
            _ => drop(in_thread.read_once(id(me))),
        });
        shared.is_free();
    });
}

#[test]
fn a_dead_writers_mark_is_reported_until_the_state_is_marked_consistent() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let dying = in_thread.world.killable[0].0;
                match in_thread.write(dying, WaitOptions::NONBLOCKING) {
                    Ok(owner_died) => {
                        assert!(!owner_died);
                        in_thread.touch();
                        in_thread.count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
                in_thread.world.kill(0);
            }
            _ => {
                if let Ok(owner_died) = in_thread.read(id(me), WaitOptions::NONBLOCKING) {
                    let seen = in_thread.look();
                    assert_eq!(owner_died, seen == 1, "the write was not finished");
                    in_thread
                        .view()
                        .release_read(id(me))
                        .expect("a read lock of this process");
                }
            }
        });
        let died = shared.count.load(Ordering::Relaxed) == 1;
        assert_eq!(shared.read(id(5), WaitOptions::NONBLOCKING), Ok(died));
        shared
            .view()
            .release_read(id(5))
            .expect("a read lock of this process");
        assert_eq!(shared.write(id(5), WaitOptions::NONBLOCKING), Ok(died));
        shared
            .view()
            .mark_consistent(id(5))
            .expect("a write lock of this process");
        shared
            .view()
            .release_write(id(5))
            .expect("a write lock of this process");
        assert_eq!(shared.read(id(5), WaitOptions::NONBLOCKING), Ok(false));
        shared
            .view()
            .release_read(id(5))
            .expect("a read lock of this process");
        shared.is_free();
    });
}

#[test]
fn a_dead_reader_delays_no_process_and_leaves_no_mark() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let dying = in_thread.world.killable[0].0;
                if let Ok(owner_died) = in_thread.read(dying, WaitOptions::NONBLOCKING) {
                    assert!(!owner_died);
                    in_thread.look();
                }
                in_thread.world.kill(0);
            }
            _ => match in_thread.write(id(me), WaitOptions::NONBLOCKING) {
                Ok(owner_died) => {
                    assert!(!owner_died);
                    in_thread.touch();
                    in_thread
                        .view()
                        .release_write(id(me))
                        .expect("a write lock of this process");
                }
                Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
            },
        });
        assert_eq!(shared.write(id(5), WaitOptions::NONBLOCKING), Ok(false));
        shared
            .view()
            .release_write(id(5))
            .expect("a write lock of this process");
        shared.is_free();
    });
}
