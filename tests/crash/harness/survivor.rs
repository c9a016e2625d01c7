//! Checks what the dead processes have left of locks and participants, and uses both from a surviving process.

use crate::suite::capi::lock::Kind;
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOT_FOUND, NOWAIT, Status, TOO_MANY_PROCESSES, check};
use crate::suite::harness::byte;
use crate::suite::harness::fixture::{NAME, PLACE, managed, name};
use crate::suite::harness::lock_worker::LockWorker;
use crate::suite::harness::operation::{Failure, Verifier, Violation};
use crate::suite::harness::process;
use crate::suite::harness::shared_state::{Role, shared_state};
use nix::sys::wait::WaitStatus;
use shmkit::capi::lock::{SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED};
use std::fs::File;
use std::sync::atomic::Ordering::SeqCst;

/// Returns the byte that the participant with this ticket keeps locked while it lives (docs/liveness.md).
pub fn liveness_byte(ticket: u64) -> i64 {
    (1 << 62) + ticket as i64
}

/// What a victim may have left of a lock.
pub struct LockExpectation {
    /// The kind of the lock.
    pub kind: Kind,
    /// The number of participants that the segment has room for.
    pub participants: u32,
    /// Whether the lock must exist; else it may.
    pub exists: bool,
    /// The number of processes that may have died as its owner.
    pub deaths: u64,
    /// The number of processes that got the report of such a death.
    pub recovered: u64,
}

/// Returns what turns the status of a survivor's call into a failure.
pub fn refused(what: &'static str) -> impl FnOnce(Status) -> Failure {
    move |status| Violation::Refused.failure(format!("a survivor's {what} returned {status}"))
}

/// Opens and closes the object at its place, which must exist if `required`; then opens or creates it with `create`.
pub fn reopen<T>(
    required: bool,
    open: Result<T, Status>,
    close: impl FnOnce(T) -> Result<(), Status>,
    create: impl FnOnce() -> Result<T, Status>,
) -> Result<T, Failure> {
    match open {
        Ok(object) => close(object).map_err(refused("close of the object"))?,
        Err(NOT_FOUND) if !required => {}
        Err(NOT_FOUND) => return Err(Violation::Lost.failure("the object does not exist")),
        Err(status) => return Err(refused("open_at")(status)),
    }
    create().map_err(refused("create_at"))
}

impl Verifier<'_> {
    /// Opens the managed segment under test, which must still have its name.
    pub fn open_managed(&self) -> Result<Segment, Failure> {
        self.expect_name()?;
        self.shmkit
            .open(NAME, 0, managed(0))
            .map_err(refused("open"))
    }

    /// After an operation on a lock in a segment: the next owner acquires it and gets the right report, no dead
    /// process is taken for alive, the table of participants has all its places, and nothing is left behind.
    pub fn lock_survives(&self, expected: &LockExpectation) -> Result<(), Failure> {
        let segment = self.open_managed()?;
        let worker = self.reopen_lock(segment, expected)?;
        self.use_lock(&worker, expected)?;
        shared_state().verdict()?;
        self.table_has_room(segment, expected.participants)?;
        check(self.shmkit.close_lock(worker.lock)).map_err(refused("close of a lock"))?;
        self.remove_last(segment)
    }

    fn reopen_lock(
        &self,
        segment: Segment,
        expected: &LockExpectation,
    ) -> Result<LockWorker<'_>, Failure> {
        let lock = reopen(
            expected.exists,
            self.shmkit.open_lock_at(expected.kind, segment, PLACE),
            |lock| check(self.shmkit.close_lock(lock)),
            || self.shmkit.create_lock_at(expected.kind, segment, PLACE),
        )?;
        let (shmkit, role) = (self.shmkit, Role::Survivor);
        Ok(LockWorker::of(shmkit, role, expected.kind, segment, lock))
    }

    /// Acquires the lock three times: from a dead owner, with its mark, and consistent.
    fn use_lock(&self, worker: &LockWorker, expected: &LockExpectation) -> Result<(), Failure> {
        let stat = || self.shmkit.lock_stat(worker.lock).map_err(refused("stat"));
        let before = stat()?;
        let held = before.flags & SHMKIT_LOCK_HELD != 0;
        let marked = before.flags & SHMKIT_LOCK_OWNER_DIED != 0;
        let owner_died = worker.acquire().map_err(refused("acquire"))?;
        let after = stat()?;
        if owner_died != (held || marked) {
            let text =
                format!("held: {held}, marked: {marked}; acquire reported a death: {owner_died}");
            return Err(Violation::Misreported.failure(text));
        }
        let recoveries = before.recoveries + u64::from(held);
        if after.recoveries != recoveries {
            let text = format!("{} recoveries, expected {recoveries}", after.recoveries);
            return Err(Violation::Misreported.failure(text));
        }
        if before.recoveries < expected.recovered || after.recoveries > expected.deaths {
            let text = format!(
                "{} recoveries were acknowledged, at most {} owners have died, and the lock counts {}",
                expected.recovered, expected.deaths, after.recoveries
            );
            return Err(Violation::Misreported.failure(text));
        }
        self.check_dead_are_dead(after.owner_ticket)?;
        worker.count(owner_died).map_err(refused("count"))?;
        worker.release().map_err(refused("release"))?;
        for marked in [owner_died, false] {
            let again = self.shmkit.acquire(worker.lock, NOWAIT);
            let again = again.map_err(refused("second acquire"))?;
            if again != marked {
                let text = format!("marked: {marked}; a second acquire reported a death: {again}");
                return Err(Violation::Misreported.failure(text));
            }
            check(self.shmkit.mark_consistent(worker.lock)).map_err(refused("mark_consistent"))?;
            check(self.shmkit.release(worker.lock)).map_err(refused("release"))?;
        }
        Ok(())
    }

    /// Checks that the kernel keeps no participant alive that is older than this process, whose ticket is `mine`.
    pub fn check_dead_are_dead(&self, mine: u64) -> Result<(), Failure> {
        let path = self.place.path(name());
        let file = File::options().read(true).write(true).open(path);
        let file = file.expect("the segment exists");
        match (1..mine).find(|ticket| byte::is_locked(&file, liveness_byte(*ticket))) {
            None => Ok(()),
            Some(ticket) => {
                let text =
                    format!("only participant {mine} is alive, and the byte of {ticket} is locked");
                Err(Violation::TakenForAlive.failure(text))
            }
        }
    }

    /// Checks that, with this process, exactly this number of participants can attach.
    pub fn table_has_room(&self, segment: Segment, participants: u32) -> Result<(), Failure> {
        let lock = self
            .shmkit
            .built_in_lock(segment)
            .map_err(refused("lock"))?;
        let attach = || {
            let acquired = self.shmkit.acquire(lock, FOREVER);
            acquired.map_or_else(|status| status, |_| self.shmkit.release(lock))
        };
        // This process may not have attached yet.
        check(attach()).map_err(refused("claim"))?;
        let attached = &shared_state().attached;
        attached.store(0, SeqCst);
        let mut children = Vec::new();
        let mut result = Ok(());
        for number in 1..participants {
            let child = process::spawn(|| {
                let status = attach();
                if status != 0 {
                    return -status;
                }
                attached.fetch_add(1, SeqCst);
                loop {
                    nix::unistd::pause();
                }
            });
            children.push(child);
            while attached.load(SeqCst) < u64::from(number) && !process::has_ended(child) {
                std::thread::yield_now();
            }
            if process::has_ended(child) {
                let text = format!("of {participants} places only {number} are free");
                result = Err(Violation::TakenForAlive.failure(text));
                break;
            }
        }
        if result.is_ok() {
            let one_too_many = process::spawn(|| -attach());
            let end = process::wait(one_too_many, process::WATCHDOG);
            if !matches!(end, Ok(WaitStatus::Exited(_, code)) if -code == TOO_MANY_PROCESSES) {
                let text = format!("one more than {participants} participants: {end:?}");
                result = Err(Violation::NotExclusive.failure(text));
            }
        }
        children.into_iter().for_each(process::kill);
        assert_eq!(self.shmkit.close_lock(lock), 0, "the lock is open");
        result
    }
}
