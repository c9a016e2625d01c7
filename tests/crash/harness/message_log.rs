//! What became of each message, as those saw it who put and got it: words beside the memory under test.
//!
//! ```text
//! per message:  | got (16 bits) | lent (16 bits) | marks |         per process:  | how it gets | sizes | … | its buffer |
//! ```
//!
//! | mark   | means                                                                       |
//! |--------|-----------------------------------------------------------------------------|
//! | BEGUN  | somebody has called put, or reserve                                          |
//! | INSIDE | put or reserve has returned: it counts among those that were ever put        |
//! | PUT    | put or commit has returned: somebody must get it                            |
//! | NEVER  | it was refused, or given up: nobody may get it                              |
//! | GONE   | a process has died over it, which may have taken it along                    |
//!
//! Who gets messages has them copied to a buffer here. A message that nobody has got may be missing only if it stands in
//! the buffer of somebody who died in that call, or if he was just acknowledging it.

use crate::suite::harness::operation::{Crime, Finding};
use crate::suite::harness::shared_state::shared_words;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Somebody has called put, or reserve.
pub const BEGUN: u64 = 1;
/// Put or reserve has returned.
pub const INSIDE: u64 = 2;
/// Put or commit has returned.
pub const PUT: u64 = 4;
/// It was refused, or given up.
pub const NEVER: u64 = 8;
/// A process has died over it.
pub const GONE: u64 = 16;
const LENT: u64 = 1 << 32;
const GOT: u64 = 1 << 48;
const COUNT: u64 = 0xffff;

/// What stands before the rest of a message: its number, and how long it is.
const HEAD: usize = 2 * size_of::<u64>();
/// The least that a message has.
pub const LEAST: usize = HEAD;
/// So many sizes of a batch are noted.
pub const BATCH: usize = 8;

/// How many words each process has beside its buffer: how it gets, what it acknowledges, and the sizes.
const NOTES: usize = 16;
const BUFFER: usize = 2 << 20;
const EACH: usize = NOTES + BUFFER / size_of::<u64>();

/// Nothing, one message, several of which the sizes say how many are copied.
const NOTHING: u64 = 0;
const ONE: u64 = 1;
const MANY: u64 = 2;

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its bytes are not those that were put.
    Garbled = 1,
    /// Two have got it.
    Twice,
    /// Nobody has put it.
    NeverPut,
    /// It was lent before, and its attempts do not say so.
    Untold,
}

impl Wrong {
    fn found(self, id: u64) -> Finding {
        match self {
            Wrong::Garbled => Crime::Lost.found(format!("message {id} is not what was put")),
            Wrong::Twice => Crime::Shared.found(format!("message {id} was got twice")),
            Wrong::NeverPut => {
                Crime::Shared.found(format!("message {id} was refused, and somebody has got it"))
            }
            Wrong::Untold => Crime::Untold.found(format!(
                "message {id} was given before, and attempts do not say so"
            )),
        }
    }
}

/// The words of one series.
pub struct Post {
    most: usize,
    general: &'static [AtomicU64],
    messages: &'static [AtomicU64],
    people: &'static [AtomicU64],
}

fn message_head(id: u64, length: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&id.to_ne_bytes());
    head[8..].copy_from_slice(&(length as u64).to_ne_bytes());
    head
}

/// Bytes that `length` and its number decide.
pub fn message(id: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![id as u8; length];
    bytes[..HEAD].copy_from_slice(&message_head(id, length));
    bytes
}

/// Says whether these are its bytes.
fn is_message(id: u64, bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_at_checked(HEAD) else {
        return false;
    };
    let head_is_good = head == message_head(id, bytes.len());
    // All are like the first: compared with itself, a byte further on.
    let alike = body.len() < 2 || body[1..] == body[..body.len() - 1];
    head_is_good && alike && body.first().is_none_or(|&first| first == id as u8)
}

impl Post {
    /// Makes room for so many messages and processes.
    pub fn new(messages: usize, people: usize) -> Post {
        Post {
            most: messages,
            general: shared_words(8),
            messages: shared_words(messages),
            people: shared_words(EACH * people),
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let count = self.count() as usize;
        self.messages[..=count]
            .iter()
            .for_each(|word| word.store(0, SeqCst));
        self.general.iter().for_each(|word| word.store(0, SeqCst));
        for notes in self.people.chunks(EACH) {
            notes[..NOTES].iter().for_each(|word| word.store(0, SeqCst));
        }
    }

    fn last(&self) -> &AtomicU64 {
        &self.general[0]
    }

    fn wrong(&self) -> &AtomicU64 {
        &self.general[1]
    }

    /// The process that is to die.
    pub fn victim(&self) -> &AtomicU64 {
        &self.general[2]
    }

    /// Whether somebody has called shutdown.
    pub fn shut(&self) -> &AtomicU64 {
        &self.general[3]
    }

    /// How many messages came in the wrong order.
    pub fn disorder(&self) -> &AtomicU64 {
        &self.general[4]
    }

    /// Whether all are to come to an end.
    pub fn stop(&self) -> &AtomicU64 {
        &self.general[5]
    }

    /// How often somebody has done something.
    pub fn moves(&self) -> &AtomicU64 {
        &self.general[6]
    }

    /// How many messages there are.
    pub fn count(&self) -> u64 {
        self.last().load(SeqCst).min(self.most as u64 - 1)
    }

    /// Begins a message; returns its number. `None`: there have been as many as there is room for.
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

    /// Returns how often it was lent and got, and its marks.
    fn read(&self, id: u64) -> (u64, u64, u64) {
        let word = self.word(id).load(SeqCst);
        (word >> 32 & COUNT, word >> 48, word & (LENT - 1))
    }

    /// Says how many messages have a mark and none of the others.
    pub fn how_many(&self, with: u64, without: u64) -> u64 {
        let ids = 1..=self.count();
        let marked = ids.filter(|&id| {
            let marks = self.read(id).2;
            marks & with == with && marks & without == 0
        });
        marked.count() as u64
    }

    /// Says how many messages somebody has got.
    pub fn received(&self) -> u64 {
        (1..=self.count()).map(|id| self.read(id).1).sum()
    }

    /// Notes what is wrong, unless something was before.
    pub fn accuse(&self, wrong: Wrong, id: u64) {
        let word = id << 8 | wrong as u64;
        let _ = self.wrong().compare_exchange(0, word, SeqCst, SeqCst);
    }

    /// Returns the place of one process.
    pub fn place(&self, who: usize) -> Mailbox<'_> {
        Mailbox {
            post: self,
            notes: &self.people[EACH * who..][..NOTES],
            buffer: &self.people[EACH * who + NOTES..][..EACH - NOTES],
            last: Cell::new(0),
        }
    }

    /// Says what is wrong: with one message, or because one is missing.
    pub fn verdict(&self) -> Result<(), Finding> {
        let word = self.wrong().load(SeqCst);
        for wrong in [Wrong::Garbled, Wrong::Twice, Wrong::NeverPut, Wrong::Untold] {
            if word & 0xff == wrong as u64 {
                return Err(wrong.found(word >> 8));
            }
        }
        Ok(())
    }

    /// Returns those that were acknowledged and that nobody has got, nor may have taken along.
    pub fn missing(&self) -> Vec<u64> {
        let missing = |&id: &u64| {
            let (_, got, marks) = self.read(id);
            marks & PUT != 0 && marks & GONE == 0 && got == 0
        };
        (1..=self.count()).filter(missing).collect()
    }
}

/// What one process notes of what it gets.
pub struct Mailbox<'a> {
    post: &'a Post,
    notes: &'a [AtomicU64],
    buffer: &'a [AtomicU64],
    /// The last message that came.
    last: Cell<u64>,
}

impl Mailbox<'_> {
    /// Has `body` copy messages to the memory for that, and their sizes.
    pub fn fill<T>(&self, body: impl FnOnce(&mut [u8], &mut [u64]) -> T) -> T {
        let base = self.buffer.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: so many bytes are mapped and never unmapped; this process has one thread, and no other one looks at them
        // while it lives.
        let buffer = unsafe { std::slice::from_raw_parts_mut(base, BUFFER) };
        let base = self.notes[NOTES - BATCH..].as_ptr().cast_mut().cast();
        // SAFETY: as of the buffer.
        let sizes = unsafe { std::slice::from_raw_parts_mut(base, BATCH) };
        body(buffer, sizes)
    }

    /// Returns bytes that were copied.
    pub fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let base = self.buffer.as_ptr().cast::<u8>();
        // SAFETY: as in `fill`, which is over.
        let buffer = unsafe { std::slice::from_raw_parts(base, BUFFER) };
        &buffer[at..at + length]
    }

    /// Returns one of the sizes.
    pub fn size(&self, number: usize) -> usize {
        self.notes[NOTES - BATCH + number].load(SeqCst) as usize
    }

    /// Says that one message is about to be copied.
    pub fn expect_one(&self) {
        self.buffer[0].store(0, SeqCst);
        self.notes[0].store(ONE, SeqCst);
    }

    /// Says that several are.
    pub fn expect_many(&self) {
        for size in &self.notes[NOTES - BATCH..] {
            size.store(0, SeqCst);
        }
        self.notes[0].store(MANY, SeqCst);
    }

    /// Says that it is about to acknowledge a message; 0: that it has.
    pub fn acknowledges(&self, id: u64) {
        self.notes[1].store(id, SeqCst);
    }

    /// Says that it has noted all that was copied.
    pub fn expect_nothing(&self) {
        self.notes[0].store(NOTHING, SeqCst);
    }

    /// Reads a message; returns its number. Of an empty one there is none.
    pub fn read(&self, bytes: &[u8]) -> Option<u64> {
        if bytes.is_empty() {
            return None;
        }
        let id = bytes
            .get(..8)
            .map_or(0, |id| u64::from_ne_bytes(id.try_into().expect("eight")));
        let known = (1..=self.post.count()).contains(&id);
        if !known || !is_message(id, bytes) {
            self.post.accuse(Wrong::Garbled, id);
            return None;
        }
        let marks = self.post.read(id).2;
        if marks & NEVER != 0 || marks & BEGUN == 0 {
            self.post.accuse(Wrong::NeverPut, id);
        }
        Some(id)
    }

    /// Notes that it has got a message.
    pub fn got(&self, id: u64) {
        let before = self.post.word(id).fetch_add(GOT, SeqCst);
        if before >> 48 != 0 {
            self.post.accuse(Wrong::Twice, id);
        }
        // What was lent before comes later, and what the dead were just given.
        let (lent, _, marks) = self.post.read(id);
        if lent > 0 || marks & GONE != 0 {
            return;
        }
        if id < self.last.replace(id) {
            self.post.disorder().fetch_add(1, SeqCst);
        }
    }

    /// Notes that it was lent a message, as it was told for the how many-th time.
    pub fn was_lent(&self, id: u64, attempts: u32) {
        let before = self.post.word(id).fetch_add(LENT, SeqCst);
        if before >> 48 != 0 {
            self.post.accuse(Wrong::Twice, id);
        }
        if u64::from(attempts) <= (before >> 32 & COUNT) {
            self.post.accuse(Wrong::Untold, id);
        }
    }

    /// After its death: marks what it may have taken along.
    pub fn bury(&self) {
        let gone = |id: u64| {
            if (1..=self.post.count()).contains(&id) {
                self.post.mark(id, GONE);
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
