//! Locks that are broken on purpose, made here of a word in a plain file: what each does wrong must be found.
//!
//! ```text
//! file:  | first | second | …     64: the owner's number, or 0     72: the last in the queue     80: whose turn it is
//! ```

use crate::suite::harness::library::{Library, Options, Segment};
use crate::suite::harness::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::suite::harness::place::Place;
use crate::suite::harness::series::Mode;
use crate::suite::harness::shared_state::{Said, Who, board};
use crate::suite::harness::verify::{NAME, PAGE};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What is wrong with a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BrokenLock {
    /// Nobody takes it from the dead.
    NeverRecovers,
    /// It asks for the process number of its owner, which is another one in another container.
    BelievesNumbers,
    /// It is taken from the dead, and nobody is told.
    TellsNobody,
    /// Who waits sleeps until it is woken, and looks at the owner's life before that alone.
    SleepsForEver,
    /// Who waits has a place in a queue, and it is its turn when it is dead, too.
    Queues,
}

/// What a process in another PID namespace is here: nobody. Above what numbers can be (PID_MAX_LIMIT).
const ELSEWHERE: i32 = 1 << 23;

/// One process that uses such a lock.
struct User {
    flaw: BrokenLock,
    who: Who,
    segment: Segment,
    words: &'static [AtomicU64],
}

const WORD: usize = 8;
const LAST: usize = 9;
const TURN: usize = 10;

impl User {
    fn new(flaw: BrokenLock, who: Who, shmkit: &Library) -> User {
        let segment = shmkit.open(NAME, PAGE, Options::default());
        let segment = segment.expect("it is there");
        let base = shmkit.data(segment);
        let base = base.expect("it has an address").cast::<AtomicU64>();
        // SAFETY: a page is mapped there as long as this process lives, and all use it as atomics.
        let words = unsafe { std::slice::from_raw_parts(base, TURN + 1) };
        User {
            flaw,
            who,
            segment,
            words,
        }
    }

    fn number(&self) -> u64 {
        match (self.flaw, self.who) {
            (BrokenLock::BelievesNumbers, Who::Victim) => ELSEWHERE as u64,
            _ => u64::from(std::process::id()),
        }
    }

    fn is_dead(&self, owner: u64) -> bool {
        let nobody = Err(nix::errno::Errno::ESRCH);
        self.flaw != BrokenLock::NeverRecovers && kill(Pid::from_raw(owner as i32), None) == nobody
    }

    /// Waits while the word is what was seen.
    fn wait(&self, seen: u64) {
        if self.flaw != BrokenLock::SleepsForEver {
            return std::thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: the kernel reads the four bytes at the word, which is mapped as long as this process lives.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.words[WORD].as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                seen as u32,
                std::ptr::null::<libc::timespec>(),
                std::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
    }

    fn wait_for_turn(&self) {
        let turn = self.words[LAST].fetch_add(1, SeqCst);
        while self.words[TURN].load(SeqCst) != turn {
            self.wait(0);
        }
    }

    /// Takes it, and says whether somebody died.
    fn take(&self) -> bool {
        let word = &self.words[WORD];
        board().say(self.who, Said::Asks);
        if self.flaw == BrokenLock::Queues {
            self.wait_for_turn();
        }
        let told = loop {
            let seen = word.load(SeqCst);
            if (seen == 0 || self.is_dead(seen))
                && word
                    .compare_exchange(seen, self.number(), SeqCst, SeqCst)
                    .is_ok()
            {
                break seen != 0 && self.flaw != BrokenLock::TellsNobody;
            }
            self.wait(seen);
        };
        board().say(self.who, Said::Holds);
        board().enter(self.who, told);
        board().judge(self.who, told);
        told
    }

    fn pass(&self) {
        let told = self.take();
        let [first, second] = [0, 1].map(|number| &self.words[number]);
        board().see(first.load(SeqCst) == second.load(SeqCst), told);
        second.store(first.fetch_add(1, SeqCst), SeqCst);
        second.fetch_add(1, SeqCst);
        board().leave();
        board().say(self.who, Said::Gives);
        self.words[WORD].store(0, SeqCst);
        if self.flaw == BrokenLock::Queues {
            self.words[TURN].fetch_add(1, SeqCst);
        }
        board().say(self.who, Said::Idle);
        if self.who == Who::Bystander {
            board().pass();
        }
    }
}

impl BrokenLock {
    /// Each of them.
    pub const ALL: [BrokenLock; 5] = [
        BrokenLock::NeverRecovers,
        BrokenLock::BelievesNumbers,
        BrokenLock::TellsNobody,
        BrokenLock::SleepsForEver,
        BrokenLock::Queues,
    ];

    /// Who must be there for it to be found.
    pub fn mode(self) -> Mode {
        match self {
            BrokenLock::BelievesNumbers | BrokenLock::SleepsForEver => Mode::Bystander,
            BrokenLock::Queues => Mode::Waiter,
            BrokenLock::NeverRecovers | BrokenLock::TellsNobody => Mode::Alone,
        }
    }
}

impl Operation for BrokenLock {
    fn name(&self) -> String {
        let name = match self {
            BrokenLock::NeverRecovers => "a lock that is never recovered",
            BrokenLock::BelievesNumbers => "a lock that believes in process numbers",
            BrokenLock::TellsNobody => "a lock that tells nobody of a death",
            BrokenLock::SleepsForEver => "a lock that sleeps until it is woken",
            BrokenLock::Queues => "a lock that keeps a place for the dead",
        };
        format!("broken: {name}")
    }

    fn every(&self) -> usize {
        8
    }

    fn guilty_of(&self) -> Option<Crime> {
        Some(match self {
            BrokenLock::NeverRecovers | BrokenLock::SleepsForEver | BrokenLock::Queues => {
                Crime::Stuck
            }
            BrokenLock::BelievesNumbers => Crime::Shared,
            BrokenLock::TellsNobody => Crime::Untold,
        })
    }

    fn patience(&self) -> u32 {
        1
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            let made = shmkit.create(Some(NAME), PAGE, Options::default());
            made.expect("a segment can be made");
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let user = User::new(*self, Who::Victim, shmkit);
        Box::new(move || {
            user.pass();
            0
        })
    }

    fn makes_others_wait(&self) -> bool {
        // Who takes the living for dead does not wait for them.
        *self != BrokenLock::BelievesNumbers
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let user = User::new(*self, Who::Bystander, shmkit);
        Some(Box::new(move || {
            user.pass();
            0
        }))
    }

    fn look_at(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Finding> {
        board().nobody_came_between(passed)
    }

    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let user = User::new(*self, Who::Survivor, look.shmkit);
        user.pass();
        board().verdict()?;
        look.remove(user.segment)?;
        look.nothing_is_left()
    }
}
