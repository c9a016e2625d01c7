//! Words that victim, bystander and verifier share beside the memory under test: what each was told, and when.
//!
//! | said     | means                                            | a survivor is told of a death |
//! |----------|--------------------------------------------------|-------------------------------|
//! | `Idle`   | the victim does not hold the lock                | no                            |
//! | `Asks`   | it has called acquire, which has not returned    | perhaps                       |
//! | `Holds`  | acquire has returned, release was not called     | yes                           |
//! | `Gives`  | it has called release, which has not returned    | perhaps                       |
//!
//! If an earlier owner has died as well, a survivor is told of that one, unless it was marked consistent since.

use crate::suite::harness::operation::{Crime, Finding};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What the victim says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It does not hold the lock.
    Idle,
    /// It has called acquire.
    Asks,
    /// Acquire has returned.
    Holds,
    /// It has called release.
    Gives,
}

/// Whether a death before the victim's is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// There was none, or mark_consistent has returned.
    None,
    /// There was one.
    There,
    /// mark_consistent was called, and has not returned.
    Going,
}

/// Who takes the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The process that is to die.
    Victim = 1,
    /// The process that waits for it.
    Bystander = 2,
    /// The process that looks afterwards.
    Survivor = 3,
}

/// The words; all zeros is how each victim finds them.
pub struct Board {
    said: AtomicU64,
    mark: AtomicU64,
    /// Who is between acquire and release; one who died there stays until the next one comes.
    inside: AtomicU64,
    /// Whether the bystander has had the lock and has given it back.
    passed: AtomicU64,
    /// The ticket under which the victim holds something.
    pub ticket: AtomicU64,
    /// How many processes have what they wanted.
    pub there: AtomicU64,
    /// The first thing that somebody found wrong; 0: nothing.
    wrong: AtomicU64,
}

/// What can go wrong between two who are told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Two are inside.
    TwoInside,
    /// Half of the work of a dead one is there, untold.
    HalfDone,
    /// A death is told that was none.
    NoDeath,
    /// A death is not told.
    NotTold,
    /// A name has gone that somebody relied on.
    PulledAway,
    /// What somebody wrote is not there.
    NotWritten,
}

impl Wrong {
    const ALL: [Wrong; 6] = [
        Wrong::TwoInside,
        Wrong::HalfDone,
        Wrong::NoDeath,
        Wrong::NotTold,
        Wrong::PulledAway,
        Wrong::NotWritten,
    ];

    fn found(self) -> Finding {
        match self {
            Wrong::TwoInside => Crime::Shared.found(
                "somebody got the lock while another one was inside, and was told of no death",
            ),
            Wrong::HalfDone => Crime::Untold.found(
                "what the lock guards was half done, and whoever got it was told of no death",
            ),
            Wrong::NoDeath => {
                Crime::Untold.found("somebody was told of a death where nobody had died")
            }
            Wrong::NotTold => {
                Crime::Untold.found("an owner had died, and the next one was not told")
            }
            Wrong::PulledAway => Crime::Lost.found("the name was taken from under somebody"),
            Wrong::NotWritten => Crime::Lost.found("what was written is not there"),
        }
    }
}

static BOARD: OnceLock<&'static Board> = OnceLock::new();

/// Returns words that are zero and that children forked later share; they live as long as the process.
pub fn shared_words(count: usize) -> &'static [AtomicU64] {
    let length = NonZeroUsize::new(count * size_of::<AtomicU64>()).expect("at least one word");
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) };
    let base = base.expect("there is memory").cast::<AtomicU64>();
    // SAFETY: `count` words of zeros are mapped at base, aligned to a page, and are never unmapped.
    unsafe { std::slice::from_raw_parts(base.as_ptr(), count) }
}

/// Returns the board of this series: the first call makes it, before anybody is forked who is to share it.
pub fn board() -> &'static Board {
    BOARD.get_or_init(|| {
        let words = shared_words(size_of::<Board>() / size_of::<AtomicU64>());
        // SAFETY: a Board is nothing but that many atomic words, and these are never unmapped.
        unsafe { &*words.as_ptr().cast::<Board>() }
    })
}

impl Board {
    /// Wipes it.
    pub fn clear(&self) {
        for word in [
            &self.said,
            &self.mark,
            &self.inside,
            &self.passed,
            &self.ticket,
            &self.there,
            &self.wrong,
        ] {
            word.store(0, SeqCst);
        }
    }

    /// Has the victim say where it is; of others nothing is noted.
    pub fn say(&self, who: Who, said: Said) {
        if who == Who::Victim {
            self.said.store(said as u64, SeqCst);
        }
    }

    /// Returns what the victim said last.
    pub fn said(&self) -> Said {
        [Said::Idle, Said::Asks, Said::Holds, Said::Gives][self.said.load(SeqCst) as usize]
    }

    /// Notes what is to be told of earlier deaths.
    pub fn set_mark(&self, mark: Mark) {
        self.mark.store(mark as u64, SeqCst);
    }

    fn mark(&self) -> Mark {
        [Mark::None, Mark::There, Mark::Going][self.mark.load(SeqCst) as usize]
    }

    /// Notes that the bystander has given the lock back, with nothing left to be told.
    pub fn pass(&self) {
        self.passed.store(1, SeqCst);
    }

    /// Says whether it has.
    pub fn has_passed(&self) -> bool {
        self.passed.load(SeqCst) == 1
    }

    /// Notes what is wrong, unless something was before.
    pub fn accuse(&self, wrong: Wrong) {
        let number = wrong as u64 + 1;
        let _ = self.wrong.compare_exchange(0, number, SeqCst, SeqCst);
    }

    /// Notes that `who` got the lock, and what it was told.
    pub fn enter(&self, who: Who, told: bool) {
        if self.inside.swap(who as u64, SeqCst) != 0 && !told {
            // When a survivor comes all others are dead.
            self.accuse(match who {
                Who::Survivor => Wrong::NotTold,
                Who::Victim | Who::Bystander => Wrong::TwoInside,
            });
        }
    }

    /// Notes that whoever is inside is about to give the lock back.
    pub fn leave(&self) {
        self.inside.store(0, SeqCst);
    }

    /// Notes whether what the lock guards was whole.
    pub fn see(&self, whole: bool, told: bool) {
        if !whole && !told {
            self.accuse(Wrong::HalfDone);
        }
    }

    /// Judges what was told to `who`, who comes when the victim does not move.
    pub fn judge(&self, who: Who, told: bool) {
        let passed = self.has_passed();
        // The victim is not told of itself.
        let said = if who == Who::Victim || passed {
            Said::Idle
        } else {
            self.said()
        };
        let mark = if passed { Mark::None } else { self.mark() };
        match (said, mark) {
            (Said::Idle, Mark::None) if told => self.accuse(Wrong::NoDeath),
            (Said::Holds, _) | (_, Mark::There) if !told => self.accuse(Wrong::NotTold),
            _ => {}
        }
    }

    /// Checks, while the victim stands still and lives, that nobody has had the lock whom it stands in the way of.
    pub fn nobody_came_between(&self, passed: bool) -> Result<(), Finding> {
        match passed && self.said() == Said::Holds {
            true => Err(Crime::Shared.found("another one got the lock from who lives")),
            false => Ok(()),
        }
    }

    /// Returns what somebody found wrong.
    pub fn verdict(&self) -> Result<(), Finding> {
        match self.wrong.load(SeqCst).checked_sub(1) {
            None => Ok(()),
            Some(number) => Err(Wrong::ALL[number as usize].found()),
        }
    }
}
