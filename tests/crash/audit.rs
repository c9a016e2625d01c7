//! Looks at a queue that the dead have left: everybody else can use it at once, its figures are right, every message is
//! there that should be, and all of its memory.

use crate::hand::{Hand, Step};
use crate::library::Status;
use crate::operation::{Crime, Finding, Look};
use crate::post::{BEGUN, GONE, INSIDE, LEAST, NEVER, PUT, Post};
use crate::queues::{CLOSED, EMPTY, FULL, LULLS, NOT_OWNER, NOWAIT, PARTICIPANTS, Queue, Shape};
use crate::survivor::refused;
use crate::verify::PAGE;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use shmkit::capi::queue::{SHMKIT_QUEUE_SHUTDOWN, shmkit_queue_info};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What is known before.
pub struct Expected {
    /// So many may have died.
    pub deaths: u64,
    /// Whether all messages come in the order of their numbers.
    pub ordered: bool,
    /// Whether it is looked at who else could come: that takes as long as all the rest.
    pub table: bool,
}

/// What stands before the ring in the data.
const WORDS: u64 = 576;
/// Where the header of a segment says how many bytes stand before its data.
const CONTROL_BYTES: u64 = 16;
/// The most that an idle queue has memory for.
const KEPT: u64 = 2 << 20;

/// An idle queue has given back what it does not keep after so many looks: each but the first of them gives some back.
const LOOKS: usize = LULLS + 6;

/// What a survivor has found.
struct Audit<'a, 'b> {
    look: &'a Look<'b>,
    hand: Hand<'a>,
    post: &'a Post,
    shape: Shape,
    expected: &'a Expected,
}

/// Returns how many bytes of memory a file has.
fn memory(file: &File) -> u64 {
    /// What st_blocks counts in (stat(2)).
    const BLOCK: u64 = 512;
    file.metadata().expect("it can be asked").blocks() * BLOCK
}

/// Looks at each page of a file's first `length` bytes: those get memory then that had none. (What was set aside and never
/// touched is a hole for lseek and mincore.)
fn touch(file: &File, length: u64) {
    let length = NonZeroUsize::new(length as usize).expect("it has a header");
    let (access, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { mmap(None, length, access, flags, file, 0) }.expect("it can be mapped");
    let words = base.cast::<AtomicU64>().as_ptr();
    for page in (0..length.get()).step_by(PAGE as usize) {
        let word = words.wrapping_add(page / size_of::<AtomicU64>());
        // SAFETY: the page is mapped, and lies in the file.
        unsafe { &*word }.load(SeqCst);
    }
    // SAFETY: nobody else knows of the mapping.
    unsafe { munmap(base, length.get()) }.expect("it was mapped");
}

fn lost(text: String) -> Finding {
    Crime::Lost.found(text)
}

/// Looks at everything, and removes the queue.
pub fn audit(
    look: &Look,
    shape: Shape,
    post: &Post,
    who: usize,
    expected: &Expected,
) -> Result<(), Finding> {
    if !look.name_is_there(0)? {
        return Err(lost("the name is gone".into()));
    }
    let queue = Queue::find(look.shmkit, shape).map_err(refused("open"))?;
    let audit = Audit {
        look,
        hand: Hand::of(look.shmkit, queue, post, who),
        post,
        shape,
        expected,
    };
    audit.run()
}

impl Audit<'_, '_> {
    fn queue(&self) -> &Queue<'_> {
        &self.hand.queue
    }

    fn stat(&self) -> Result<shmkit_queue_info, Finding> {
        self.queue().stat().map_err(refused("stat"))
    }

    fn run(mut self) -> Result<(), Finding> {
        // Before anything else is looked at, which would see to what the dead have left.
        let full = self.queue().is_full().map_err(refused("is_full"))?;
        let first = self.stat()?;
        let shut = first.flags & SHMKIT_QUEUE_SHUTDOWN != 0;
        self.figures_are_right(&first)?;
        self.has_memory(&first)?;
        let empties = u64::from(self.put_an_empty_one(&first, full, shut)?);
        self.drain(shut, empties)?;
        self.nothing_is_missing()?;
        self.use_it(shut)?;
        self.memory_is_given_back(shut)?;
        self.post.verdict()?;
        let segment = self.queue().segment().map_err(refused("segment"))?;
        if self.expected.table {
            self.look.table_has_room(segment, PARTICIPANTS)?;
        }
        self.queue().unlink().map_err(refused("unlink"))?;
        self.queue().close().map_err(refused("close"))?;
        let closed = self.look.shmkit.close(segment);
        if closed != 0 {
            return Err(refused("close of a segment")(closed));
        }
        self.look.nothing_is_left()
    }

    /// Checks what the queue says of its past.
    fn figures_are_right(&self, info: &shmkit_queue_info) -> Result<(), Finding> {
        let surely = self.post.how_many(INSIDE, 0);
        let perhaps = self.post.how_many(BEGUN, INSIDE | NEVER);
        if !(surely..=surely + perhaps).contains(&info.puts) {
            let text = format!(
                "{surely} to {} were put, and it tells of {}",
                surely + perhaps,
                info.puts
            );
            return Err(lost(text));
        }
        let filled = self.post.how_many(BEGUN, PUT);
        if info.reserved > filled {
            let text = format!("{} are said to be reserved, of {filled}", info.reserved);
            return Err(lost(text));
        }
        Ok(())
    }

    /// Returns the file, and where the ring begins in it.
    fn file(&self) -> (File, u64) {
        let path = self.look.place.path("victim");
        let file = File::open(path).expect("the file is there");
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, CONTROL_BYTES)
            .expect("it has a header");
        (file, u64::from_ne_bytes(bytes) + WORDS)
    }

    /// Checks that what the queue believes to have memory has it.
    fn has_memory(&self, info: &shmkit_queue_info) -> Result<(), Finding> {
        let (file, ring) = self.file();
        let (length, before) = (ring + info.memory, memory(&file));
        touch(&file, length);
        let missing = memory(&file).saturating_sub(before);
        if missing > 0 {
            let text = format!("of {length} bytes that should have memory {missing} have none");
            return Err(Crime::Sparse.found(text));
        }
        Ok(())
    }

    /// Puts an empty message, if and only if there is room.
    fn put_an_empty_one(
        &self,
        before: &shmkit_queue_info,
        full: bool,
        shut: bool,
    ) -> Result<bool, Finding> {
        let put = self.queue().put(NOWAIT, &[]);
        let expected = match (shut, full && !self.shape.overwrites) {
            (true, _) => Err(CLOSED),
            (false, true) => Err(FULL),
            (false, false) => Ok(()),
        };
        if put != expected {
            let text = format!("full: {full}, shut: {shut}; a put returned {put:?}");
            return Err(Crime::Refused.found(text));
        }
        let more = self.stat()?.messages.wrapping_sub(before.messages);
        if put.is_ok() && !full && more != 1 {
            return Err(lost(format!("a put made {} more of them", more as i64)));
        }
        Ok(put.is_ok())
    }

    /// Takes everything out, by each of the ways.
    fn drain(&mut self, shut: bool, empties: u64) -> Result<(), Finding> {
        let before = self.stat()?;
        let there = before.messages + before.leased;
        let nothing = if shut { CLOSED } else { EMPTY };
        let said_of_got = self.post.received();
        let peeked = self.hand.peek(NOWAIT);
        let expected = if there > 0 { Ok(()) } else { Err(nothing) };
        if peeked != expected {
            let text = format!("{there} are said to be there, and a peek returned {peeked:?}");
            return Err(lost(text));
        }
        let mut taken = 0;
        if there > 0 {
            for step in [Step::Lease, Step::Nack(0), Step::Lease, Step::Ack(0)] {
                self.hand.perform(&step).map_err(refused("lease"))?;
            }
            taken = 1;
        }
        if there > 1 {
            taken += self.hand.get_many(NOWAIT, 3).map_err(refused("get_many"))? as u64;
        }
        let end = loop {
            match self.hand.take(NOWAIT) {
                Ok(()) => taken += 1,
                Err(status) => break status,
            }
        };
        if (taken, end) != (there, nothing) {
            let text = format!("{there} are said to be there, and {taken} were, and then {end}");
            return Err(lost(text));
        }
        self.nothing_is_in_it(&self.stat()?)?;
        let now = self.post.received() - said_of_got;
        if self.post.verdict().is_ok() && now + empties < taken {
            return Err(lost(format!("{taken} came, of which {now} were put")));
        }
        let disorder = self.post.disorder().load(SeqCst);
        // One that was just being leased comes later.
        if self.expected.ordered && disorder > 1 {
            return Err(lost(format!("{disorder} came in the wrong order")));
        }
        Ok(())
    }

    fn nothing_is_in_it(&self, info: &shmkit_queue_info) -> Result<(), Finding> {
        let figures = [info.messages, info.bytes, info.reserved, info.leased];
        if figures != [0; 4] || info.puts != info.gets {
            let text = format!(
                "nothing is in it, and it tells of {figures:?}, {} put and {} taken",
                info.puts, info.gets
            );
            return Err(lost(text));
        }
        Ok(())
    }

    /// Checks that each message is accounted for.
    fn nothing_is_missing(&self) -> Result<(), Finding> {
        let info = self.stat()?;
        let missing = self.post.missing();
        // Each death may have come between a count and what is counted.
        let deaths = if self.shape.overwrites {
            self.expected.deaths
        } else {
            0
        };
        if missing.len() as u64 > info.overwritten
            || info.overwritten > missing.len() as u64 + deaths + 1
        {
            let text = format!(
                "{missing:?} are missing, and {} were overwritten",
                info.overwritten
            );
            return Err(lost(text));
        }
        let dead = self.post.how_many(GONE, 0);
        let skipped = self.post.how_many(BEGUN, 0);
        if info.skipped > skipped + self.expected.deaths + dead {
            let text = format!("{} are said to be skipped, of {skipped}", info.skipped);
            return Err(lost(text));
        }
        Ok(())
    }

    /// Does all that one does with a queue, without ever having to wait.
    fn use_it(&mut self, shut: bool) -> Result<(), Finding> {
        let good = |what, result: Result<(), Status>| result.map_err(refused(what));
        good("join", self.queue().join(NOWAIT))?;
        if shut {
            return match self.hand.put(NOWAIT, LEAST) {
                Err(CLOSED) => Ok(()),
                other => Err(Crime::Refused.found(format!("it is shut, and a put: {other:?}"))),
            };
        }
        // Once round, so that each record is overwritten once.
        for _ in 0..4 {
            good("put", self.hand.put(NOWAIT, LEAST))?;
            good("lease", self.hand.lease(NOWAIT))?;
            good("reserve", self.hand.reserve(NOWAIT, LEAST))?;
            good("commit", self.hand.commit())?;
            good("nack", self.hand.nack(0))?;
            good("get", self.hand.take(NOWAIT))?;
            good("get", self.hand.take(NOWAIT))?;
            good("put_many", self.hand.put_many(NOWAIT, 2, 4 * LEAST))?;
            if self.queue().join(NOWAIT).is_ok() {
                return Err(Crime::Shared.found("two are there, and it is said to be finished"));
            }
            let got = self.hand.get_many(NOWAIT, 2);
            if got != Ok(2) {
                return Err(lost(format!("two were put, and get_many returned {got:?}")));
            }
            good("reserve", self.hand.reserve(NOWAIT, LEAST))?;
            good("abort", self.hand.abort())?;
            good("put", self.hand.put(NOWAIT, LEAST))?;
            good("lease", self.hand.lease(NOWAIT))?;
            good("ack", self.hand.ack(0))?;
            if self.queue().ack(0) != Err(NOT_OWNER) {
                return Err(Crime::Shared.found("what nobody holds was acknowledged"));
            }
            good("join", self.queue().join(NOWAIT))?;
        }
        let info = self.stat()?;
        self.nothing_is_in_it(&info)?;
        self.has_memory(&info)?;
        match self.post.missing().len() as u64 > info.overwritten {
            true => Err(lost("a survivor's own message is missing".into())),
            false => Ok(()),
        }
    }

    /// Checks that an idle queue keeps little.
    fn memory_is_given_back(&self, shut: bool) -> Result<(), Finding> {
        let nothing = if shut { CLOSED } else { EMPTY };
        for _ in 0..LOOKS {
            let end = self.hand.take(NOWAIT);
            if end != Err(nothing) {
                return Err(lost(format!(
                    "nothing is there, and a get returned {end:?}"
                )));
            }
        }
        let (file, ring) = self.file();
        let memory = memory(&file);
        if !shut && memory > ring + KEPT + 2 * PAGE {
            let text = format!("an idle queue keeps {memory} bytes");
            return Err(Crime::LeftBehind.found(text));
        }
        Ok(())
    }
}
