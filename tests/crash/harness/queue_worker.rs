//! A process that uses the queue under test step by step, and notes in the message log what the calls return.

use crate::suite::capi::queue::{Queue, Shape};
use crate::suite::capi::{EMPTY, FOREVER, FULL, NOWAIT, SHUT_DOWN, Status, TIMEOUT, WOULD_BLOCK};
use crate::suite::harness::fixture::{NAME, VICTIM_TIMEOUT_NS, exit_code, participant_id, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::message_log::{BATCH, INSIDE, Inbox, MessageLog, NEVER, PUT, message};
use crate::suite::harness::process::spawn_waiter;
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A step of a process.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Puts a message of this length.
    Put(usize),
    /// As `Put`, this number of times.
    Puts(usize, usize),
    /// Puts messages until the queue is full.
    Fill(usize),
    /// Puts a message without waiting; the queue may be full.
    TryPut(usize),
    /// Puts a message; the wait for room may time out.
    PutTimesOut(usize),
    /// Puts this number of messages in one call.
    PutMany(usize, usize),
    /// Gets a message.
    Get,
    /// As `Get`, this number of times.
    Gets(usize),
    /// Gets at most this number of messages in one call.
    GetMany(usize),
    /// Gets a message without waiting; the queue may be empty.
    TryGet,
    /// As `TryGet`, this number of times.
    TryGets(usize),
    /// Gets a message; the wait may time out.
    GetTimesOut,
    /// Gets all messages.
    Drain,
    /// Copies the first message without taking it.
    Peek,
    /// Reserves this number of bytes.
    Reserve(usize),
    /// Commits its oldest reservation.
    Commit,
    /// Aborts its oldest reservation.
    Abort,
    /// Reserves this number of bytes and aborts, which takes memory.
    ReserveAndAbort(usize),
    /// Leases a message.
    Lease,
    /// Acknowledges its lease of this index.
    Ack(usize),
    /// Returns its lease of this index.
    Nack(usize),
    /// Waits until all messages are taken.
    Join,
    /// As `Join`; the wait may time out.
    JoinTimesOut,
    /// Shuts the queue down.
    Shutdown,
    /// Reads the counters.
    Stat,
    /// Has a dead process hold P, the producers' lock.
    DiedHoldingP,
    /// Has a dead process hold C, the consumers' lock.
    DiedHoldingC,
    /// Gets or leases a message and restores the claim, as if the process had died in between.
    Halfway(&'static Step),
}

/// Offsets of the words of a queue, in bytes (src/raw/queue.rs).
const P: u64 = 64;
const C: u64 = 256;
const CLAIM: u64 = 320;
const CLAIM_WORDS: usize = 7;

/// A message that is filled in place.
struct Reserved {
    id: u64,
    token: u64,
    length: usize,
}

/// A process that has the queue open.
pub struct QueueWorker<'a> {
    shmkit: &'a Library,
    /// The queue.
    pub queue: Queue<'a>,
    log: &'a MessageLog,
    inbox: Inbox<'a>,
    /// Messages that are built and not put yet.
    ready: RefCell<VecDeque<(u64, Vec<u8>)>>,
    reserved: VecDeque<Reserved>,
    /// Token and number of each leased message.
    leased: Vec<(u64, u64)>,
}

/// Turns the expected errors into success: what other processes do decides whether they occur.
fn accept(result: Result<(), Status>, expected: &[Status]) -> Result<(), Status> {
    match result {
        Err(status) if expected.contains(&status) => Ok(()),
        other => other,
    }
}

impl<'a> QueueWorker<'a> {
    /// Uses a queue that is open.
    pub fn of(
        shmkit: &'a Library,
        queue: Queue<'a>,
        log: &'a MessageLog,
        process: usize,
    ) -> QueueWorker<'a> {
        QueueWorker {
            shmkit,
            queue,
            log,
            inbox: log.inbox(process),
            ready: RefCell::default(),
            reserved: VecDeque::new(),
            leased: Vec::new(),
        }
    }

    /// Opens the queue, and makes this process a participant.
    pub fn open(
        shmkit: &'a Library,
        shape: Shape,
        log: &'a MessageLog,
        process: usize,
    ) -> QueueWorker<'a> {
        let queue = Queue::open(shmkit, shape).expect("the queue is opened");
        // is_full acquires the producers' lock, which `stat` does not.
        queue.is_full().expect("the queue is open");
        QueueWorker::of(shmkit, queue, log, process)
    }

    /// Performs all steps.
    pub fn perform_all(&mut self, steps: &[Step]) -> Result<(), Status> {
        steps.iter().try_for_each(|step| self.perform(step))
    }

    /// Performs a step.
    pub fn perform(&mut self, step: &Step) -> Result<(), Status> {
        match *step {
            Step::Put(length) => self.accept_shutdown(self.put(FOREVER, length)),
            Step::Puts(count, length) => (0..count).try_for_each(|_| self.put(FOREVER, length)),
            Step::Fill(length) => loop {
                match self.put(NOWAIT, length) {
                    Ok(()) => {}
                    Err(FULL) => return Ok(()),
                    Err(status) => return Err(status),
                }
            },
            Step::TryPut(length) => accept(self.put(NOWAIT, length), &[FULL]),
            Step::PutTimesOut(length) => accept(self.put(VICTIM_TIMEOUT_NS, length), &[TIMEOUT]),
            Step::PutMany(count, length) => self.put_many(FOREVER, count, length),
            Step::Get => self.get(FOREVER),
            Step::Gets(count) => (0..count).try_for_each(|_| self.get(FOREVER)),
            Step::GetMany(most) => self.get_many(FOREVER, most).map(drop),
            Step::TryGet => accept(self.get(NOWAIT), &[EMPTY, WOULD_BLOCK]),
            Step::TryGets(count) => (0..count).try_for_each(|_| self.perform(&Step::TryGet)),
            Step::Drain => loop {
                match self.take(NOWAIT) {
                    Ok(()) => {}
                    // A stopped process delays it.
                    Err(WOULD_BLOCK) => self.get(FOREVER)?,
                    Err(status) => return accept(Err(status), &[EMPTY, SHUT_DOWN]),
                }
            },
            Step::GetTimesOut => accept(self.get(VICTIM_TIMEOUT_NS), &[TIMEOUT]),
            Step::Peek => self.peek(FOREVER),
            Step::Reserve(length) => self.reserve(FOREVER, length),
            Step::Commit => self.commit(),
            Step::Abort => self.abort(),
            Step::ReserveAndAbort(length) => self.reserve_and_abort(length),
            Step::Lease => self.lease(FOREVER),
            Step::Ack(number) => self.ack(number),
            Step::Nack(number) => self.nack(number),
            Step::Join => self.queue.join(FOREVER),
            Step::JoinTimesOut => accept(self.queue.join(VICTIM_TIMEOUT_NS), &[TIMEOUT]),
            Step::Shutdown => self.shutdown(),
            Step::Stat => self.queue.stat().map(drop),
            Step::DiedHoldingP => self.plant_dead_owner(P),
            Step::DiedHoldingC => self.plant_dead_owner(C),
            Step::Halfway(step) => self.halfway(step),
        }
    }

    /// Builds the messages that these steps put, so that it is not traced.
    pub fn build_messages(&self, steps: &[Step]) {
        for step in steps {
            let (count, length) = match *step {
                Step::Put(length) | Step::Reserve(length) => (1, length),
                Step::TryPut(length) | Step::PutTimesOut(length) => (1, length),
                Step::Puts(count, length) | Step::PutMany(count, length) => (count, length),
                _ => continue,
            };
            for _ in 0..count {
                let next = self.build(length).expect("the log has room");
                self.ready.borrow_mut().push_back(next);
            }
        }
    }

    fn build(&self, length: usize) -> Result<(u64, Vec<u8>), Status> {
        let id = self.log.begin().ok_or(EMPTY)?;
        Ok((id, message(id, length)))
    }

    /// Returns the next message to put, which may be built already.
    fn next(&self, length: usize) -> Result<(u64, Vec<u8>), Status> {
        let ready = self.ready.borrow_mut().pop_front();
        ready.map_or_else(|| self.build(length), Ok)
    }

    /// Puts a message.
    pub fn put(&self, timeout: i64, length: usize) -> Result<(), Status> {
        let (id, bytes) = self.next(length)?;
        let put = self.queue.put(timeout, &bytes);
        self.log
            .mark(id, if put.is_ok() { INSIDE | PUT } else { NEVER });
        put
    }

    /// Puts this number of messages in one call.
    pub fn put_many(&self, timeout: i64, count: usize, length: usize) -> Result<(), Status> {
        let next = (0..count).map_while(|_| self.next(length).ok());
        let (ids, messages): (Vec<_>, Vec<_>) = next.unzip();
        let put = self.queue.put_many(timeout, &messages);
        for (number, &id) in ids.iter().enumerate() {
            let inside = put.is_ok_and(|put| (number as u64) < put);
            self.log.mark(id, if inside { INSIDE | PUT } else { NEVER });
        }
        put.map(drop)
    }

    /// Gets a message.
    fn get(&self, timeout: i64) -> Result<(), Status> {
        self.accept_shutdown(self.take(timeout))
    }

    /// Turns SHUT_DOWN into success if shutdown was called.
    fn accept_shutdown(&self, result: Result<(), Status>) -> Result<(), Status> {
        match result {
            Err(SHUT_DOWN) if self.log.shutdown().load(SeqCst) != 0 => Ok(()),
            other => other,
        }
    }

    /// Gets a message, and checks it.
    pub fn take(&self, timeout: i64) -> Result<(), Status> {
        self.inbox.expect_one();
        let got = self.inbox.fill(|buffer, _| self.queue.get(timeout, buffer));
        if let Ok(length) = got
            && let Some(id) = self.inbox.read(self.inbox.bytes(0, length))
        {
            self.inbox.got(id);
        }
        self.inbox.expect_none();
        got.map(drop)
    }

    /// Gets at most `most` messages in one call; returns their number.
    pub fn get_many(&self, timeout: i64, most: usize) -> Result<usize, Status> {
        self.inbox.expect_many();
        let got = self.inbox.fill(|buffer, sizes| {
            let most = most.min(BATCH);
            self.queue.get_many(timeout, buffer, &mut sizes[..most])
        });
        let mut at = 0;
        for number in 0..got.unwrap_or(0) {
            let length = self.inbox.size(number);
            if let Some(id) = self.inbox.read(self.inbox.bytes(at, length)) {
                self.inbox.got(id);
            }
            at += length;
        }
        self.inbox.expect_none();
        got
    }

    /// Copies the first message without taking it.
    pub fn peek(&self, timeout: i64) -> Result<(), Status> {
        let mut buffer = [0; 4096];
        let length = self.queue.peek(timeout, &mut buffer)?;
        if let Some(seen) = buffer.get(..length) {
            self.inbox.read(seen);
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
                self.log.mark(id, NEVER);
            })?;
        self.log.mark(id, INSIDE);
        // SAFETY: the reserved bytes belong to this process until they are committed.
        unsafe { data.copy_from_nonoverlapping(bytes.as_ptr(), length) };
        self.reserved.push_back(Reserved { id, token, length });
        Ok(())
    }

    /// Commits its oldest reservation.
    pub fn commit(&mut self) -> Result<(), Status> {
        let it = self.reserved.pop_front().expect("there is a reservation");
        self.queue.commit(it.token, it.length as u64)?;
        self.log.mark(it.id, PUT);
        Ok(())
    }

    /// Aborts its oldest reservation.
    pub fn abort(&mut self) -> Result<(), Status> {
        let it = self.reserved.pop_front().expect("there is a reservation");
        self.log.mark(it.id, NEVER);
        self.queue.abort(it.token)
    }

    fn reserve_and_abort(&self, length: usize) -> Result<(), Status> {
        let id = self.log.begin().ok_or(EMPTY)?;
        let (_, token) = self.queue.reserve(NOWAIT, length as u64)?;
        self.log.mark(id, INSIDE | NEVER);
        self.queue.abort(token)
    }

    /// Leases a message.
    pub fn lease(&mut self, timeout: i64) -> Result<(), Status> {
        let lease = self.queue.lease(timeout)?;
        // SAFETY: the bytes are mapped, and constant while the message is leased.
        let bytes = unsafe { std::slice::from_raw_parts(lease.data, lease.size as usize) };
        let id = self.inbox.read(bytes).unwrap_or(0);
        if id > 0 {
            self.inbox.leased(id, lease.attempts);
        }
        self.leased.push((lease.token, id));
        Ok(())
    }

    /// Returns the number of its leases.
    pub fn leases(&self) -> usize {
        self.leased.len()
    }

    /// Notes a message as got that it has only copied: a flaw.
    pub fn get_without_taking(&self) {
        let mut buffer = [0; 4096];
        if let Ok(length) = self.queue.peek(NOWAIT, &mut buffer)
            && let Some(id) = buffer.get(..length).and_then(|seen| self.inbox.read(seen))
        {
            self.inbox.got(id);
        }
    }

    /// Acknowledges its lease of this index.
    pub fn ack(&mut self, number: usize) -> Result<(), Status> {
        let (token, id) = self.leased.remove(number);
        self.inbox.acknowledges(id);
        self.queue.ack(token)?;
        if id > 0 {
            self.inbox.got(id);
        }
        self.inbox.acknowledges(0);
        Ok(())
    }

    /// Returns its lease of this index.
    pub fn nack(&mut self, number: usize) -> Result<(), Status> {
        let (token, _) = self.leased.remove(number);
        self.queue.nack(token)
    }

    fn shutdown(&self) -> Result<(), Status> {
        self.log.shutdown().store(1, SeqCst);
        self.queue.shutdown()
    }

    /// Returns words of the queue, which begins at the first byte of the data.
    fn words<const N: usize>(&self, offset: u64) -> &'static [AtomicU64; N] {
        let segment = self.queue.segment().expect("the segment is opened");
        words(self.shmkit, segment, offset)
    }

    /// Makes a process that is dead when this one has ended the owner of a lock.
    fn plant_dead_owner(&self, lock: u64) -> Result<(), Status> {
        use shmkit::queue::{Create, Options, Queue};
        let queue = Queue::named(NAME, Create::Never, &Options::default());
        let id = participant_id(queue.expect("the queue is opened").segment());
        let [word] = self.words(lock);
        word.store(id, SeqCst);
        Ok(())
    }

    fn halfway(&mut self, step: &Step) -> Result<(), Status> {
        let claim = self.words::<CLAIM_WORDS>(CLAIM);
        let before = claim.each_ref().map(|word| word.load(SeqCst));
        self.perform(step)?;
        for (word, value) in claim.iter().zip(before) {
            word.store(value, SeqCst);
        }
        self.plant_dead_owner(C)
    }

    /// Starts a process that performs the step, and returns when it waits or has ended.
    pub fn start(&mut self, step: &Step) -> Pid {
        spawn_waiter(|| exit_code(self.perform(step)))
    }
}
