//! The operations of conditions in a managed segment: wait, take what the dead were sent, notify, notify all.
//!
//! ```text
//! data:  | taken | sent | ended | victim | …     64: the lock     128: the condition
//! ```
//!
//! Whoever returns notified adds one to `taken`, and who has notified adds to `sent` how many living that was; both while
//! it holds the lock. Who waits for the victim to notify waits as long as that one lives.

use crate::conditions::{Condition, TIMEOUT, WOULD_BLOCK};
use crate::library::{Library, Segment, Status};
use crate::locks::{FOREVER, Kind, Lock, NOWAIT};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, introduce, managed};
use crate::process::{self, WATCHDOG};
use crate::survivor::refused;
use crate::verify::{NAME, PAGE};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Where the condition stands.
const CONDITION: u64 = 128;
/// How many cells it has: those of the dead are needed.
const CELLS: u32 = 3;
/// How many have died waiting before the victim begins.
const DEAD: usize = 2;
/// More than there ever are.
const PARTICIPANTS: u32 = 16;
/// What is over before anybody comes, in nanoseconds.
const SHORT: i64 = 1;
/// After so long who waits looks whether the victim lives.
const A_WHILE: i64 = 20_000_000;

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Waits until its time is over.
    Wait,
    /// Waits where a dead process has left a notification.
    Inherit,
    /// Notifies one; this many have died waiting.
    Notify(Option<u32>, usize),
    /// Makes it where there are only zeros.
    CreateAt,
}

/// An operation of conditions.
pub struct ConditionOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
}

/// One process and what it has open.
struct User<'a> {
    shmkit: &'a Library,
    lock: Lock,
    condition: Condition,
    words: &'static [AtomicU64],
}

const TAKEN: usize = 0;
const SENT: usize = 1;
const ENDED: usize = 2;
const VICTIM: usize = 3;

fn words(shmkit: &Library, segment: Segment) -> &'static [AtomicU64] {
    let base = shmkit.data(segment).expect("it has an address");
    // SAFETY: a page is mapped there as long as this process lives, and all use it as atomics.
    unsafe { std::slice::from_raw_parts(base.cast(), (PAGE / 8) as usize) }
}

fn open(shmkit: &Library) -> (Segment, Lock) {
    let segment = shmkit.open(NAME, PAGE, managed(0));
    let segment = segment.expect("the segment can be opened");
    introduce(shmkit, segment);
    let lock = shmkit.open_lock_at(Kind::Lock, segment, PLACE);
    (segment, lock.expect("it was made"))
}

impl<'a> User<'a> {
    fn open(shmkit: &'a Library) -> User<'a> {
        let (segment, lock) = open(shmkit);
        let condition = shmkit.open_condition_at(segment, CONDITION, lock);
        User {
            shmkit,
            lock,
            condition: condition.expect("it was made"),
            words: words(shmkit, segment),
        }
    }

    fn waits(&self) -> u64 {
        self.shmkit
            .condition_stat(self.condition)
            .expect("open")
            .waits
    }

    /// Runs `body` while holding the lock, whatever the dead have left.
    fn locked(&self, body: impl FnOnce() -> Status) -> Status {
        if let Err(status) = self.shmkit.acquire(self.lock, FOREVER) {
            return status;
        }
        let status = body();
        match self.shmkit.release(self.lock) {
            0 => status,
            wrong => wrong,
        }
    }

    /// Waits once; returns 0 for whatever ends that.
    fn wait(&self, timeout: i64) -> Status {
        self.locked(|| self.wait_holding(timeout).err().unwrap_or(0))
    }

    /// Waits, holding the lock; says whether it was notified.
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
        let victim = Pid::from_raw(self.words[VICTIM].load(SeqCst) as i32);
        self.locked(|| {
            loop {
                let over = nix::sys::signal::kill(victim, None).is_err();
                match self.wait_holding(A_WHILE) {
                    Ok(notified) if notified || over => return 0,
                    Ok(_) => {}
                    Err(status) => return status,
                }
            }
        })
    }

    /// Notifies, beside so many that have died waiting.
    fn notify(&self, count: Option<u32>, dead: usize) -> Status {
        self.locked(|| {
            let notified = || {
                self.shmkit
                    .condition_stat(self.condition)
                    .map(|info| info.notified)
            };
            let before = notified().expect("it is open");
            let status = self.shmkit.notify(self.condition, count);
            let sent = notified().expect("it is open") - before;
            // All are notified without asking who lives.
            let dead = if count.is_none() { dead as u64 } else { 0 };
            self.words[SENT].fetch_add(sent - dead, SeqCst);
            status
        })
    }

    /// Starts a process that waits for ever, and returns once it does; it ends well when it is notified.
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

/// Leaves a notification of somebody who died: sent so late that everybody who comes has a right to it.
fn leave_one(user: &User) {
    const STATE: usize = (CONDITION as usize + 64) / 8;
    let waiter = user.start_waiter().expect("there are cells");
    assert_eq!(user.locked(|| user.shmkit.notify(user.condition, None)), 0);
    process::kill(waiter);
    // It was quick, or not. Its cell is the first one.
    let owner = user
        .shmkit
        .acquire(user.lock, FOREVER)
        .map(|_| user.words[PLACE as usize / 8 + 1].load(SeqCst));
    let owner = owner.expect("nobody lives who holds it") & !(7 << 29);
    user.words[STATE].store(owner | 1 << 30, SeqCst);
    user.words[STATE + 1].store(u64::MAX, SeqCst);
    // And dies, holding nothing.
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

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            let made = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS));
            let made = made.expect("a segment can be made");
            let lock = shmkit.create_lock_at(Kind::Lock, made, PLACE);
            let lock = lock.expect("a lock can be made");
            if self.verb != Verb::CreateAt {
                let made = shmkit.create_condition_at(made, CONDITION, CELLS, lock);
                assert_eq!(shmkit.close_condition(made.expect("it can be made")), 0);
                let user = User::open(shmkit);
                match self.verb {
                    Verb::Inherit => leave_one(&user),
                    Verb::Notify(_, dead) => {
                        let dying: Vec<_> = (0..dead).map(|_| user.start_waiter()).collect();
                        // Each has given the lock back when somebody else has had it.
                        assert_eq!(user.locked(|| 0), 0);
                        for waiter in dying {
                            process::kill(waiter.expect("there are cells"));
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
                let made = shmkit.create_condition_at(segment, CONDITION, CELLS, lock);
                made.err().unwrap_or(0)
            });
        }
        let user = User::open(shmkit);
        match self.verb {
            Verb::Wait => Box::new(move || user.wait(SHORT)),
            Verb::Inherit => Box::new(move || user.wait(NOWAIT)),
            Verb::Notify(count, dead) => {
                user.words[VICTIM].store(std::process::id().into(), SeqCst);
                Box::new(move || user.notify(count, dead))
            }
            Verb::CreateAt => unreachable!("it is above"),
        }
    }

    fn makes_others_wait(&self) -> bool {
        true
    }

    fn holds_at_marker(&self) -> bool {
        // Nothing; but who wants to be notified waits from the start.
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
            _ => Box::new(move || user.wait(A_WHILE)),
        })
    }

    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let (segment, lock) = open(shmkit);
        let condition = shmkit.create_condition_at(segment, CONDITION, CELLS, lock);
        let user = User {
            shmkit,
            lock,
            condition: condition.map_err(refused("create_at"))?,
            words: words(shmkit, segment),
        };
        // 1. The lock is to be had, and whoever died with it is told.
        let told = shmkit.acquire(lock, FOREVER).map_err(refused("acquire"))?;
        let count = |word: usize| user.words[word].load(SeqCst);
        // 2. What one had who died goes to one other.
        let waited = shmkit.wait(user.condition, NOWAIT);
        let left = match waited {
            0 => 1,
            WOULD_BLOCK => 0,
            status => return Err(refused("wait")(status)),
        };
        if self.verb == Verb::Inherit {
            let took = count(TAKEN) + left;
            if took > 1 {
                return Err(Crime::Shared.found(format!("{took} returned for one notification")));
            }
            // Whoever had it back and died with the lock had it.
            if took == 0 && !told {
                return Err(Crime::Lost.found("a notification is lost"));
            }
        } else if left != 0 {
            return Err(Crime::Shared.found("somebody returned who came later"));
        }
        // 3. Who was sent one has returned.
        if matches!(self.verb, Verb::Notify(..)) && count(ENDED) != 0 && count(TAKEN) < count(SENT)
        {
            let text = format!("{} were sent, {} returned", count(SENT), count(TAKEN));
            return Err(Crime::Lost.found(text));
        }
        shmkit.mark_consistent(lock);
        let released = shmkit.release(lock);
        if released != 0 {
            return Err(refused("release")(released));
        }
        self.goes_on(&user)?;
        let closed = (
            shmkit.close_condition(user.condition),
            shmkit.close_lock(lock),
        );
        if closed != (0, 0) {
            return Err(Crime::Refused.found(format!("close returned {closed:?}")));
        }
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

impl ConditionOperation {
    /// Whatever the dead have left: one that lives is notified, and all cells are to be had.
    fn goes_on(&self, user: &User) -> Result<(), Finding> {
        for count in [1, CELLS] {
            let waiters: Result<Vec<_>, _> = (0..count).map(|_| user.start_waiter()).collect();
            let waiters = waiters.map_err(|status| {
                Crime::Lost.found(format!("of {CELLS} cells one is lost: {status}"))
            })?;
            let how = (count == 1).then_some(1);
            let status = user.locked(|| user.shmkit.notify(user.condition, how));
            if status != 0 {
                return Err(refused("notify")(status));
            }
            for waiter in waiters {
                match process::wait(waiter, WATCHDOG) {
                    Ok(WaitStatus::Exited(_, 0)) => {}
                    Ok(other) => {
                        return Err(Crime::Refused.found(format!("a waiter's end: {other:?}")));
                    }
                    Err(_) => {
                        process::kill(waiter);
                        return Err(Crime::Stuck.found("a notification reaches nobody"));
                    }
                }
            }
        }
        let left = user.shmkit.condition_stat(user.condition);
        match left.map_err(refused("stat"))?.waiting {
            0 => Ok(()),
            left => Err(Crime::LeftBehind.found(format!("{left} wait who have returned"))),
        }
    }
}

/// The operations of conditions, those that take longest first.
pub fn operations() -> Vec<ConditionOperation> {
    let operation = |name, every, verb| ConditionOperation { name, verb, every };
    vec![
        operation("condition: wait", 16, Verb::Wait),
        operation("condition: wait, left by the dead", 4, Verb::Inherit),
        operation("condition: notify", 16, Verb::Notify(Some(1), 0)),
        operation(
            "condition: notify beside the dead",
            16,
            Verb::Notify(Some(1), DEAD),
        ),
        operation("condition: notify_all", 16, Verb::Notify(None, DEAD)),
        operation("condition: create_at", 4, Verb::CreateAt),
    ]
}
