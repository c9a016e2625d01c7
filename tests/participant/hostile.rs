//! Hostile bytes in tickets, slots and lock words. Each call either fails or does the right thing, and waits at most
//! until its timeout.

use super::common::byte;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{claim, descriptor_alone, holder, lock, recover, unnamed, within};
use shmkit::lock::Lock;
use shmkit::participant::Id;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The offsets of the last ticket and the slots in the file, and of the word in a lock, as in the layout.
const TICKETS: u64 = 128;
const SLOTS: u64 = 512;
const SLOT: u64 = 64;
const WORD: u64 = 8;

const LAST_TICKET: u64 = (1 << 48) - 1;
const WAITERS: u64 = 1 << 31;
const DIED: u64 = 1 << 30;

fn write(segment: &Segment, at: u64, value: u64) {
    let file = byte::reopen(segment.fd());
    file.write_all_at(&value.to_ne_bytes(), at).unwrap();
}

fn read(segment: &Segment, at: u64) -> u64 {
    let mut bytes = [0; 8];
    byte::reopen(segment.fd())
        .read_exact_at(&mut bytes, at)
        .unwrap();
    u64::from_ne_bytes(bytes)
}

/// Returns the offset of a lock's word in the file.
fn word_of(lock: &Lock) -> u64 {
    let before = lock.segment().stat().unwrap().header.unwrap().control_bytes;
    before + lock.offset() + WORD
}

fn ticket(lock: &Lock) -> u64 {
    lock.stat().0.owner.unwrap().ticket()
}

#[test]
fn a_claim_fails_where_tickets_have_run_out() {
    alone(|| {
        for last in [LAST_TICKET, LAST_TICKET + 1, u64::MAX - 2] {
            let segment = unnamed(4);
            write(&segment, TICKETS, last);
            let fd = segment.fd();
            fork(|| {
                let own = Arc::new(Segment::open_fd(fd, 0, &super::managed(0)).unwrap());
                let made = shmkit::lock::Lock::of(&own).unwrap();
                for _ in 0..3 {
                    let cause = refused!(Corrupt, made.acquire_with(WaitOptions::BLOCKING));
                    assert!(cause.text.contains("tickets"), "{cause}");
                }
            })
            .succeed();
        }
        // The last ticket is a valid one.
        let segment = unnamed(4);
        write(&segment, TICKETS, LAST_TICKET - 1);
        let last = Lock::of(&segment).unwrap();
        let child = holder(&last, || {});
        assert_eq!(ticket(&last), LAST_TICKET);
        refused!(Corrupt, last.acquire_with(WaitOptions::NONBLOCKING));
        drop(child);
    });
}

#[test]
fn tickets_that_are_turned_back_match_no_live_process() {
    alone(|| {
        let segment = unnamed(16);
        let locks: Vec<_> = (0..8).map(|place| lock(&segment, place)).collect();
        let mut children = Vec::new();
        let mut seen = BTreeSet::new();
        for (lock, turned_back) in locks[..7].iter().zip([0, 0, 0, 1, u64::MAX, 2, 0]) {
            write(&segment, TICKETS, turned_back);
            if turned_back == u64::MAX {
                // The next draw wraps around and fails; the one after it draws the first ticket.
                fork(|| {
                    drop(refused!(
                        Corrupt,
                        lock.acquire_with(WaitOptions::NONBLOCKING)
                    ))
                })
                .succeed();
            }
            children.push(holder(lock, || {}));
            assert!(
                seen.insert(ticket(lock)),
                "two processes have the same ticket"
            );
        }
        for lock in &locks[..7] {
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        }
        children.drain(..).for_each(super::Child::kill);
        locks[..7].iter().for_each(recover);
    });
}

#[test]
fn slots_with_arbitrary_bits_are_reclaimed() {
    alone(|| {
        let nonsense = [
            u64::MAX,
            1 << 63,
            LAST_TICKET,
            1 << 48,
            0xdead_beef,
            12345,
            1 << 13,
            !0 >> 1,
        ];
        for value in nonsense {
            let mut inherited = Some((unnamed(2), ()));
            let segment = &inherited.as_ref().unwrap().0;
            for word in 0..2 * SLOT / 8 {
                write(segment, SLOTS + 8 * word, value);
            }
            fork(|| {
                let fd = descriptor_alone(&mut inherited);
                let lock = claim(&fd, 0);
                assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                // The slot describes this process, not the bytes that it contained before.
                let (stat, owner) = lock.stat();
                assert_eq!(owner.unwrap().ticket, stat.owner.unwrap().ticket());
                assert_eq!(owner.unwrap().pid, std::process::id());
                lock.release().unwrap();
            })
            .succeed();
        }
    });
}

#[test]
fn an_overwritten_slot_leaves_the_owner_its_lock() {
    alone(|| {
        let segment = unnamed(1);
        fork(|| drop(lock(&segment, 0))).succeed();
        let held = Lock::of(&segment).unwrap();
        let owner = holder(&held, || {});
        for value in [0, u64::MAX, ticket(&held) + 1] {
            write(&segment, SLOTS, value);
            // Another process may take the slot; the lock's owner is known by its ticket alone.
            fork(|| {
                refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
                refused!(Timeout, held.acquire_with(within(5)));
                refused!(NotOwner, held.release());
            })
            .succeed();
        }
        owner.kill();
        recover(&held);
    });
}

#[test]
fn a_table_that_repeats_one_live_ticket_is_full() {
    alone(|| {
        let segment = unnamed(3);
        let held = lock(&segment, 0);
        let owner = holder(&held, || {});
        for slot in 0..3 {
            write(&segment, SLOTS + SLOT * slot, ticket(&held));
        }
        fork(|| {
            drop(refused!(
                TooManyProcesses,
                held.acquire_with(WaitOptions::BLOCKING)
            ))
        })
        .succeed();
        owner.kill();
        fork(|| recover(&held)).succeed();
    });
}

#[test]
fn words_with_impossible_owners_are_taken_over() {
    alone(|| {
        let segment = unnamed(4);
        let lock = lock(&segment, 1);
        let at = word_of(&lock);
        // Slots beyond the table, no slot, and tickets never drawn, with and without marks.
        let owners = [
            4096 + 1,
            0x1fff,
            777 << 13,
            777 << 13 | 1,
            0xffff_ffff << 32,
            Id::BITS,
            5 << 40,
        ];
        for owner in owners {
            for marks in [0, WAITERS, DIED, WAITERS | DIED, 1 << 29, !Id::BITS] {
                write(&segment, at, owner | marks);
                let (stat, process_info) = lock.stat();
                assert_eq!(
                    (stat.owner.map(Id::bits), process_info),
                    (Some(owner), None)
                );
                refused!(NotOwner, lock.release());
                refused!(NotOwner, lock.mark_consistent());
                assert_eq!(
                    lock.acquire_with(WaitOptions::NONBLOCKING),
                    Ok(true),
                    "{owner:#x} {marks:#x}"
                );
                lock.mark_consistent().unwrap();
                lock.release().unwrap();
                assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                lock.release().unwrap();
            }
        }
        // Marks without an owner: the lock is free.
        for marks in [WAITERS, DIED, WAITERS | DIED, 1 << 29, !Id::BITS] {
            write(&segment, at, marks);
            assert_eq!(lock.stat().0.owner, None);
            refused!(NotOwner, lock.release());
            assert_eq!(
                lock.acquire_with(WaitOptions::NONBLOCKING),
                Ok(marks & DIED != 0),
                "{marks:#x}"
            );
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
        }
    });
}

#[test]
fn a_live_ticket_with_another_slot_blocks_until_the_timeout() {
    alone(|| {
        let segment = unnamed(4);
        let (held, lied) = (lock(&segment, 0), lock(&segment, 1));
        let owner = holder(&held, || {});
        let id = held.stat().0.owner.unwrap().bits();
        let mine = {
            let own = lock(&segment, 2);
            own.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            own.stat().0.owner.unwrap().bits()
        };
        for word in [id + 1, id & !0x1fff, id | 0x1fff, mine + 1, mine & !0x1fff] {
            write(&segment, word_of(&lied), word);
            refused!(NotOwner, lied.release());
            refused!(WouldBlock, lied.acquire_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, lied.acquire_with(within(5)));
        }
        // Only this lock was unusable, not the segment.
        write(&segment, word_of(&lied), id + 1);
        owner.kill();
        recover(&held);
        recover(&lied);
    });
}

#[test]
fn a_word_that_changes_constantly_ends_in_a_status() {
    alone(|| {
        let segment = unnamed(4);
        let lock = lock(&segment, 1);
        let (at, words) = (word_of(&lock), shared_words(1));
        let forger = fork(|| {
            let file = byte::reopen(segment.fd());
            let mut value = 1u64;
            words[0].store(1, Relaxed);
            loop {
                // Xorshift yields arbitrary bits.
                value ^= value << 13;
                value ^= value >> 7;
                value ^= value << 17;
                file.write_all_at(&value.to_ne_bytes(), at).unwrap();
            }
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        for _ in 0..200 {
            for wait in [WaitOptions::NONBLOCKING, within(1)] {
                match lock.acquire_with(wait) {
                    Ok(_) => drop(lock.release()),
                    Err(error) => assert!(
                        matches!(
                            error,
                            shmkit::error::Error::WouldBlock(_) | shmkit::error::Error::Timeout(_)
                        ),
                        "{error:?}"
                    ),
                }
            }
            let _ = (lock.stat(), lock.mark_consistent());
        }
        forger.kill();
    });
}

#[test]
fn counters_at_their_maximum_wrap_around() {
    alone(|| {
        let segment = unnamed(4);
        let lock = lock(&segment, 1);
        let word = word_of(&lock);
        // The word is followed by token, depth, acquisitions, contended, recoveries, contended since.
        for at in 1..7 {
            write(&segment, word + 8 * at, u64::MAX);
        }
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
        assert_eq!(lock.stat().0.acquisitions, 0);
        lock.release().unwrap();
        let owner = holder(&lock, || {});
        owner.kill();
        recover(&lock);
        assert_eq!((lock.stat().0.recoveries, read(&segment, word)), (0, 0));
        let waiter_since = lock.stat().0.contended_since;
        assert_eq!(waiter_since, 0, "there is no waiter");
    });
}

#[test]
fn a_killed_process_that_forged_words_leaves_recoverable_locks() {
    alone(|| {
        let segment = unnamed(4);
        let locks: Vec<_> = (0..4).map(|place| lock(&segment, place)).collect();
        fork(|| {
            for lock in &locks {
                lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
                let own = lock.stat().0.owner.unwrap().bits();
                write(&segment, word_of(lock), own | WAITERS | DIED);
            }
            write(&segment, SLOTS, 0);
        })
        .succeed();
        locks.iter().for_each(recover);
    });
}
