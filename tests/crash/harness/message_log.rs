//! What has become of each message, as its producers and consumers saw it: words outside of the memory under test.
//!
//! ```text
//! per message:  | gets (16 bits) | leases (16 bits) | marks |   per process:  | how it gets | sizes | … | its buffer |
//! ```
//!
//! | mark   | meaning                                                              |
//! |--------|----------------------------------------------------------------------|
//! | BEGUN  | put or reserve was called                                            |
//! | INSIDE | put or reserve has returned: the message counts in `puts`            |
//! | PUT    | put or commit has returned: a consumer must get the message          |
//! | NEVER  | it was refused or given up: no consumer may get it                   |
//! | GONE   | a process that may have got it has died                              |
//!
//! A consumer copies messages to its buffer here. A message that no consumer has got may be missing in two cases: it is
//! in the buffer of a process that died in that call, or a process died while it acknowledged the message.

use crate::suite::harness::operation::{Failure, Violation};
use crate::suite::harness::shared_state::shared_words;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Put or reserve was called.
pub const BEGUN: u64 = 1;
/// Put or reserve has returned.
pub const INSIDE: u64 = 2;
/// Put or commit has returned.
pub const PUT: u64 = 4;
/// The message was refused or given up.
pub const NEVER: u64 = 8;
/// A process that may have got it has died.
pub const GONE: u64 = 16;
const LEASED: u64 = 1 << 32;
const GOT: u64 = 1 << 48;
const COUNT: u64 = 0xffff;

/// The length of what precedes the body of a message: its number and its length.
const HEAD: usize = 2 * size_of::<u64>();
/// The length of the shortest message.
pub const MIN_LENGTH: usize = HEAD;
/// The number of sizes of a batch that are noted.
pub const BATCH: usize = 8;

/// The number of words of a process without its buffer: how it gets, what it acknowledges, and the sizes.
const NOTES: usize = 16;
const BUFFER: usize = 2 << 20;
const EACH: usize = NOTES + BUFFER / size_of::<u64>();

/// A process copies no message, one, or as many as there are sizes.
const NOTHING: u64 = 0;
const ONE: u64 = 1;
const MANY: u64 = 2;

/// What may be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes are not those that were put.
    Corrupt = 1,
    /// Two consumers have got it.
    Twice,
    /// It was never put.
    NeverPut,
    /// It was leased before, and its attempts do not count that.
    WrongAttempts,
}

impl Fault {
    fn failure(self, id: u64) -> Failure {
        match self {
            Fault::Corrupt => Violation::Lost.failure(format!("message {id} is not what was put")),
            Fault::Twice => {
                Violation::NotExclusive.failure(format!("two consumers got message {id}"))
            }
            Fault::NeverPut => Violation::NotExclusive
                .failure(format!("message {id} was refused, and a consumer got it")),
            Fault::WrongAttempts => Violation::Misreported.failure(format!(
                "message {id} was leased before, and its attempts do not count that"
            )),
        }
    }
}

/// The words of one series.
pub struct MessageLog {
    capacity: usize,
    general: &'static [AtomicU64],
    messages: &'static [AtomicU64],
    processes: &'static [AtomicU64],
}

fn head_of(id: u64, length: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&id.to_ne_bytes());
    head[8..].copy_from_slice(&(length as u64).to_ne_bytes());
    head
}

/// Returns the message of this number and length.
pub fn message(id: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![id as u8; length];
    bytes[..HEAD].copy_from_slice(&head_of(id, length));
    bytes
}

/// Returns whether these are the bytes of the message.
fn is_message(id: u64, bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_at_checked(HEAD) else {
        return false;
    };
    let head_is_good = head == head_of(id, bytes.len());
    // All bytes equal the first: the body is compared with itself, shifted by one byte.
    let alike = body.len() < 2 || body[1..] == body[..body.len() - 1];
    head_is_good && alike && body.first().is_none_or(|&first| first == id as u8)
}

impl MessageLog {
    /// Makes room for this number of messages and processes.
    pub fn new(messages: usize, processes: usize) -> MessageLog {
        MessageLog {
            capacity: messages,
            general: shared_words(8),
            messages: shared_words(messages),
            processes: shared_words(EACH * processes),
        }
    }

    /// Sets all words to zero.
    pub fn clear(&self) {
        let count = self.count() as usize;
        self.messages[..=count]
            .iter()
            .for_each(|word| word.store(0, SeqCst));
        self.general.iter().for_each(|word| word.store(0, SeqCst));
        for notes in self.processes.chunks(EACH) {
            notes[..NOTES].iter().for_each(|word| word.store(0, SeqCst));
        }
    }

    fn last(&self) -> &AtomicU64 {
        &self.general[0]
    }

    fn wrong(&self) -> &AtomicU64 {
        &self.general[1]
    }

    /// Whether shutdown was called.
    pub fn shutdown(&self) -> &AtomicU64 {
        &self.general[2]
    }

    /// The number of messages that came out of order.
    pub fn disorder(&self) -> &AtomicU64 {
        &self.general[3]
    }

    /// Whether the workers must end.
    pub fn stop(&self) -> &AtomicU64 {
        &self.general[4]
    }

    /// The number of operations.
    pub fn operations(&self) -> &AtomicU64 {
        &self.general[5]
    }

    /// The number of messages.
    pub fn count(&self) -> u64 {
        self.last().load(SeqCst).min(self.capacity as u64 - 1)
    }

    /// Begins a message; returns its number. `None`: the log is full.
    pub fn begin(&self) -> Option<u64> {
        let id = self.last().fetch_add(1, SeqCst) + 1;
        let word = self.messages.get(id as usize)?;
        word.store(BEGUN, SeqCst);
        Some(id)
    }

    fn word(&self, id: u64) -> &AtomicU64 {
        &self.messages[id as usize]
    }

    /// Adds a mark.
    pub fn mark(&self, id: u64, mark: u64) {
        self.word(id).fetch_or(mark, SeqCst);
    }

    /// Returns leases, gets and marks of a message.
    fn read(&self, id: u64) -> (u64, u64, u64) {
        let word = self.word(id).load(SeqCst);
        (word >> 32 & COUNT, word >> 48, word & (LEASED - 1))
    }

    /// Returns the number of messages that have the marks `with`, and none of `without`.
    pub fn count_marked(&self, with: u64, without: u64) -> u64 {
        let ids = 1..=self.count();
        let marked = ids.filter(|&id| {
            let marks = self.read(id).2;
            marks & with == with && marks & without == 0
        });
        marked.count() as u64
    }

    /// Returns the number of messages that consumers have got.
    pub fn received(&self) -> u64 {
        (1..=self.count()).map(|id| self.read(id).1).sum()
    }

    /// Notes a fault, unless one was noted before.
    pub fn report_fault(&self, wrong: Fault, id: u64) {
        let word = id << 8 | wrong as u64;
        let _ = self.wrong().compare_exchange(0, word, SeqCst, SeqCst);
    }

    /// Returns the inbox of a process.
    pub fn inbox(&self, process: usize) -> Inbox<'_> {
        Inbox {
            log: self,
            notes: &self.processes[EACH * process..][..NOTES],
            buffer: &self.processes[EACH * process + NOTES..][..EACH - NOTES],
            last: Cell::new(0),
        }
    }

    /// Returns the fault that was noted.
    pub fn verdict(&self) -> Result<(), Failure> {
        let word = self.wrong().load(SeqCst);
        for wrong in [
            Fault::Corrupt,
            Fault::Twice,
            Fault::NeverPut,
            Fault::WrongAttempts,
        ] {
            if word & 0xff == wrong as u64 {
                return Err(wrong.failure(word >> 8));
            }
        }
        Ok(())
    }

    /// Returns the messages that were put and that no consumer has got, dead ones included.
    pub fn missing(&self) -> Vec<u64> {
        let missing = |&id: &u64| {
            let (_, got, marks) = self.read(id);
            marks & PUT != 0 && marks & GONE == 0 && got == 0
        };
        (1..=self.count()).filter(missing).collect()
    }
}

/// What a process notes of the messages that it gets.
pub struct Inbox<'a> {
    log: &'a MessageLog,
    notes: &'a [AtomicU64],
    buffer: &'a [AtomicU64],
    /// The last message that it got.
    last: Cell<u64>,
}

impl Inbox<'_> {
    /// Has `body` copy messages to the buffer, and their sizes.
    pub fn fill<T>(&self, body: impl FnOnce(&mut [u8], &mut [u64]) -> T) -> T {
        let base = self.buffer.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: the bytes are mapped and never unmapped; this process has one thread, and no other process reads them
        // while it lives.
        let buffer = unsafe { std::slice::from_raw_parts_mut(base, BUFFER) };
        let base = self.notes[NOTES - BATCH..].as_ptr().cast_mut().cast();
        // SAFETY: as for the buffer.
        let sizes = unsafe { std::slice::from_raw_parts_mut(base, BATCH) };
        body(buffer, sizes)
    }

    /// Returns copied bytes.
    pub fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let base = self.buffer.as_ptr().cast::<u8>();
        // SAFETY: as in `fill`, which has returned.
        let buffer = unsafe { std::slice::from_raw_parts(base, BUFFER) };
        &buffer[at..at + length]
    }

    /// Returns the size of a copied message.
    pub fn size(&self, number: usize) -> usize {
        self.notes[NOTES - BATCH + number].load(SeqCst) as usize
    }

    /// Notes that one message is about to be copied.
    pub fn expect_one(&self) {
        self.buffer[0].store(0, SeqCst);
        self.notes[0].store(ONE, SeqCst);
    }

    /// Notes that several messages are about to be copied.
    pub fn expect_many(&self) {
        for size in &self.notes[NOTES - BATCH..] {
            size.store(0, SeqCst);
        }
        self.notes[0].store(MANY, SeqCst);
    }

    /// Notes that it is about to acknowledge a message; 0: that it has.
    pub fn acknowledges(&self, id: u64) {
        self.notes[1].store(id, SeqCst);
    }

    /// Notes that all copied messages are noted.
    pub fn expect_none(&self) {
        self.notes[0].store(NOTHING, SeqCst);
    }

    /// Checks a message; returns its number. An empty message has none.
    pub fn read(&self, bytes: &[u8]) -> Option<u64> {
        if bytes.is_empty() {
            return None;
        }
        let id = bytes.get(..8).map_or(0, |id| {
            u64::from_ne_bytes(id.try_into().expect("eight bytes"))
        });
        let known = (1..=self.log.count()).contains(&id);
        if !known || !is_message(id, bytes) {
            self.log.report_fault(Fault::Corrupt, id);
            return None;
        }
        let marks = self.log.read(id).2;
        if marks & NEVER != 0 || marks & BEGUN == 0 {
            self.log.report_fault(Fault::NeverPut, id);
        }
        Some(id)
    }

    /// Notes that it has got a message.
    pub fn got(&self, id: u64) {
        let before = self.log.word(id).fetch_add(GOT, SeqCst);
        if before >> 48 != 0 {
            self.log.report_fault(Fault::Twice, id);
        }
        // Messages that were leased before, or that a dead process had just got, come late.
        let (leases, _, marks) = self.log.read(id);
        if leases > 0 || marks & GONE != 0 {
            return;
        }
        if id < self.last.replace(id) {
            self.log.disorder().fetch_add(1, SeqCst);
        }
    }

    /// Notes that it has leased a message, and the attempts that lease returned.
    pub fn leased(&self, id: u64, attempts: u32) {
        let before = self.log.word(id).fetch_add(LEASED, SeqCst);
        if before >> 48 != 0 {
            self.log.report_fault(Fault::Twice, id);
        }
        if u64::from(attempts) <= (before >> 32 & COUNT) {
            self.log.report_fault(Fault::WrongAttempts, id);
        }
    }

    /// After the death of the process, marks the messages that it may have got.
    pub fn write_off(&self) {
        let gone = |id: u64| {
            if (1..=self.log.count()).contains(&id) {
                self.log.mark(id, GONE);
            }
        };
        gone(self.notes[1].load(SeqCst));
        match self.notes[0].load(SeqCst) {
            ONE => gone(self.buffer[0].load(SeqCst)),
            MANY => {
                let mut at = 0;
                let sizes = (0..BATCH).map(|number| self.size(number));
                for size in sizes.take_while(|&size| size > 0) {
                    if let Some(word) = self.buffer.get(at / 8) {
                        gone(word.load(SeqCst));
                    }
                    at += size;
                }
            }
            _ => {}
        }
        self.notes[..2]
            .iter()
            .for_each(|word| word.store(0, SeqCst));
    }
}
