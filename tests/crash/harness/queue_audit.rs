//! Checks what dead processes have left of a queue: it can be used at once, its counters are right, and no message or
//! memory is lost.

use crate::suite::capi::queue::{IDLE_LAPS, PARTICIPANTS, Queue, Shape};
use crate::suite::capi::{EMPTY, FULL, NOT_OWNER, NOWAIT, SHUT_DOWN, Status, check};
use crate::suite::harness::fixture::{PAGE, name};
use crate::suite::harness::message_log::{BEGUN, GONE, INSIDE, MIN_LENGTH, MessageLog, NEVER, PUT};
use crate::suite::harness::operation::{Failure, Verifier, Violation};
use crate::suite::harness::queue_worker::{QueueWorker, Step};
use crate::suite::harness::survivor::refused;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use shmkit::capi::queue::{SHMKIT_QUEUE_SHUTDOWN, shmkit_queue_info};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What is expected of a queue.
pub struct Expected {
    /// The number of processes that may have died.
    pub deaths: u64,
    /// Whether the messages come in the order of their numbers.
    pub ordered: bool,
    /// Whether the table of participants is checked, which takes as long as all other checks together.
    pub table: bool,
}

/// The length of what precedes the ring in the data.
const WORDS: u64 = 576;
/// The offset of the header word that holds the length of what precedes the data.
const CONTROL_BYTES: u64 = 16;
/// The memory that an idle queue may keep.
const IDLE_MEMORY: u64 = 2 << 20;

/// The number of gets after which an idle queue has released its memory: each after the first few releases some.
const IDLE_GETS: usize = IDLE_LAPS + 6;

/// The state of an audit.
struct Audit<'a, 'b> {
    verifier: &'a Verifier<'b>,
    worker: QueueWorker<'a>,
    log: &'a MessageLog,
    shape: Shape,
    expected: &'a Expected,
}

/// Returns the bytes of memory of a file.
fn memory(file: &File) -> u64 {
    /// The unit of st_blocks (stat(2)).
    const BLOCK: u64 = 512;
    file.metadata().expect("the file is open").blocks() * BLOCK
}

/// Reads each page of a file's first `length` bytes, which gives memory to those that have none. (lseek and mincore
/// report reserved pages as holes until they are touched.)
fn touch(file: &File, length: u64) {
    let length = NonZeroUsize::new(length as usize).expect("the file has a header");
    let (access, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { mmap(None, length, access, flags, file, 0) }.expect("the file is mapped");
    let words = base.cast::<AtomicU64>().as_ptr();
    for page in (0..length.get()).step_by(PAGE as usize) {
        let word = words.wrapping_add(page / size_of::<AtomicU64>());
        // SAFETY: the page is mapped, and lies in the file.
        unsafe { &*word }.load(SeqCst);
    }
    // SAFETY: the mapping is used nowhere else.
    unsafe { munmap(base, length.get()) }.expect("the file was mapped");
}

fn lost(text: String) -> Failure {
    Violation::Lost.failure(text)
}

/// Checks everything, and removes the queue.
pub fn audit(
    verifier: &Verifier,
    shape: Shape,
    log: &MessageLog,
    process: usize,
    expected: &Expected,
) -> Result<(), Failure> {
    verifier.expect_name()?;
    let queue = Queue::open(verifier.shmkit, shape).map_err(refused("open"))?;
    let audit = Audit {
        verifier,
        worker: QueueWorker::of(verifier.shmkit, queue, log, process),
        log,
        shape,
        expected,
    };
    audit.run()
}

impl Audit<'_, '_> {
    fn queue(&self) -> &Queue<'_> {
        &self.worker.queue
    }

    fn stat(&self) -> Result<shmkit_queue_info, Failure> {
        self.queue().stat().map_err(refused("stat"))
    }

    fn run(mut self) -> Result<(), Failure> {
        // First, because the other calls clean up after dead processes.
        let full = self.queue().is_full().map_err(refused("is_full"))?;
        let first = self.stat()?;
        let is_shut_down = first.flags & SHMKIT_QUEUE_SHUTDOWN != 0;
        self.counters_are_right(&first)?;
        self.has_memory(&first)?;
        let empties = u64::from(self.put_an_empty_one(&first, full, is_shut_down)?);
        self.drain(is_shut_down, empties)?;
        self.nothing_is_missing()?;
        self.use_it(is_shut_down)?;
        self.memory_is_released(is_shut_down)?;
        self.log.verdict()?;
        let segment = self.queue().segment().map_err(refused("segment"))?;
        if self.expected.table {
            self.verifier.table_has_room(segment, PARTICIPANTS)?;
        }
        self.queue().unlink().map_err(refused("unlink"))?;
        self.queue().close().map_err(refused("close"))?;
        check(self.verifier.shmkit.close(segment)).map_err(refused("close of a segment"))?;
        self.verifier.check_nothing_left()
    }

    /// Checks the counters.
    fn counters_are_right(&self, info: &shmkit_queue_info) -> Result<(), Failure> {
        let surely = self.log.count_marked(INSIDE, 0);
        let perhaps = self.log.count_marked(BEGUN, INSIDE | NEVER);
        if !(surely..=surely + perhaps).contains(&info.puts) {
            let text = format!(
                "{surely} to {} messages were put, and {} are counted",
                surely + perhaps,
                info.puts
            );
            return Err(lost(text));
        }
        let filled = self.log.count_marked(BEGUN, PUT);
        if info.reserved > filled {
            let text = format!(
                "{} reservations are counted, of at most {filled}",
                info.reserved
            );
            return Err(lost(text));
        }
        Ok(())
    }

    /// Returns the file, and the offset of the ring in it.
    fn file(&self) -> (File, u64) {
        let path = self.verifier.place.path(name());
        let file = File::open(path).expect("the file exists");
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, CONTROL_BYTES)
            .expect("the file has a header");
        (file, u64::from_ne_bytes(bytes) + WORDS)
    }

    /// Checks that the memory that the queue counts exists.
    fn has_memory(&self, info: &shmkit_queue_info) -> Result<(), Failure> {
        let (file, ring) = self.file();
        let (length, before) = (ring + info.memory, memory(&file));
        touch(&file, length);
        let missing = memory(&file).saturating_sub(before);
        if missing > 0 {
            let text = format!("{missing} of {length} bytes have no memory");
            return Err(Violation::Sparse.failure(text));
        }
        Ok(())
    }

    /// Puts an empty message, which must succeed if there is room, and fail if not.
    fn put_an_empty_one(
        &self,
        before: &shmkit_queue_info,
        full: bool,
        is_shut_down: bool,
    ) -> Result<bool, Failure> {
        let put = self.queue().put(NOWAIT, &[]);
        let expected = match (is_shut_down, full && !self.shape.overwrites) {
            (true, _) => Err(SHUT_DOWN),
            (false, true) => Err(FULL),
            (false, false) => Ok(()),
        };
        if put != expected {
            let text = format!("full: {full}, shut down: {is_shut_down}; a put returned {put:?}");
            return Err(Violation::Refused.failure(text));
        }
        let more = self.stat()?.messages.wrapping_sub(before.messages);
        if put.is_ok() && !full && more != 1 {
            return Err(lost(format!("a put added {} messages", more as i64)));
        }
        Ok(put.is_ok())
    }

    /// Gets all messages, with each of the functions.
    fn drain(&mut self, is_shut_down: bool, empties: u64) -> Result<(), Failure> {
        let before = self.stat()?;
        let counted = before.messages + before.leased;
        let nothing = if is_shut_down { SHUT_DOWN } else { EMPTY };
        let received_before = self.log.received();
        let peeked = self.worker.peek(NOWAIT);
        let expected = if counted > 0 { Ok(()) } else { Err(nothing) };
        if peeked != expected {
            let text = format!("{counted} messages are counted, and peek returned {peeked:?}");
            return Err(lost(text));
        }
        let mut taken = 0;
        if counted > 0 {
            for step in [Step::Lease, Step::Nack(0), Step::Lease, Step::Ack(0)] {
                self.worker.perform(&step).map_err(refused("lease"))?;
            }
            taken = 1;
        }
        if counted > 1 {
            taken += self
                .worker
                .get_many(NOWAIT, 3)
                .map_err(refused("get_many"))? as u64;
        }
        let end = loop {
            match self.worker.take(NOWAIT) {
                Ok(()) => taken += 1,
                Err(status) => break status,
            }
        };
        if (taken, end) != (counted, nothing) {
            let text =
                format!("{counted} messages are counted; get returned {taken}, and then {end}");
            return Err(lost(text));
        }
        self.is_empty(&self.stat()?)?;
        let now = self.log.received() - received_before;
        if self.log.verdict().is_ok() && now + empties < taken {
            return Err(lost(format!(
                "get returned {taken} messages, of which {now} were put"
            )));
        }
        let disorder = self.log.disorder().load(SeqCst);
        // A message that was being leased comes late.
        if self.expected.ordered && disorder > 1 {
            return Err(lost(format!("{disorder} messages came out of order")));
        }
        Ok(())
    }

    fn is_empty(&self, info: &shmkit_queue_info) -> Result<(), Failure> {
        let figures = [info.messages, info.bytes, info.reserved, info.leased];
        if figures != [0; 4] || info.puts != info.gets {
            let text = format!(
                "the queue is empty, and counts {figures:?}, {} puts, {} gets",
                info.puts, info.gets
            );
            return Err(lost(text));
        }
        Ok(())
    }

    /// Checks that each message is accounted for.
    fn nothing_is_missing(&self) -> Result<(), Failure> {
        let info = self.stat()?;
        let missing = self.log.missing();
        // Each process may have died between a change and its count.
        let deaths = if self.shape.overwrites {
            self.expected.deaths
        } else {
            0
        };
        if missing.len() as u64 > info.overwritten
            || info.overwritten > missing.len() as u64 + deaths + 1
        {
            let text = format!(
                "messages {missing:?} are missing, and {} were overwritten",
                info.overwritten
            );
            return Err(lost(text));
        }
        let dead = self.log.count_marked(GONE, 0);
        let skipped = self.log.count_marked(BEGUN, 0);
        if info.skipped > skipped + self.expected.deaths + dead {
            let text = format!(
                "{} skipped messages are counted, of at most {skipped}",
                info.skipped
            );
            return Err(lost(text));
        }
        Ok(())
    }

    /// Calls each function, none of which may wait.
    fn use_it(&mut self, is_shut_down: bool) -> Result<(), Failure> {
        let good = |what, result: Result<(), Status>| result.map_err(refused(what));
        good("join", self.queue().join(NOWAIT))?;
        if is_shut_down {
            return match self.worker.put(NOWAIT, MIN_LENGTH) {
                Err(SHUT_DOWN) => Ok(()),
                other => Err(Violation::Refused.failure(format!(
                    "the queue is shut down, and put returned {other:?}"
                ))),
            };
        }
        // Once around the ring, so that each record is overwritten.
        for _ in 0..4 {
            good("put", self.worker.put(NOWAIT, MIN_LENGTH))?;
            good("lease", self.worker.lease(NOWAIT))?;
            good("reserve", self.worker.reserve(NOWAIT, MIN_LENGTH))?;
            good("commit", self.worker.commit())?;
            good("nack", self.worker.nack(0))?;
            good("get", self.worker.take(NOWAIT))?;
            good("get", self.worker.take(NOWAIT))?;
            good("put_many", self.worker.put_many(NOWAIT, 2, 4 * MIN_LENGTH))?;
            if self.queue().join(NOWAIT).is_ok() {
                return Err(Violation::NotExclusive
                    .failure("two messages are queued, and join has returned"));
            }
            let got = self.worker.get_many(NOWAIT, 2);
            if got != Ok(2) {
                return Err(lost(format!(
                    "two messages were put, and get_many returned {got:?}"
                )));
            }
            good("reserve", self.worker.reserve(NOWAIT, MIN_LENGTH))?;
            good("abort", self.worker.abort())?;
            good("put", self.worker.put(NOWAIT, MIN_LENGTH))?;
            good("lease", self.worker.lease(NOWAIT))?;
            good("ack", self.worker.ack(0))?;
            if self.queue().ack(0) != Err(NOT_OWNER) {
                return Err(
                    Violation::NotExclusive.failure("ack of an unknown token has succeeded")
                );
            }
            good("join", self.queue().join(NOWAIT))?;
        }
        let info = self.stat()?;
        self.is_empty(&info)?;
        self.has_memory(&info)?;
        match self.log.missing().len() as u64 > info.overwritten {
            true => Err(lost("a message of the survivor is missing".into())),
            false => Ok(()),
        }
    }

    /// Checks that an idle queue releases memory.
    fn memory_is_released(&self, is_shut_down: bool) -> Result<(), Failure> {
        let nothing = if is_shut_down { SHUT_DOWN } else { EMPTY };
        for _ in 0..IDLE_GETS {
            let end = self.worker.take(NOWAIT);
            if end != Err(nothing) {
                return Err(lost(format!(
                    "the queue is empty, and get returned {end:?}"
                )));
            }
        }
        let (file, ring) = self.file();
        let memory = memory(&file);
        if !is_shut_down && memory > ring + IDLE_MEMORY + 2 * PAGE {
            let text = format!("an idle queue keeps {memory} bytes");
            return Err(Violation::Leaked.failure(text));
        }
        Ok(())
    }
}
