//! Looks at what the dead have left of locks and participants, and has a survivor use both.

use crate::board::{Who, board};
use crate::byte;
use crate::library::{Segment, Status};
use crate::locks::{FOREVER, Kind, NOWAIT};
use crate::operation::{Crime, Finding, Look};
use crate::party::{PLACE, Party, managed};
use crate::process;
use crate::verify::NAME;
use shmkit::capi::lock::{SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED};
use std::fs::File;
use std::sync::atomic::Ordering::SeqCst;

const NOT_FOUND: Status = -4;
/// SHMKIT_ERR_TOO_MANY_PROCESSES.
const PARTICIPANTS: Status = -19;

/// Returns the byte that the participant with this ticket holds while it lives (docs/liveness.md).
pub fn byte_of(ticket: u64) -> i64 {
    (1 << 62) + ticket as i64
}

/// What a victim may have left.
pub struct Traces {
    /// What kind of lock it was.
    pub kind: Kind,
    /// How many participants the segment has room for.
    pub participants: u32,
    /// Whether the lock must be there; else it may be.
    pub made: bool,
    /// How often the lock may have been taken over from the dead, at the most.
    pub deaths: u64,
    /// How often somebody was told that he has done that.
    pub recovered: u64,
}

/// Makes a finding of a status.
pub fn refused(what: &'static str) -> impl FnOnce(Status) -> Finding {
    move |status| Crime::Refused.found(format!("a survivor's {what} returned {status}"))
}

impl Look<'_> {
    /// After whatever was done to a lock in a segment: a survivor gets it, and is told the truth; nobody dead is taken
    /// for alive; the table has room for as many as it should; nothing is left.
    pub fn lock_survives(&self, traces: &Traces) -> Result<(), Finding> {
        if !self.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = self.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        let party = self.find_lock(segment, traces)?;
        self.take_lock(&party, traces)?;
        board().verdict()?;
        self.table_has_room(segment, traces.participants)?;
        let closed = self.shmkit.close_lock(party.lock);
        if closed != 0 {
            return Err(refused("close of a lock")(closed));
        }
        self.remove(segment)?;
        self.nothing_is_left()
    }

    fn find_lock(&self, segment: Segment, traces: &Traces) -> Result<Party<'_>, Finding> {
        match self.shmkit.open_lock_at(traces.kind, segment, PLACE) {
            Ok(lock) => assert_eq!(self.shmkit.close_lock(lock), 0, "it is open"),
            Err(NOT_FOUND) if traces.made => {
                return Err(Crime::Lost.found("the lock is not there"));
            }
            Err(NOT_FOUND) => {}
            Err(status) => return Err(refused("open_at")(status)),
        }
        let lock = self.shmkit.create_lock_at(traces.kind, segment, PLACE);
        let lock = lock.map_err(refused("create_at"))?;
        let (shmkit, who) = (self.shmkit, Who::Survivor);
        Ok(Party::of(shmkit, who, traces.kind, segment, lock))
    }

    /// Takes the lock three times: from the dead, marked, and whole.
    fn take_lock(&self, party: &Party, traces: &Traces) -> Result<(), Finding> {
        let stat = || self.shmkit.lock_stat(party.lock).map_err(refused("stat"));
        let before = stat()?;
        let held = before.flags & SHMKIT_LOCK_HELD != 0;
        let marked = before.flags & SHMKIT_LOCK_OWNER_DIED != 0;
        let told = party.take().map_err(refused("acquire"))?;
        let after = stat()?;
        if told != (held || marked) {
            let text = format!("held: {held}, marked: {marked}; a survivor was told: {told}");
            return Err(Crime::Untold.found(text));
        }
        let recoveries = before.recoveries..=before.recoveries + u64::from(held);
        if after.recoveries != *recoveries.end() {
            let text = format!(
                "recoveries were {} and are {}",
                before.recoveries, after.recoveries
            );
            return Err(Crime::Untold.found(text));
        }
        if before.recoveries < traces.recovered || after.recoveries > traces.deaths {
            let text = format!(
                "{} recoveries were acknowledged, {} may have died, and the lock tells of {}",
                traces.recovered, traces.deaths, after.recoveries
            );
            return Err(Crime::Untold.found(text));
        }
        self.nobody_is_undead(after.owner_ticket)?;
        party.count(told).map_err(refused("count"))?;
        party.give().map_err(refused("release"))?;
        for marked in [told, false] {
            let again = self.shmkit.acquire(party.lock, NOWAIT);
            let again = again.map_err(refused("second acquire"))?;
            if again != marked {
                let text = format!("marked: {marked}; a second acquire was told: {again}");
                return Err(Crime::Untold.found(text));
            }
            let whole = self.shmkit.mark_consistent(party.lock);
            let given = self.shmkit.release(party.lock);
            if (whole, given) != (0, 0) {
                let text = format!("mark_consistent returned {whole}, release {given}");
                return Err(Crime::Refused.found(text));
            }
        }
        Ok(())
    }

    /// Checks that the kernel keeps no identity alive that is older than `mine`, which is ours.
    pub fn nobody_is_undead(&self, mine: u64) -> Result<(), Finding> {
        let path = self.place.path("victim");
        let file = File::options().read(true).write(true).open(path);
        let file = file.expect("the segment is there");
        match (1..mine).find(|ticket| byte::is_locked(&file, byte_of(*ticket))) {
            None => Ok(()),
            Some(ticket) => {
                let text =
                    format!("all but participant {mine} are dead, and {ticket} is kept alive");
                Err(Crime::Undead.found(text))
            }
        }
    }

    /// Checks that with us, who are a participant, as many find room as there are places, and no more.
    pub fn table_has_room(&self, segment: Segment, participants: u32) -> Result<(), Finding> {
        let lock = self
            .shmkit
            .built_in_lock(segment)
            .map_err(refused("lock"))?;
        let come = || {
            let taken = self.shmkit.acquire(lock, FOREVER);
            taken.map_or_else(|status| status, |_| self.shmkit.release(lock))
        };
        // We may not have come in yet.
        let mine = come();
        if mine != 0 {
            return Err(refused("claim")(mine));
        }
        let there = &board().there;
        there.store(0, SeqCst);
        let mut living = Vec::new();
        let mut found = Ok(());
        for number in 1..participants {
            let child = process::spawn(|| {
                let status = come();
                if status != 0 {
                    return -status;
                }
                there.fetch_add(1, SeqCst);
                loop {
                    nix::unistd::pause();
                }
            });
            living.push(child);
            while there.load(SeqCst) < u64::from(number) && !process::has_ended(child) {
                std::thread::yield_now();
            }
            if process::has_ended(child) {
                let text = format!("of {participants} places only {number} can be taken");
                found = Err(Crime::Undead.found(text));
                break;
            }
        }
        if found.is_ok() {
            let one_too_many = process::spawn(|| -come());
            let end = process::wait(one_too_many, process::WATCHDOG);
            if !matches!(end, Ok(nix::sys::wait::WaitStatus::Exited(_, code)) if -code == PARTICIPANTS)
            {
                let text = format!("one more than {participants} participants: {end:?}");
                found = Err(Crime::Shared.found(text));
            }
        }
        living.into_iter().for_each(process::kill);
        let closed = self.shmkit.close_lock(lock);
        assert_eq!(closed, 0, "it is open");
        found
    }
}
