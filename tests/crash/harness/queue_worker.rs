//! A process that uses the queue under test, step by step, and notes in the post what it was told.

use crate::suite::capi::queue::{
    CLOSED, EMPTY, FOREVER, FULL, NOWAIT, Queue, Shape, TIMEOUT, WOULD_BLOCK,
};
use crate::suite::harness::library::{Library, Status};
use crate::suite::harness::lock_worker::id_of_somebody;
use crate::suite::harness::message_log::{BATCH, INSIDE, Mailbox, NEVER, PUT, Post, message};
use crate::suite::harness::process;
use crate::suite::harness::verify::NAME;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What a process does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Puts a message of so many bytes.
    Put(usize),
    /// As `Put`, so often.
    Puts(usize, usize),
    /// Puts messages until there is no room.
    Fill(usize),
    /// Puts one, if there is room at once.
    PutFull(usize),
    /// Puts one, if there is room in some time.
    PutInVain(usize),
    /// Puts so many at once.
    PutMany(usize, usize),
    /// Gets one.
    Get,
    /// Gets so many, one after the other.
    Gets(usize),
    /// Gets up to so many at once.
    GetMany(usize),
    /// Gets one, if there is one at once.
    GetNothing,
    /// The same, so many times.
    GetNothings(usize),
    /// Gets one, if there is one in some time.
    GetInVain,
    /// Gets all that there are.
    Drain,
    /// Looks at the first.
    Peek,
    /// Reserves so many bytes.
    Reserve(usize),
    /// Commits what it has reserved first.
    Commit,
    /// Gives up what it has reserved first.
    Abort,
    /// Reserves so many bytes, and gives them up: that takes memory.
    Stretch(usize),
    /// Leases one.
    Lease,
    /// Acknowledges its lease of this number.
    Ack(usize),
    /// Gives its lease of this number back.
    Nack(usize),
    /// Waits until all is taken.
    Join,
    /// Waits for that, for some time.
    JoinInVain,
    /// Says that nothing more is put.
    Shut,
    /// Looks how much is in it.
    Stat,
    /// Has somebody die who holds P.
    HeldP,
    /// Has somebody die who holds C.
    HeldC,
    /// Takes a message, leased or for good, and has claim where it was, as who dies in between.
    Halfway(&'static Step),
}

/// How long somebody waits in vain: for two sleeps and what is left of a third, in nanoseconds.
const SHORTLY: i64 = 4_000_000;

/// Where the words of a queue stand in it, in bytes.
const P: usize = 64;
const C: usize = 256;
const CLAIM: usize = 320;
const CLAIM_WORDS: usize = 7;

/// A message that is being filled in place.
struct Reserved {
    id: u64,
    token: u64,
    length: usize,
}

/// A process that has the queue open.
pub struct Hand<'a> {
    shmkit: &'a Library,
    /// The queue.
    pub queue: Queue<'a>,
    post: &'a Post,
    mailbox: Mailbox<'a>,
    /// Messages that it is going to put.
    ready: RefCell<VecDeque<(u64, Vec<u8>)>>,
    reserved: VecDeque<Reserved>,
    /// Token and number of what it has leased.
    leased: Vec<(u64, u64)>,
}

/// Takes one of these refusals as good: who else is there may be why, or why not.
fn or_not(result: Result<(), Status>, expected: &[Status]) -> Result<(), Status> {
    match result {
        Err(status) if expected.contains(&status) => Ok(()),
        other => other,
    }
}

impl<'a> Hand<'a> {
    /// Takes what is open already.
    pub fn of(shmkit: &'a Library, queue: Queue<'a>, post: &'a Post, who: usize) -> Hand<'a> {
        Hand {
            shmkit,
            queue,
            post,
            mailbox: post.place(who),
            ready: RefCell::default(),
            reserved: VecDeque::new(),
            leased: Vec::new(),
        }
    }

    /// Opens the queue, and becomes a participant.
    pub fn open(shmkit: &'a Library, shape: Shape, post: &'a Post, who: usize) -> Hand<'a> {
        let queue = Queue::find(shmkit, shape).expect("it can be opened");
        // By the producers' lock: `stat` asks nobody who lives where nothing is lent.
        queue.is_full().expect("it can be asked");
        Hand::of(shmkit, queue, post, who)
    }

    /// Does all of it.
    pub fn perform_all(&mut self, steps: &[Step]) -> Result<(), Status> {
        steps.iter().try_for_each(|step| self.perform(step))
    }

    /// Does it.
    pub fn perform(&mut self, step: &Step) -> Result<(), Status> {
        match *step {
            Step::Put(length) => self.unless_shut(self.put(FOREVER, length)),
            Step::Puts(count, length) => (0..count).try_for_each(|_| self.put(FOREVER, length)),
            Step::Fill(length) => loop {
                match self.put(NOWAIT, length) {
                    Ok(()) => {}
                    Err(FULL) => return Ok(()),
                    Err(status) => return Err(status),
                }
            },
            Step::PutFull(length) => or_not(self.put(NOWAIT, length), &[FULL]),
            Step::PutInVain(length) => or_not(self.put(SHORTLY, length), &[TIMEOUT]),
            Step::PutMany(count, length) => self.put_many(FOREVER, count, length),
            Step::Get => self.get(FOREVER),
            Step::Gets(count) => (0..count).try_for_each(|_| self.get(FOREVER)),
            Step::GetMany(most) => self.get_many(FOREVER, most).map(drop),
            Step::GetNothing => or_not(self.get(NOWAIT), &[EMPTY, WOULD_BLOCK]),
            Step::GetNothings(count) => {
                (0..count).try_for_each(|_| self.perform(&Step::GetNothing))
            }
            Step::Drain => loop {
                match self.take(NOWAIT) {
                    Ok(()) => {}
                    // Who stands still holds it up.
                    Err(WOULD_BLOCK) => self.get(FOREVER)?,
                    Err(status) => return or_not(Err(status), &[EMPTY, CLOSED]),
                }
            },
            Step::GetInVain => or_not(self.get(SHORTLY), &[TIMEOUT]),
            Step::Peek => self.peek(FOREVER),
            Step::Reserve(length) => self.reserve(FOREVER, length),
            Step::Commit => self.commit(),
            Step::Abort => self.abort(),
            Step::Stretch(length) => self.stretch(length),
            Step::Lease => self.lease(FOREVER),
            Step::Ack(number) => self.ack(number),
            Step::Nack(number) => self.nack(number),
            Step::Join => self.queue.join(FOREVER),
            Step::JoinInVain => or_not(self.queue.join(SHORTLY), &[TIMEOUT]),
            Step::Shut => self.shut(),
            Step::Stat => self.queue.stat().map(drop),
            Step::HeldP => self.have_somebody_die(P),
            Step::HeldC => self.have_somebody_die(C),
            Step::Halfway(step) => self.halfway(step),
        }
    }

    /// Writes the messages that these steps put, so that nobody has to step through that.
    pub fn make_ready(&self, steps: &[Step]) {
        for step in steps {
            let (count, length) = match *step {
                Step::Put(length) | Step::Reserve(length) => (1, length),
                Step::PutFull(length) | Step::PutInVain(length) => (1, length),
                Step::Puts(count, length) | Step::PutMany(count, length) => (count, length),
                _ => continue,
            };
            for _ in 0..count {
                let next = self.write(length).expect("there is room for it");
                self.ready.borrow_mut().push_back(next);
            }
        }
    }

    fn write(&self, length: usize) -> Result<(u64, Vec<u8>), Status> {
        let id = self.post.begin().ok_or(EMPTY)?;
        Ok((id, message(id, length)))
    }

    /// Returns the next message to be put: one that is ready, or else a new one.
    fn next(&self, length: usize) -> Result<(u64, Vec<u8>), Status> {
        let ready = self.ready.borrow_mut().pop_front();
        ready.map_or_else(|| self.write(length), Ok)
    }

    /// Puts a message.
    pub fn put(&self, timeout: i64, length: usize) -> Result<(), Status> {
        let (id, bytes) = self.next(length)?;
        let put = self.queue.put(timeout, &bytes);
        self.post
            .mark(id, if put.is_ok() { INSIDE | PUT } else { NEVER });
        put
    }

    /// Puts so many messages at once.
    pub fn put_many(&self, timeout: i64, count: usize, length: usize) -> Result<(), Status> {
        let next = (0..count).map_while(|_| self.next(length).ok());
        let (ids, messages): (Vec<_>, Vec<_>) = next.unzip();
        let put = self.queue.put_many(timeout, &messages);
        for (number, &id) in ids.iter().enumerate() {
            let inside = put.is_ok_and(|put| (number as u64) < put);
            self.post
                .mark(id, if inside { INSIDE | PUT } else { NEVER });
        }
        put.map(drop)
    }

    /// Gets one.
    fn get(&self, timeout: i64) -> Result<(), Status> {
        self.unless_shut(self.take(timeout))
    }

    /// That it is closed is as good as a message, where somebody has said so.
    fn unless_shut(&self, result: Result<(), Status>) -> Result<(), Status> {
        match result {
            Err(CLOSED) if self.post.shut().load(SeqCst) != 0 => Ok(()),
            other => other,
        }
    }

    /// Takes one.
    pub fn take(&self, timeout: i64) -> Result<(), Status> {
        self.mailbox.expect_one();
        let got = self
            .mailbox
            .fill(|buffer, _| self.queue.get(timeout, buffer));
        if let Ok(length) = got
            && let Some(id) = self.mailbox.read(self.mailbox.bytes(0, length))
        {
            self.mailbox.got(id);
        }
        self.mailbox.expect_nothing();
        got.map(drop)
    }

    /// Gets up to so many at once; returns how many.
    pub fn get_many(&self, timeout: i64, most: usize) -> Result<usize, Status> {
        self.mailbox.expect_many();
        let got = self.mailbox.fill(|buffer, sizes| {
            let most = most.min(BATCH);
            self.queue.get_many(timeout, buffer, &mut sizes[..most])
        });
        let mut at = 0;
        for number in 0..got.unwrap_or(0) {
            let length = self.mailbox.size(number);
            if let Some(id) = self.mailbox.read(self.mailbox.bytes(at, length)) {
                self.mailbox.got(id);
            }
            at += length;
        }
        self.mailbox.expect_nothing();
        got
    }

    /// Looks at the first.
    pub fn peek(&self, timeout: i64) -> Result<(), Status> {
        let mut buffer = [0; 4096];
        let length = self.queue.peek(timeout, &mut buffer)?;
        if let Some(seen) = buffer.get(..length) {
            self.mailbox.read(seen);
        }
        Ok(())
    }

    /// Reserves room for a message, and fills it.
    pub fn reserve(&mut self, timeout: i64, length: usize) -> Result<(), Status> {
        let (id, bytes) = self.next(length)?;
        let (data, token) = self
            .queue
            .reserve(timeout, length as u64)
            .inspect_err(|_| {
                self.post.mark(id, NEVER);
            })?;
        self.post.mark(id, INSIDE);
        // SAFETY: so many bytes are ours until they are committed.
        unsafe { data.copy_from_nonoverlapping(bytes.as_ptr(), length) };
        self.reserved.push_back(Reserved { id, token, length });
        Ok(())
    }

    /// Commits what it has reserved first.
    pub fn commit(&mut self) -> Result<(), Status> {
        let it = self.reserved.pop_front().expect("it has reserved");
        self.queue.commit(it.token, it.length as u64)?;
        self.post.mark(it.id, PUT);
        Ok(())
    }

    /// Gives up what it has reserved first.
    pub fn abort(&mut self) -> Result<(), Status> {
        let it = self.reserved.pop_front().expect("it has reserved");
        self.post.mark(it.id, NEVER);
        self.queue.abort(it.token)
    }

    fn stretch(&self, length: usize) -> Result<(), Status> {
        let id = self.post.begin().ok_or(EMPTY)?;
        let (_, token) = self.queue.reserve(NOWAIT, length as u64)?;
        self.post.mark(id, INSIDE | NEVER);
        self.queue.abort(token)
    }

    /// Leases one.
    pub fn lease(&mut self, timeout: i64) -> Result<(), Status> {
        let lease = self.queue.lease(timeout)?;
        // SAFETY: so many bytes are there, which nobody writes as long as it is leased.
        let bytes = unsafe { std::slice::from_raw_parts(lease.data, lease.size as usize) };
        let id = self.mailbox.read(bytes).unwrap_or(0);
        if id > 0 {
            self.mailbox.was_lent(id, lease.attempts);
        }
        self.leased.push((lease.token, id));
        Ok(())
    }

    /// Says how many it has leased.
    pub fn leases(&self) -> usize {
        self.leased.len()
    }

    /// Says that it has got what it only looks at, as nobody should.
    pub fn get_without_taking(&self) {
        let mut buffer = [0; 4096];
        if let Ok(length) = self.queue.peek(NOWAIT, &mut buffer)
            && let Some(id) = buffer
                .get(..length)
                .and_then(|seen| self.mailbox.read(seen))
        {
            self.mailbox.got(id);
        }
    }

    /// Acknowledges its lease of this number.
    pub fn ack(&mut self, number: usize) -> Result<(), Status> {
        let (token, id) = self.leased.remove(number);
        self.mailbox.acknowledges(id);
        self.queue.ack(token)?;
        if id > 0 {
            self.mailbox.got(id);
        }
        self.mailbox.acknowledges(0);
        Ok(())
    }

    /// Gives its lease of this number back.
    pub fn nack(&mut self, number: usize) -> Result<(), Status> {
        let (token, _) = self.leased.remove(number);
        self.queue.nack(token)
    }

    fn shut(&self) -> Result<(), Status> {
        self.post.shut().store(1, SeqCst);
        self.queue.shutdown()
    }

    /// Returns the words of the queue.
    fn words(&self, at: usize, count: usize) -> &'static [AtomicU64] {
        let segment = self.queue.segment().expect("it can be opened");
        let base = self.shmkit.data(segment).expect("it has an address");
        let place = base.wrapping_add(at).cast::<AtomicU64>();
        // SAFETY: they lie in the words of the queue, at whose beginning the data begin; the segment stays open, and all
        // use them as atomics.
        unsafe { std::slice::from_raw_parts(place, count) }
    }

    fn have_somebody_die(&self, lock: usize) -> Result<(), Status> {
        use shmkit::queue::{Create, Options, Queue};
        let queue = Queue::named(NAME, Create::Never, &Options::default());
        let id = id_of_somebody(queue.expect("it can be opened").segment());
        self.words(lock, 1)[0].store(id, SeqCst);
        Ok(())
    }

    fn halfway(&mut self, step: &Step) -> Result<(), Status> {
        let words = self.words(CLAIM, CLAIM_WORDS);
        let before: Vec<_> = words.iter().map(|word| word.load(SeqCst)).collect();
        self.perform(step)?;
        for (word, value) in words.iter().zip(before) {
            word.store(value, SeqCst);
        }
        self.have_somebody_die(C)
    }

    /// Starts a process that does it, and returns when it sleeps or has ended.
    pub fn start(&mut self, step: &Step) -> Pid {
        let child = process::spawn(|| -self.perform(step).err().unwrap_or(0));
        while !process::waits(child) && !process::has_ended(child) {
            std::thread::yield_now();
        }
        child
    }
}
