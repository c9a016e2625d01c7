//! The operations of readers-writer locks: read, write, upgrade, downgrade, give back, mark consistent, make at a place,
//! beside a reader or a writer that waits, and after deaths of both.
//!
//! ```text
//! data:  | first | second | …     64: the lock, with two cells
//! ```
//!
//! Both counters are raised by who writes, with a call of the library between them: who dies in it leaves them unlike.
//! What the victim says of itself on the board is whether it writes; `there` is 1 while it reads.

use crate::board::{Mark, Said, Who, board};
use crate::library::{Library, Segment, Status, functions};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, introduce, make, managed, open, status};
use crate::place::Place;
use crate::process::run_and_die;
use crate::survivor::refused;
use crate::verify::NAME;
use nix::unistd::Pid;
use shmkit::capi::rwlock::{shmkit_rwlock_info, shmkit_rwlock_options};
use shmkit::capi::segment::shmkit_segment;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

functions! {
    RwLocks:
    create_at(*const shmkit_segment, u64, *const shmkit_rwlock_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_rwlock_options, *mut *mut c_void);
    acquire_read(*mut c_void, i64, u32, *mut u32);
    release_read(*mut c_void);
    acquire_write(*mut c_void, i64, u32, *mut u32);
    release_write(*mut c_void);
    upgrade(*mut c_void, i64, u32);
    downgrade(*mut c_void);
    mark_consistent(*mut c_void);
    stat(*const c_void, *mut shmkit_rwlock_info);
    close(*mut c_void);
}

/// Where one stands that is only there for the first calls, beside the locks and the event that are.
const WARM_UP: u64 = 2048;

const FOREVER: i64 = -1;
const NOWAIT: i64 = 0;
const NOT_FOUND: Status = -4;
const TIMEOUT: Status = -10;
const DEADLOCK: Status = -26;

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

/// A process and the lock that it has open.
#[derive(Clone, Copy)]
struct Party<'a> {
    functions: &'a RwLocks,
    handle: *mut c_void,
    who: Who,
    counters: [&'a AtomicU64; 2],
}

impl<'a> Party<'a> {
    fn of(shmkit: &'a Library, who: Who, segment: Segment, handle: *mut c_void) -> Party<'a> {
        let base = shmkit.data(segment).expect("it has an address");
        let words = base.cast::<AtomicU64>();
        let counters = [0, 1].map(|number| {
            // SAFETY: the data has a page, and more than two words.
            let word = unsafe { words.add(number) };
            // SAFETY: it is aligned, mapped until the handle is closed, after which nobody counts, and all processes
            // use it as an atomic.
            unsafe { &*word }
        });
        Party {
            functions: &shmkit.rwlocks,
            handle,
            who,
            counters,
        }
    }

    /// Makes or finds it.
    fn make(
        shmkit: &'a Library,
        who: Who,
        segment: Segment,
        offset: u64,
    ) -> Result<Party<'a>, Status> {
        let options = shmkit_rwlock_options {
            struct_size: size_of::<shmkit_rwlock_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            // The dead and the living have none to spare.
            readers: 2,
            reserved: 0,
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: a Segment is an open handle; options and out live through the call.
        let made = unsafe {
            (shmkit.rwlocks.create_at)(segment.0, offset, &raw const options, &raw mut handle)
        };
        good(made).map(|()| Party::of(shmkit, who, segment, handle))
    }

    /// Finds it.
    fn find(
        shmkit: &'a Library,
        who: Who,
        segment: Segment,
        offset: u64,
    ) -> Result<Party<'a>, Status> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: as in `make`.
        let found = unsafe {
            (shmkit.rwlocks.open_at)(segment.0, offset, std::ptr::null(), &raw mut handle)
        };
        good(found).map(|()| Party::of(shmkit, who, segment, handle))
    }

    /// As `find`, by one who is a participant already.
    fn known(shmkit: &'a Library, who: Who) -> Party<'a> {
        let segment = open(shmkit);
        introduce(shmkit, segment);
        Party::find(shmkit, who, segment, PLACE).expect("it was made")
    }

    fn acquire_read(&self, timeout: i64) -> Result<bool, Status> {
        let mut told = 0;
        // SAFETY: a Party has an open handle; out lives through the call.
        good(unsafe { (self.functions.acquire_read)(self.handle, timeout, 0, &raw mut told) })?;
        Ok(told != 0)
    }

    fn release_read(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.release_read)(self.handle) })
    }

    fn acquire_write(&self, timeout: i64) -> Result<bool, Status> {
        let mut told = 0;
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.acquire_write)(self.handle, timeout, 0, &raw mut told) })?;
        Ok(told != 0)
    }

    fn release_write(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.release_write)(self.handle) })
    }

    fn upgrade(&self, timeout: i64) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.upgrade)(self.handle, timeout, 0) })
    }

    fn downgrade(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.downgrade)(self.handle) })
    }

    fn mark_consistent(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`.
        good(unsafe { (self.functions.mark_consistent)(self.handle) })
    }

    fn stat(&self) -> Result<shmkit_rwlock_info, Status> {
        // SAFETY: it holds nothing but integers.
        let mut out: shmkit_rwlock_info = unsafe { std::mem::zeroed() };
        out.struct_size = size_of::<shmkit_rwlock_info>() as u32;
        // SAFETY: as in `acquire_read`; out has its size set.
        good(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire_read`; each handle is closed once.
        good(unsafe { (self.functions.close)(self.handle) })
    }

    /// Notes whether the victim reads.
    fn say_reading(&self, reads: bool) {
        if self.who == Who::Victim {
            board().there.store(reads.into(), SeqCst);
        }
    }

    /// Begins to read; returns what it was told.
    fn start_reading(&self) -> Result<bool, Status> {
        let told = self.acquire_read(FOREVER)?;
        self.say_reading(true);
        board().judge(self.who, told);
        Ok(told)
    }

    /// Looks at what others write.
    fn look(&self, told: bool) -> Result<(), Status> {
        let first = self.counters[0].load(Relaxed);
        self.stat()?;
        board().see(first == self.counters[1].load(Relaxed), told);
        Ok(())
    }

    fn stop_reading(&self) -> Result<(), Status> {
        self.say_reading(false);
        self.release_read()
    }

    fn read_once(&self) -> Result<(), Status> {
        let told = self.start_reading()?;
        self.look(told)?;
        self.stop_reading()
    }

    /// Begins to write; returns what it was told.
    fn start_writing(&self) -> Result<bool, Status> {
        board().say(self.who, Said::Asks);
        let told = self.acquire_write(FOREVER)?;
        self.writes(told);
        Ok(told)
    }

    fn writes(&self, told: bool) {
        board().say(self.who, Said::Holds);
        board().enter(self.who, told);
        board().judge(self.who, told);
    }

    /// Makes whole what was left half done, and counts; says so where `told`.
    fn count(&self, told: bool) -> Result<(), Status> {
        let [first, second] = self.counters;
        board().see(first.load(Relaxed) == second.load(Relaxed), told);
        second.store(first.load(Relaxed), Relaxed);
        first.fetch_add(1, Relaxed);
        self.stat()?;
        second.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Says that all is whole.
    fn mend(&self) -> Result<(), Status> {
        if self.who == Who::Victim {
            board().set_mark(Mark::Going);
        }
        self.mark_consistent()?;
        if self.who == Who::Victim {
            board().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Notes that it is about to write no more.
    fn stops_writing(&self) {
        board().leave();
        board().say(self.who, Said::Gives);
    }

    fn stop_writing(&self) -> Result<(), Status> {
        self.stops_writing();
        self.release_write()?;
        board().say(self.who, Said::Idle);
        Ok(())
    }

    /// From the moment on at which it writes.
    fn write_to_the_end(&self, told: bool) -> Result<(), Status> {
        self.count(told)?;
        if told {
            self.mend()?;
        }
        self.stop_writing()
    }

    fn write_once(&self) -> Result<(), Status> {
        let told = self.start_writing()?;
        self.write_to_the_end(told)
    }

    /// Reads, and writes what it has read; where another one waits to write it leaves it at that.
    fn upgrade_and_write(&self) -> Result<(), Status> {
        board().say(self.who, Said::Asks);
        match self.upgrade(FOREVER) {
            Ok(()) => {
                self.say_reading(false);
                self.writes(false);
                self.write_to_the_end(false)
            }
            Err(DEADLOCK) => {
                board().say(self.who, Said::Idle);
                self.stop_reading()
            }
            Err(status) => Err(status),
        }
    }

    fn downgrade_and_read(&self) -> Result<(), Status> {
        self.stops_writing();
        self.downgrade()?;
        board().say(self.who, Said::Idle);
        self.say_reading(true);
        self.look(false)?;
        self.stop_reading()
    }
}

impl Library {
    /// As `warm_up`, for readers-writer locks.
    pub fn warm_up_rwlocks(&self, segment: Segment) -> Result<(), Status> {
        Party::make(self, Who::Survivor, segment, WARM_UP)?.close()?;
        let party = Party::find(self, Who::Survivor, segment, WARM_UP)?;
        for _ in 0..2 {
            party.acquire_read(FOREVER)?;
            party.release_read()?;
        }
        party.acquire_read(FOREVER)?;
        assert_eq!(party.acquire_write(1), Err(TIMEOUT), "it is read");
        party.upgrade(FOREVER)?;
        assert_eq!(party.acquire_read(1), Err(TIMEOUT), "it is written");
        party.downgrade()?;
        party.release_read()?;
        party.acquire_write(NOWAIT)?;
        party.mark_consistent()?;
        party.stat()?;
        party.release_write()?;
        party.close()
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Reads, as it has before.
    Read,
    /// Reads for the first time.
    ReadFirst,
    /// Reads after somebody has died writing.
    ReadMarked,
    /// Writes.
    Write,
    /// Writes after somebody has died writing, and mends.
    TakeOver,
    /// Writes after both who may read have died reading.
    WriteAfterReaders,
    /// Reads already, and writes.
    Upgrade,
    /// The same, after somebody has died reading.
    UpgradeAfterReader,
    /// Writes already, and reads.
    Downgrade,
    /// Reads already.
    ReleaseRead,
    /// Writes already.
    ReleaseWrite,
    /// Writes already, with the mark of an earlier death.
    MarkConsistent,
    /// Makes the lock.
    CreateAt,
}

/// Who comes as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Reader,
    Writer,
}

/// An operation of readers-writer locks.
pub struct RwLockOperation {
    verb: Verb,
    beside: Beside,
    every: usize,
    /// Whether the survivor writes before it reads: every other time.
    writes_first: Cell<bool>,
}

impl RwLockOperation {
    fn has_marked(&self) -> bool {
        matches!(
            self.verb,
            Verb::ReadMarked | Verb::TakeOver | Verb::MarkConsistent
        )
    }
}

impl Operation for RwLockOperation {
    fn name(&self) -> String {
        let verb = match self.verb {
            Verb::Read => "read",
            Verb::ReadFirst => "read, first time",
            Verb::ReadMarked => "read, marked",
            Verb::Write => "write",
            Verb::TakeOver => "take over",
            Verb::WriteAfterReaders => "write after dead readers",
            Verb::Upgrade => "upgrade",
            Verb::UpgradeAfterReader => "upgrade after a dead reader",
            Verb::Downgrade => "downgrade",
            Verb::ReleaseRead => "release_read",
            Verb::ReleaseWrite => "release_write",
            Verb::MarkConsistent => "mark_consistent",
            Verb::CreateAt => "create_at",
        };
        let beside = match self.beside {
            Beside::Nobody => "",
            Beside::Reader => ", beside a reader",
            Beside::Writer => ", beside a writer",
        };
        format!("rwlock: {verb}{beside}")
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        self.writes_first.set(!self.writes_first.get());
        Some(Box::new(move || {
            make(shmkit, 2, None);
            if self.verb == Verb::CreateAt {
                return;
            }
            let made = Party::make(shmkit, Who::Survivor, open(shmkit), PLACE);
            made.expect("it can be made").close().expect("it is open");
            let read = || {
                let party = Party::known(shmkit, Who::Survivor);
                assert_eq!(party.acquire_read(FOREVER), Ok(false));
            };
            if self.has_marked() {
                run_and_die(|| {
                    let party = Party::known(shmkit, Who::Survivor);
                    assert_eq!(party.acquire_write(FOREVER), Ok(false));
                    party.counters[0].fetch_add(1, Relaxed);
                });
                board().set_mark(Mark::There);
            }
            match self.verb {
                Verb::WriteAfterReaders => (0..2).for_each(|_| run_and_die(read)),
                Verb::UpgradeAfterReader => run_and_die(read),
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::CreateAt {
            let segment = open(shmkit);
            introduce(shmkit, segment);
            return Box::new(move || status(Party::make(shmkit, Who::Victim, segment, PLACE)));
        }
        let party = Party::known(shmkit, Who::Victim);
        let free = "nobody else is there";
        match self.verb {
            Verb::Read => party.read_once().expect(free),
            Verb::Upgrade | Verb::UpgradeAfterReader | Verb::ReleaseRead => {
                assert_eq!(party.start_reading(), Ok(false));
            }
            Verb::Downgrade | Verb::ReleaseWrite | Verb::MarkConsistent => {
                let told = party.start_writing().expect(free);
                party.count(told).expect("it is open");
            }
            _ => {}
        }
        Box::new(move || {
            status(match self.verb {
                Verb::Read | Verb::ReadFirst | Verb::ReadMarked => party.read_once(),
                Verb::Write | Verb::TakeOver | Verb::WriteAfterReaders => party.write_once(),
                Verb::Upgrade | Verb::UpgradeAfterReader => party.upgrade_and_write(),
                Verb::Downgrade => party.downgrade_and_read(),
                Verb::ReleaseRead => party.stop_reading(),
                Verb::ReleaseWrite => party.stop_writing(),
                Verb::MarkConsistent => party.mend(),
                Verb::CreateAt => unreachable!("it has left above"),
            })
        })
    }

    fn makes_others_wait(&self) -> bool {
        self.beside != Beside::Nobody
    }

    fn holds_at_marker(&self) -> bool {
        match self.verb {
            // Who writes after who only reads is told of the deadlock, and who reads passes both.
            Verb::Upgrade | Verb::UpgradeAfterReader | Verb::ReleaseRead => {
                self.beside == Beside::Writer
            }
            Verb::Downgrade | Verb::ReleaseWrite | Verb::MarkConsistent => self.makes_others_wait(),
            _ => false,
        }
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let party = Party::known(shmkit, Who::Bystander);
        Some(Box::new(move || {
            status(match self.beside {
                Beside::Reader => party.read_once(),
                Beside::Writer | Beside::Nobody => party.write_once().map(|()| board().pass()),
            })
        }))
    }

    fn look_at(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Finding> {
        if passed && self.beside == Beside::Writer && board().there.load(SeqCst) == 1 {
            return Err(Crime::Shared.found("another one writes while somebody who lives reads"));
        }
        board().nobody_came_between(passed)
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = look.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        let who = Who::Survivor;
        match Party::find(look.shmkit, who, segment, PLACE) {
            Ok(party) => party.close().map_err(refused("close of the lock"))?,
            Err(NOT_FOUND) if self.verb == Verb::CreateAt && !done => {}
            Err(NOT_FOUND) => return Err(Crime::Lost.found("the lock is not there")),
            Err(status) => return Err(refused("open_at")(status)),
        }
        let party = Party::make(look.shmkit, who, segment, PLACE).map_err(refused("create_at"))?;
        let read = || -> Result<bool, Finding> {
            let told = party.start_reading().map_err(refused("acquire_read"))?;
            party.look(told).map_err(refused("stat"))?;
            party.stop_reading().map_err(refused("release_read"))?;
            Ok(told)
        };
        let write = || -> Result<bool, Finding> {
            let told = party.start_writing().map_err(refused("acquire_write"))?;
            let mine = party.stat().map_err(refused("stat"))?.owner_ticket;
            look.nobody_is_undead(mine)?;
            party.count(told).map_err(refused("stat"))?;
            party.stop_writing().map_err(refused("release_write"))?;
            Ok(told)
        };
        // 1. Whoever comes first, all are told the same until one of them says that all is whole.
        let told = match self.writes_first.get() {
            true => [write()?, read()?, write()?],
            false => [read()?, write()?, read()?],
        };
        board().verdict()?;
        if told != [told[0]; 3] {
            return Err(Crime::Untold.found(format!("survivors were told {told:?}")));
        }
        let stat = party.stat().map_err(refused("stat"))?;
        if stat.recoveries > u64::from(self.has_marked()) + 1 || (told[0] && stat.recoveries == 0) {
            let text = format!(
                "{} recoveries, and a survivor was told: {}",
                stat.recoveries, told[0]
            );
            return Err(Crime::Untold.found(text));
        }
        // 2. It does all that such a lock does, and nothing stands in the way of it.
        party
            .acquire_write(NOWAIT)
            .map_err(refused("second write"))?;
        party
            .mark_consistent()
            .map_err(refused("mark_consistent"))?;
        party.downgrade().map_err(refused("downgrade"))?;
        let again = party.acquire_read(NOWAIT).map_err(refused("second read"))?;
        if again {
            return Err(Crime::Untold.found("a death is told that was mended"));
        }
        party.release_read().map_err(refused("release_read"))?;
        party.upgrade(NOWAIT).map_err(refused("upgrade"))?;
        party.release_write().map_err(refused("release_write"))?;
        let stat = party.stat().map_err(refused("stat"))?;
        if (stat.readers, stat.flags) != (0, 0) {
            let text = format!("{} readers, flags {:#x} are left", stat.readers, stat.flags);
            return Err(Crime::Stuck.found(text));
        }
        party.close().map_err(refused("close of the lock"))?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

/// The operations of readers-writer locks, those that take longest first.
pub fn operations() -> Vec<RwLockOperation> {
    use Beside::{Nobody, Reader, Writer};
    let operation = |every, verb, beside| RwLockOperation {
        verb,
        beside,
        every,
        writes_first: Cell::new(false),
    };
    vec![
        operation(16, Verb::TakeOver, Writer),
        operation(16, Verb::TakeOver, Reader),
        operation(16, Verb::WriteAfterReaders, Writer),
        operation(16, Verb::UpgradeAfterReader, Writer),
        operation(16, Verb::UpgradeAfterReader, Reader),
        operation(16, Verb::ReadMarked, Writer),
        operation(8, Verb::Write, Writer),
        operation(8, Verb::Write, Reader),
        operation(8, Verb::Upgrade, Writer),
        operation(8, Verb::Upgrade, Reader),
        operation(8, Verb::Downgrade, Writer),
        operation(8, Verb::Downgrade, Reader),
        operation(8, Verb::ReadFirst, Writer),
        operation(2, Verb::Read, Writer),
        operation(2, Verb::MarkConsistent, Writer),
        operation(2, Verb::ReleaseWrite, Writer),
        operation(2, Verb::ReleaseWrite, Reader),
        operation(1, Verb::ReleaseRead, Writer),
        operation(16, Verb::CreateAt, Nobody),
    ]
}
