//! Random sequences of calls: the queue behaves as a list of messages, and `stat` is exact after each call.

use super::unnamed;
use crate::common::Watchdog;
use proptest::prelude::*;
use shmkit::error::{Error, Result};
use shmkit::queue::{Batch, Options, Overflow, Queue};
use shmkit::raw::WaitOptions;
use shmkit::raw::queue::{Lease, Reservation};
use std::collections::VecDeque;
use std::mem::MaybeUninit;

const NOW: WaitOptions = WaitOptions::NONBLOCKING;

#[derive(Debug, Clone)]
enum Call {
    Put(u16),
    PutMany(Vec<u16>, bool),
    Get,
    /// Into a buffer of this many bytes, at most this many messages.
    GetMany(u16, u8),
    Peek(u16),
    Reserve(u16),
    /// The reservation with this index, with this many bytes fewer.
    Commit(u8, u16),
    Abort(u8),
    Lease,
    Ack(u8),
    Nack(u8),
}

fn call() -> impl Strategy<Value = Call> {
    // Mostly short messages, some of up to half of a small ring and beyond.
    let length = || prop_oneof![4 => 0u16..100, 1 => 0u16..1500];
    prop_oneof![
        4 => length().prop_map(Call::Put),
        1 => (proptest::collection::vec(length(), 0..6), any::<bool>())
            .prop_map(|(lengths, all)| Call::PutMany(lengths, all)),
        3 => Just(Call::Get),
        1 => (length(), 0u8..6).prop_map(|(room, most)| Call::GetMany(room, most)),
        1 => length().prop_map(Call::Peek),
        2 => length().prop_map(Call::Reserve),
        2 => (any::<u8>(), 0u16..50).prop_map(|(which, less)| Call::Commit(which, less)),
        1 => any::<u8>().prop_map(Call::Abort),
        2 => Just(Call::Lease),
        2 => any::<u8>().prop_map(Call::Ack),
        1 => any::<u8>().prop_map(Call::Nack),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let overflow = prop_oneof![
        Just(Overflow::Block),
        Just(Overflow::Fail),
        Just(Overflow::Overwrite)
    ];
    let capacity = (1024u64 / 32..4096 / 32).prop_map(|grains| grains * 32);
    let messages = prop_oneof![Just(0u64), 1u64..8];
    let bytes = prop_oneof![Just(0u64), 1u64..1000];
    (capacity, messages, bytes, overflow).prop_map(|(capacity, messages, bytes, overflow)| {
        Options {
            capacity,
            messages,
            bytes,
            overflow,
            ..Options::default()
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reserved,
    Ready,
    Leased,
}

/// A message of the model; `seed` and `length` determine its bytes.
#[derive(Debug, Clone)]
struct Message {
    seed: u64,
    length: u64,
    state: State,
    attempts: u32,
    /// Has been leased once: it does not count against the bounds any more, and precedes all that have not.
    claimed: bool,
    token: u64,
}

struct Model {
    queue: Queue,
    options: Options,
    /// All messages of the queue, in the order of put and reserve.
    there: VecDeque<Message>,
    next: u64,
    overwritten: u64,
}

fn fill(seed: u64, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + seed * 31) as u8).collect()
}

fn first_of(there: &VecDeque<Message>) -> Option<usize> {
    let returned = |message: &Message| message.claimed && message.state == State::Ready;
    if let Some(index) = there.iter().position(returned) {
        return Some(index);
    }
    let index = there.iter().position(|message| !message.claimed)?;
    (there[index].state == State::Ready).then_some(index)
}

impl Model {
    fn new(options: Options) -> Model {
        Model {
            queue: unnamed(options.clone()),
            options,
            there: VecDeque::new(),
            next: 0,
            overwritten: 0,
        }
    }

    fn message(&mut self, length: u64, state: State, token: u64) -> Message {
        self.next += 1;
        Message {
            seed: self.next,
            length,
            state,
            attempts: 0,
            claimed: false,
            token,
        }
    }

    /// Returns the index of the first message that can be taken. A reservation hides all messages behind it.
    fn first(&self) -> Option<usize> {
        first_of(&self.there)
    }

    fn find(&self, state: State, which: u8) -> Option<usize> {
        let all: Vec<_> = (0..self.there.len())
            .filter(|&index| self.there[index].state == state)
            .collect();
        (!all.is_empty()).then(|| all[which as usize % all.len()])
    }

    /// Returns whether the bounds leave room for these messages; the ring itself may have none.
    fn admits(&self, lengths: &[u64]) -> bool {
        let counted = || self.there.iter().filter(|message| !message.claimed);
        let bytes: u64 = counted().map(|message| message.length).sum();
        let fits = |most: u64, there: u64| most == 0 || there <= most;
        fits(
            self.options.messages,
            counted().count() as u64 + lengths.len() as u64,
        ) && fits(self.options.bytes, bytes + lengths.iter().sum::<u64>())
    }

    /// Discards as many messages as the queue reports overwritten; `added` bytes are new and not in the model yet.
    ///
    /// If the ring lacked bytes, returned leases were discarded while they were first in the ring; else the oldest
    /// message that had not been leased. The counts of the queue determine how many of each.
    fn follow_overwriting(&mut self, added: u64) {
        let stat = self.queue.stat().unwrap();
        let gone = stat.overwritten - self.overwritten;
        self.overwritten = stat.overwritten;
        let left = |heads: u64| {
            let mut there = self.there.clone();
            for _ in 0..heads {
                let head = there.pop_front()?;
                (head.claimed && head.state == State::Ready).then_some(())?;
            }
            for _ in heads..gone {
                let index = there.iter().position(|message| !message.claimed)?;
                let oldest = there.remove(index)?;
                (oldest.state == State::Ready).then_some(())?;
            }
            let ready = there.iter().filter(|message| message.state == State::Ready);
            let bytes: u64 = ready.map(|message| message.length).sum();
            (bytes + added == stat.bytes).then_some(there)
        };
        let first = |there: &VecDeque<Message>| match first_of(there) {
            Some(index) => {
                let message = &there[index];
                let mut bytes = vec![MaybeUninit::uninit(); message.length as usize];
                let seen = self.queue.peek_into_with(&mut bytes, NOW).unwrap();
                // SAFETY: `peek` has initialized as many bytes as the message has.
                let bytes: Vec<u8> = bytes[..seen.length.min(message.length) as usize]
                    .iter()
                    .map(|byte| unsafe { byte.assume_init() })
                    .collect();
                seen.length == message.length && bytes == fill(message.seed, message.length)
            }
            None => true,
        };
        let found = (0..=gone).filter_map(left).find(first);
        self.there = found.expect("discards that explain the counts");
    }

    /// Compares a refused call with what the model allows.
    fn refused(&mut self, lengths: &[u64], error: &Error) {
        self.follow_overwriting(0);
        let largest = self.queue.largest();
        match error {
            Error::TooLarge(_) => {
                let whole: u64 = lengths
                    .iter()
                    .map(|length| (length + 32).next_multiple_of(32))
                    .sum();
                let beyond = |most: u64, given: u64| most > 0 && given > most;
                assert!(
                    lengths.iter().any(|&length| length > largest)
                        || lengths.len() > 1
                            && (whole > self.options.capacity / 2
                                || beyond(self.options.messages, lengths.len() as u64)
                                || beyond(self.options.bytes, lengths.iter().sum()))
                );
            }
            Error::Full(_) => {
                assert!(
                    !self.there.is_empty() || lengths.is_empty(),
                    "the queue is empty"
                );
                // In a ring of this size, messages of this size must fit.
                let used: u64 = self.there.iter().map(|message| message.length + 64).sum();
                let need: u64 = lengths.iter().map(|length| length + 96).sum();
                let spans = used + need <= self.options.capacity / 4;
                assert!(
                    !(self.admits(lengths)
                        && spans
                        && self.there.iter().all(|message| !message.claimed)
                        && self.queue.is_full() == Ok(false)
                        && lengths.len() == 1
                        && lengths[0] == 0),
                    "there is room"
                );
            }
            other => panic!("{other}"),
        }
    }

    fn put(&mut self, length: u64) {
        let bytes = fill(self.next + 1, length);
        match self.queue.put_with(&bytes, NOW) {
            Ok(()) => {
                self.follow_overwriting(length);
                assert!(self.admits(&[length]), "more than the bounds allow");
                let message = self.message(length, State::Ready, 0);
                self.there.push_back(message);
            }
            Err(error) => self.refused(&[length], &error),
        }
    }

    fn put_many(&mut self, lengths: &[u64], all: bool) {
        let first = self.next + 1;
        let messages: Vec<_> = (first..)
            .zip(lengths)
            .map(|(seed, &length)| fill(seed, length))
            .collect();
        let batch = if all { Batch::All } else { Batch::Some };
        let put = self
            .queue
            .put_many_with(messages.iter().map(Vec::as_slice), batch, NOW);
        match put {
            Ok(count) => {
                assert!(count == lengths.len() as u64 || !all && count > 0);
                let lengths = &lengths[..count as usize];
                self.follow_overwriting(lengths.iter().sum());
                assert!(self.admits(lengths), "more than the bounds allow");
                for &length in lengths {
                    let message = self.message(length, State::Ready, 0);
                    self.there.push_back(message);
                }
            }
            Err(error) => self.refused(lengths, &error),
        }
    }

    fn reserve(&mut self, room: u64) {
        match self.queue.reserve_with(room, NOW) {
            Ok(Reservation {
                token,
                offset,
                room: given,
            }) => {
                assert_eq!(given, room);
                self.follow_overwriting(0);
                assert!(self.admits(&[room]), "more than the bounds allow");
                let message = self.message(room, State::Reserved, token);
                // Written at once, so that a record that overlaps would be found.
                self.write(offset, &fill(message.seed, room));
                self.there.push_back(message);
            }
            Err(error) => self.refused(&[room], &error),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let to = self.queue.address(offset, bytes.len() as u64).unwrap();
        // SAFETY: the bytes are reserved, and no other thread uses this queue.
        unsafe { to.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
    }

    fn commit(&mut self, which: u8, less: u64) {
        let Some(index) = self.find(State::Reserved, which) else {
            return;
        };
        let message = &mut self.there[index];
        message.length -= less.min(message.length);
        message.state = State::Ready;
        self.queue.commit(message.token, message.length).unwrap();
        let again = self.queue.commit(message.token, 0);
        assert!(matches!(again, Err(Error::NotOwner(_))));
    }

    fn abort(&mut self, which: u8) {
        let Some(index) = self.find(State::Reserved, which) else {
            return;
        };
        let message = self.there.remove(index).unwrap();
        self.queue.abort(message.token).unwrap();
        let again = self.queue.abort(message.token);
        assert!(matches!(again, Err(Error::NotOwner(_))));
    }

    /// Compares a message with the first of the model, and removes that.
    fn take(&mut self, bytes: &[u8], attempts: Option<u32>) {
        let index = self.first().expect("a message");
        let message = self.there.remove(index).unwrap();
        assert_eq!(bytes, fill(message.seed, message.length));
        if let Some(attempts) = attempts {
            assert_eq!(attempts, message.attempts);
        }
    }

    fn nothing<T: std::fmt::Debug>(&self, result: Result<T>, room: u64) {
        match (result, self.first()) {
            (Err(Error::Empty(_)), None) => {}
            (Err(Error::TooLarge(_)), Some(index)) => assert!(self.there[index].length > room),
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self) {
        let mut bytes = [MaybeUninit::uninit(); 2048];
        match self.queue.get_into_with(&mut bytes, NOW) {
            Ok(taken) => {
                let bytes = written(&bytes[..taken.length as usize]);
                self.take(&bytes, Some(taken.attempts));
            }
            error => self.nothing(error, bytes.len() as u64),
        }
    }

    fn get_many(&mut self, room: u64, most: u8) {
        let mut bytes = vec![MaybeUninit::uninit(); room as usize];
        let mut lengths = vec![MaybeUninit::uninit(); most.into()];
        match self.queue.get_many_into_with(&mut bytes, &mut lengths, NOW) {
            Ok(count) => {
                let bytes = &mut &bytes[..];
                let mut left = room;
                for length in &lengths[..count as usize] {
                    // SAFETY: `get_many_into_with` has initialized this many lengths.
                    let length = unsafe { length.assume_init() };
                    let (these, rest) = bytes.split_at(length as usize);
                    let these = written(these);
                    *bytes = rest;
                    left -= length;
                    self.take(&these, None);
                }
                let more = self.first().map(|index| self.there[index].length);
                let enough = count == most.into() || more.is_none_or(|length| length > left);
                assert!(enough, "one more would have fitted");
            }
            error => self.nothing(error, room),
        }
    }

    fn peek(&self, room: u64) {
        let mut bytes = vec![MaybeUninit::uninit(); room as usize];
        match self.queue.peek_into_with(&mut bytes, NOW) {
            Ok(taken) => {
                let message = &self.there[self.first().expect("a message")];
                assert_eq!(taken.length, message.length);
                let copied = message.length.min(room) as usize;
                let whole = fill(message.seed, message.length);
                assert_eq!(written(&bytes[..copied]), whole[..copied]);
            }
            error => self.nothing(error, u64::MAX),
        }
    }

    fn lease(&mut self) {
        match self.queue.lease_with(NOW) {
            Ok(Lease {
                token,
                length,
                attempts,
                ..
            }) => {
                let index = self.first().expect("a message");
                let message = &mut self.there[index];
                message.attempts += 1;
                assert_eq!((length, attempts), (message.length, message.attempts));
                (message.state, message.claimed, message.token) = (State::Leased, true, token);
            }
            error => self.nothing(error, u64::MAX),
        }
    }

    fn ack(&mut self, which: u8) {
        let Some(index) = self.find(State::Leased, which) else {
            return;
        };
        let message = self.there.remove(index).unwrap();
        self.queue.ack(message.token).unwrap();
        let again = self.queue.ack(message.token);
        assert!(matches!(again, Err(Error::NotOwner(_))));
    }

    fn nack(&mut self, which: u8) {
        let Some(index) = self.find(State::Leased, which) else {
            return;
        };
        let message = &mut self.there[index];
        message.state = State::Ready;
        self.queue.nack(message.token).unwrap();
        let again = self.queue.nack(message.token);
        assert!(matches!(again, Err(Error::NotOwner(_))));
    }

    /// Compares `stat` and the bytes of reservations and leases with the model.
    fn check(&self) {
        let stat = self.queue.stat().unwrap();
        let count = |state| {
            let all = self.there.iter().filter(|message| message.state == state);
            all.clone().fold((0, 0), |(n, bytes), message| {
                (n + 1, bytes + message.length)
            })
        };
        assert_eq!((stat.messages, stat.bytes), count(State::Ready));
        assert_eq!(stat.reserved, count(State::Reserved).0);
        assert_eq!(stat.leased, count(State::Leased).0);
        assert_eq!(stat.overwritten, self.overwritten);
        let finished = self.queue.join_with(NOW).is_ok();
        assert_eq!(finished, self.there.is_empty());
        for message in &self.there {
            if message.state == State::Ready {
                continue;
            }
            let offset = self.offset(message.token);
            let from = self.queue.address(offset, message.length).unwrap();
            // SAFETY: the bytes are reserved or leased, and no other thread uses this queue.
            let bytes =
                unsafe { std::slice::from_raw_parts(from.as_ptr(), message.length as usize) };
            assert_eq!(bytes, fill(message.seed, message.length), "overwritten");
        }
    }

    /// Returns the offset of a record's payload, from its token.
    fn offset(&self, token: u64) -> u64 {
        const HEAD: u64 = 32;
        let ring = self.options.capacity + 4 * HEAD;
        // The lowest bits count the attempts.
        (token & (ring.next_power_of_two() - HEAD)) + HEAD
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Put(length) => self.put((*length).into()),
            Call::PutMany(lengths, all) => {
                let lengths: Vec<u64> = lengths.iter().map(|&length| length.into()).collect();
                self.put_many(&lengths, *all);
            }
            Call::Get => self.get(),
            Call::GetMany(room, most) => self.get_many((*room).into(), *most),
            Call::Peek(room) => self.peek((*room).into()),
            Call::Reserve(room) => self.reserve((*room).into()),
            Call::Commit(which, less) => self.commit(*which, (*less).into()),
            Call::Abort(which) => self.abort(*which),
            Call::Lease => self.lease(),
            Call::Ack(which) => self.ack(*which),
            Call::Nack(which) => self.nack(*which),
        }
        self.check();
    }
}

fn written(bytes: &[MaybeUninit<u8>]) -> Vec<u8> {
    // SAFETY: the caller guarantees that they have been initialized.
    let each = |byte: &MaybeUninit<u8>| unsafe { byte.assume_init() };
    bytes.iter().map(each).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_behaves_as_a_list(options in options(), calls in proptest::collection::vec(call(), 1..120)) {
        let _watchdog = Watchdog::start();
        let mut model = Model::new(options);
        for call in &calls {
            model.call(call);
        }
    }
}
