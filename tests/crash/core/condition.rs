//! Conditions in a managed segment: wait, inherit the notification of a dead process, notify, notify_all, create_at.
//!
//! ```text
//! data:  | taken | sent | ended | …     64: the lock     128: the condition
//! ```
//!
//! A waiter that returns notified increments `taken`; a notifier adds the number of notified live waiters to `sent`.
//! Both hold the lock. A bystander that waits for a notification of the victim waits as long as the victim lives.

use crate::suite::capi::condition::Condition;
use crate::suite::capi::lock::{Kind, Lock};
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOWAIT, Status, TIMEOUT, WOULD_BLOCK, check};
use crate::suite::harness::fixture::{self, NAME, PAGE, PLACE, managed, open_attached};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::shared_state::shared_state;
use crate::suite::harness::survivor::refused;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The offset of the condition.
const CONDITION: u64 = 128;
/// The number of its cells: those of dead waiters are needed again.
const CELLS: u32 = 3;
/// The number of processes that have died waiting before the victim begins.
const DEAD: usize = 2;
/// More than there are processes.
const PARTICIPANTS: u32 = 16;
/// A timeout that is over at once, in nanoseconds.
const SHORT_NS: i64 = 1;
/// The interval at which a waiter checks whether the victim lives, in nanoseconds.
const CHECK_INTERVAL_NS: i64 = 20_000_000;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Waits until its timeout.
    Wait,
    /// Waits after a process has died that had been notified.
    Inherit,
    /// Notifies this number of waiters, `None`: all; this number of processes have died waiting.
    Notify(Option<u32>, usize),
    /// Creates it where there are zeros.
    CreateAt,
}

/// An operation of conditions.
pub struct ConditionOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
}

/// One process, and what it has open.
struct User<'a> {
    shmkit: &'a Library,
    lock: Lock,
    condition: Condition,
    words: &'static [AtomicU64; WORDS],
}

const TAKEN: usize = 0;
const SENT: usize = 1;
const ENDED: usize = 2;
/// All words of the page.
const WORDS: usize = PAGE as usize / 8;

fn open(shmkit: &Library) -> (Segment, Lock) {
    let segment = open_attached(shmkit);
    let lock = shmkit.open_lock_at(Kind::Lock, segment, PLACE);
    (segment, lock.expect("the lock exists"))
}

impl<'a> User<'a> {
    fn open(shmkit: &'a Library) -> User<'a> {
        let (segment, lock) = open(shmkit);
        let condition = shmkit.open_condition_at(segment, CONDITION, lock);
        User {
            shmkit,
            lock,
            condition: condition.expect("it exists"),
            words: fixture::words(shmkit, segment, 0),
        }
    }

    fn waits(&self) -> u64 {
        self.shmkit
            .condition_stat(self.condition)
            .expect("open")
            .waits
    }

    /// Runs `body` under the lock, even if its last owner died.
    fn locked(&self, body: impl FnOnce() -> Status) -> Status {
        if let Err(status) = self.shmkit.acquire(self.lock, FOREVER) {
            return status;
        }
        let status = body();
        match self.shmkit.release(self.lock) {
            0 => status,
            failed => failed,
        }
    }

    /// Waits once; returns 0 whether it was notified or not.
    fn wait(&self, timeout: i64) -> Status {
        self.locked(|| self.wait_holding(timeout).err().unwrap_or(0))
    }

    /// Waits under the lock; returns whether it was notified.
    fn wait_holding(&self, timeout: i64) -> Result<bool, Status> {
        match self.shmkit.wait(self.condition, timeout) {
            0 => {
                self.words[TAKEN].fetch_add(1, SeqCst);
                Ok(true)
            }
            TIMEOUT | WOULD_BLOCK => Ok(false),
            status => Err(status),
        }
    }

    /// Waits until it is notified or the victim has ended.
    fn wait_for_victim(&self) -> Status {
        self.locked(|| {
            loop {
                let over = shared_state().victim_is_gone();
                match self.wait_holding(CHECK_INTERVAL_NS) {
                    Ok(notified) if notified || over => return 0,
                    Ok(_) => {}
                    Err(status) => return status,
                }
            }
        })
    }

    /// Notifies; `dead` processes have died waiting.
    fn notify(&self, count: Option<u32>, dead: usize) -> Status {
        self.locked(|| {
            let notified = || {
                self.shmkit
                    .condition_stat(self.condition)
                    .map(|info| info.notified)
            };
            let before = notified().expect("the condition is open");
            let status = self.shmkit.notify(self.condition, count);
            let sent = notified().expect("the condition is open") - before;
            // notify_all also counts dead waiters.
            let dead = if count.is_none() { dead as u64 } else { 0 };
            self.words[SENT].fetch_add(sent - dead, SeqCst);
            status
        })
    }

    /// Starts a process that waits without a timeout, and returns once it waits. After a
    /// notification the process exits with success.
    fn start_waiter(&self) -> Result<Pid, Status> {
        let before = self.waits();
        let waiter = process::spawn(|| -self.locked(|| self.shmkit.wait(self.condition, FOREVER)));
        while self.waits() == before {
            if process::has_ended(waiter) {
                return Err(match process::wait(waiter, WATCHDOG) {
                    Ok(WaitStatus::Exited(_, code)) => -code,
                    _ => -25,
                });
            }
            std::thread::yield_now();
        }
        Ok(waiter)
    }
}

/// Leaves the notification of a process that has died, sent so late that any later waiter may inherit it.
fn leave_one(user: &User) {
    const STATE: usize = (CONDITION as usize + 64) / 8;
    let waiter = user.start_waiter().expect("a cell is free");
    assert_eq!(user.locked(|| user.shmkit.notify(user.condition, None)), 0);
    process::kill(waiter);
    // The waiter may have returned before it was killed. Its cell is the first one.
    let owner = user
        .shmkit
        .acquire(user.lock, FOREVER)
        .map(|_| user.words[PLACE as usize / 8 + 1].load(SeqCst));
    let owner = owner.expect("no live process holds the lock") & !(7 << 29);
    user.words[STATE].store(owner | 1 << 30, SeqCst);
    user.words[STATE + 1].store(u64::MAX, SeqCst);
    assert_eq!(user.shmkit.mark_consistent(user.lock), 0);
    assert_eq!(user.shmkit.release(user.lock), 0);
}

impl Operation for ConditionOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            let segment = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS));
            let segment = segment.expect("the segment is created");
            let lock = shmkit.create_lock_at(Kind::Lock, segment, PLACE);
            let lock = lock.expect("the lock is created");
            if self.verb != Verb::CreateAt {
                let condition = shmkit.create_condition_at(segment, CONDITION, CELLS, lock);
                let condition = condition.expect("the condition is created");
                assert_eq!(shmkit.close_condition(condition), 0);
                let user = User::open(shmkit);
                match self.verb {
                    Verb::Inherit => leave_one(&user),
                    Verb::Notify(_, dead) => {
                        let dying: Vec<_> = (0..dead).map(|_| user.start_waiter()).collect();
                        // Each waits, and has released the lock, once this process has acquired it.
                        assert_eq!(user.locked(|| 0), 0);
                        for waiter in dying {
                            process::kill(waiter.expect("a cell is free"));
                        }
                    }
                    Verb::Wait | Verb::CreateAt => {}
                }
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::CreateAt {
            let (segment, lock) = open(shmkit);
            return Box::new(move || {
                let condition = shmkit.create_condition_at(segment, CONDITION, CELLS, lock);
                condition.err().unwrap_or(0)
            });
        }
        let user = User::open(shmkit);
        match self.verb {
            Verb::Wait => Box::new(move || user.wait(SHORT_NS)),
            Verb::Inherit => Box::new(move || user.wait(NOWAIT)),
            Verb::Notify(count, dead) => Box::new(move || user.notify(count, dead)),
            Verb::CreateAt => unreachable!("it is handled above"),
        }
    }

    fn blocks_bystander(&self) -> bool {
        true
    }

    fn bystander_waits_first(&self) -> bool {
        // It holds nothing, but a waiter can wait for its notification.
        matches!(self.verb, Verb::Notify(..))
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        if self.verb == Verb::CreateAt {
            return Some(self.prepare(shmkit));
        }
        let user = User::open(shmkit);
        Some(match self.verb {
            Verb::Wait => Box::new(move || user.notify(Some(1), 0)),
            Verb::Notify(..) => Box::new(move || {
                let status = user.wait_for_victim();
                user.words[ENDED].store(1, SeqCst);
                status
            }),
            _ => Box::new(move || user.wait(CHECK_INTERVAL_NS)),
        })
    }

    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        verifier.expect_name()?;
        let (segment, lock) = open(shmkit);
        let condition = shmkit.create_condition_at(segment, CONDITION, CELLS, lock);
        let user = User {
            shmkit,
            lock,
            condition: condition.map_err(refused("create_at"))?,
            words: fixture::words(shmkit, segment, 0),
        };
        // 1. The lock can be acquired; a death of its owner is reported.
        let owner_died = shmkit.acquire(lock, FOREVER).map_err(refused("acquire"))?;
        let count = |word: usize| user.words[word].load(SeqCst);
        // 2. The notification of a dead waiter goes to one other waiter.
        let waited = shmkit.wait(user.condition, NOWAIT);
        let left = match waited {
            0 => 1,
            WOULD_BLOCK => 0,
            status => return Err(refused("wait")(status)),
        };
        if self.verb == Verb::Inherit {
            let took = count(TAKEN) + left;
            if took > 1 {
                return Err(Violation::NotExclusive
                    .failure(format!("{took} waits returned for one notification")));
            }
            // A waiter that died with the lock had the notification.
            if took == 0 && !owner_died {
                return Err(Violation::Lost.failure("a notification is lost"));
            }
        } else if left != 0 {
            return Err(Violation::NotExclusive
                .failure("a wait returned that began after the notification"));
        }
        // 3. Each notified waiter has returned.
        if matches!(self.verb, Verb::Notify(..)) && count(ENDED) != 0 && count(TAKEN) < count(SENT)
        {
            let text = format!("{} were notified, {} returned", count(SENT), count(TAKEN));
            return Err(Violation::Lost.failure(text));
        }
        shmkit.mark_consistent(lock);
        check(shmkit.release(lock)).map_err(refused("release"))?;
        self.works(&user)?;
        check(shmkit.close_condition(user.condition)).map_err(refused("close of a condition"))?;
        check(shmkit.close_lock(lock)).map_err(refused("close of a lock"))?;
        verifier.remove_last(segment)
    }
}

impl ConditionOperation {
    /// Checks that a live waiter is notified, and that all cells are free.
    fn works(&self, user: &User) -> Result<(), Failure> {
        for count in [1, CELLS] {
            let waiters: Result<Vec<_>, _> = (0..count).map(|_| user.start_waiter()).collect();
            let waiters = waiters.map_err(|status| {
                Violation::Lost.failure(format!("one of {CELLS} cells is lost: {status}"))
            })?;
            let how = (count == 1).then_some(1);
            let status = user.locked(|| user.shmkit.notify(user.condition, how));
            check(status).map_err(refused("notify"))?;
            for waiter in waiters {
                match process::wait(waiter, WATCHDOG) {
                    Ok(WaitStatus::Exited(_, 0)) => {}
                    Ok(other) => {
                        return Err(
                            Violation::Refused.failure(format!("a waiter's end: {other:?}"))
                        );
                    }
                    Err(_) => {
                        process::kill(waiter);
                        return Err(Violation::Stuck.failure("a notification wakes no waiter"));
                    }
                }
            }
        }
        let left = user.shmkit.condition_stat(user.condition);
        match left.map_err(refused("stat"))?.waiting {
            0 => Ok(()),
            left => Err(Violation::Leaked
                .failure(format!("{left} waiters are counted, and all have returned"))),
        }
    }
}

/// The operations of conditions, slowest first.
pub fn operations() -> Vec<ConditionOperation> {
    let operation = |name, every, verb| ConditionOperation { name, verb, every };
    vec![
        operation("condition: wait, times out", 16, Verb::Wait),
        operation(
            "condition: wait, after a notified waiter died",
            4,
            Verb::Inherit,
        ),
        operation("condition: notify", 16, Verb::Notify(Some(1), 0)),
        operation(
            "condition: notify, beside dead waiters",
            16,
            Verb::Notify(Some(1), DEAD),
        ),
        operation(
            "condition: notify_all, beside dead waiters",
            16,
            Verb::Notify(None, DEAD),
        ),
        operation("condition: create_at", 4, Verb::CreateAt),
    ]
}
