//! Models of the locks for loom, which runs every interleaving that the memory model allows.
//!
//! The futex is modelled without deadlines: whoever sleeps for ever is a deadlock, and fails.

use super::lock::{Spins, Words};
use super::{Life, Limit, Patience, rlock};
use crate::error::{Error, Result};
use crate::participant::Id;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

fn id(slot: usize) -> Id {
    Id::of(slot as u64 + 1 | (slot as u64 + 1) << 13).expect("an owner")
}

/// Everybody lives but `dead`, once it has died.
struct World {
    dead: Id,
    has_died: AtomicBool,
}

impl Life for World {
    fn is_dead(&self, id: Id) -> Result<bool> {
        // PAIRS with the kernel's unlocking: what the dead did is seen by who finds it dead.
        Ok(id == self.dead && self.has_died.load(Ordering::Acquire))
    }
}

struct Shared {
    words: Words,
    world: World,
    guarded: UnsafeCell<u64>,
    recoveries: AtomicUsize,
    died_with_it: AtomicBool,
}

// SAFETY: `guarded` is reached under the lock alone, which is what is on trial: loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            words: Words::default(),
            world: World {
                dead: id(9),
                has_died: AtomicBool::new(false),
            },
            guarded: UnsafeCell::new(0),
            recoveries: AtomicUsize::new(0),
            died_with_it: AtomicBool::new(false),
        })
    }

    fn acquire(&self, me: Id, patience: Patience) -> Result<bool> {
        self.words
            .acquire(me, patience, &Spins::default(), &self.world)
    }

    /// Adds one; loom fails where another thread is in here as well.
    fn touch(&self) {
        // SAFETY: the caller holds the lock, which is what is on trial: loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// What who has taken the lock does: writes, says that all is whole, releases.
    fn recover(&self, me: Id, recovered: bool) {
        self.touch();
        if recovered {
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            self.words.mark_consistent(me).expect("we hold it");
        }
        self.words.release(me).expect("we hold it");
    }

    fn guarded(&self) -> u64 {
        // SAFETY: as in `touch`.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

fn each(count: usize, body: impl Fn(usize) + Clone + Send + 'static) {
    let threads: Vec<_> = (1..count)
        .map(|number| {
            let body = body.clone();
            thread::spawn(move || body(number))
        })
        .collect();
    body(0);
    for thread in threads {
        thread.join().expect("no thread panics");
    }
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

#[test]
fn two_exclude_each_other_and_nobody_sleeps_for_ever() {
    model(4, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| {
            assert_eq!(in_thread.acquire(id(me), Patience::ENDLESS), Ok(false));
            in_thread.touch();
            in_thread.words.release(id(me)).expect("we hold it");
        });
        assert_eq!(shared.guarded(), 2);
    });
}

#[test]
fn three_exclude_each_other_and_nobody_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            assert_eq!(in_thread.acquire(id(me), Patience::ENDLESS), Ok(false));
            in_thread.touch();
            in_thread.words.release(id(me)).expect("we hold it");
        });
        assert_eq!(shared.guarded(), 3);
    });
}

#[test]
fn of_two_who_find_the_dead_one_takes_over() {
    model(3, || {
        let shared = Shared::new();
        let dead = shared.world.dead;
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                // The one that dies while it holds the lock: what it wrote is seen by the next.
                match in_thread.acquire(dead, Patience::NONE) {
                    Ok(_) => {
                        in_thread.touch();
                        in_thread.died_with_it.store(true, Ordering::Relaxed);
                    }
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
                in_thread.world.has_died.store(true, Ordering::Release);
                return;
            }
            // Nobody is woken by a death, and the model has no deadlines: so these only try.
            for _ in 0..2 {
                if let Ok(recovered) = in_thread.acquire(id(me), Patience::NONE) {
                    in_thread.recover(id(me), recovered);
                    break;
                }
                thread::yield_now();
            }
        });
        let last = shared
            .acquire(id(5), Patience::NONE)
            .expect("who holds it is dead");
        shared.recover(id(5), last);
        assert!(
            shared.recoveries.load(Ordering::Relaxed) <= 1,
            "the dead one died once"
        );
        assert!(!shared.words.owner_died());
    });
}

#[test]
fn who_gives_up_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            let limit = match me {
                // It gives up at its first look after its sleep.
                2 => Limit::Within(1),
                _ => Limit::Forever,
            };
            let patience = Patience {
                limit,
                interruptible: false,
            };
            // The first comes twice: it may take the lock from under the nose of one who has just been woken.
            for _ in 0..if me == 0 { 2 } else { 1 } {
                if in_thread.acquire(id(me), patience).is_ok() {
                    in_thread.touch();
                    in_thread.words.release(id(me)).expect("we hold it");
                }
            }
        });
    });
}

#[test]
fn a_recursive_lock_is_a_threads() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        // Two threads of one process: the same id.
        each(2, move |_| {
            let (words, life) = (&in_thread.words, &in_thread.world);
            for _ in 0..2 {
                let spins = Spins::default();
                rlock::acquire(words, id(0), Patience::ENDLESS, &spins, life).expect("no end");
            }
            in_thread.touch();
            rlock::release(words, id(0)).expect("held twice");
            in_thread.touch();
            rlock::release(words, id(0)).expect("held once");
            assert!(rlock::depth(words, id(0)) == 0);
        });
        assert_eq!(shared.guarded(), 4);
    });
}
