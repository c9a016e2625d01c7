//! The participant table: full tables, concurrent claims and stopped claimers.

use super::common::byte;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{claim, descriptor_alone, holder, lock, managed, recover, stay, unnamed, within};
use nix::sys::signal::{Signal, kill};
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_full_table_fails_until_a_participant_dies() {
    alone(|| {
        for participants in [1, 2] {
            let segment = Arc::new(Segment::create(None, 4096, &managed(participants)).unwrap());
            // The creator closes its handle: it must not occupy a table of one.
            let fd = segment.fd();
            fork(|| {
                let own = Arc::new(Segment::open_fd(fd, 0, &managed(0)).unwrap());
                lock(&own, 0);
                lock(&own, 1);
                lock(&own, 2);
            })
            .succeed();
            let open = |place: u64| {
                shmkit::lock::Lock::at(
                    &segment,
                    place * 64,
                    shmkit::lock::Create::Never,
                    &shmkit::lock::Options::default(),
                )
                .unwrap()
            };
            let locks: Vec<_> = (0..3).map(open).collect();
            let mut living: Vec<_> = (0..participants as usize)
                .map(|place| holder(&locks[place], || {}))
                .collect();
            fork(|| {
                let cause = refused!(
                    TooManyProcesses,
                    locks[2].acquire_with(WaitOptions::NONBLOCKING)
                );
                assert!(cause.text.contains(&participants.to_string()), "{cause}");
            })
            .succeed();
            living.pop().unwrap().kill();
            fork(|| {
                assert_eq!(locks[2].acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                locks[2].release().unwrap();
                recover(&locks[participants as usize - 1]);
            })
            .succeed();
        }
    });
}

#[test]
fn concurrent_claims_get_distinct_identities() {
    const COUNT: usize = 64;
    alone(|| {
        let segment = unnamed(COUNT as u32);
        let tickets = shared_words(COUNT + 1);
        let fd = segment.fd();
        let children: Vec<_> = (0..COUNT)
            .map(|number| {
                fork(|| {
                    let own = Arc::new(Segment::open_fd(fd, 0, &managed(0)).unwrap());
                    wait_until(|| tickets[COUNT].load(Relaxed) == 1);
                    let lock = lock(&own, 1 + number as u64 % 32);
                    lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                    let owner = lock.stat().0.owner.unwrap();
                    tickets[number]
                        .store(owner.ticket() << 16 | owner.slot().unwrap() as u64, Relaxed);
                    lock.release().unwrap();
                    stay();
                })
            })
            .collect();
        tickets[COUNT].store(1, Relaxed);
        wait_until(|| {
            tickets[..COUNT]
                .iter()
                .all(|ticket| ticket.load(Relaxed) != 0)
        });
        let seen: BTreeSet<_> = tickets[..COUNT]
            .iter()
            .map(|word| word.load(Relaxed) >> 16)
            .collect();
        let slots: BTreeSet<_> = tickets[..COUNT]
            .iter()
            .map(|word| word.load(Relaxed) & 0xffff)
            .collect();
        assert_eq!((seen.len(), slots.len()), (COUNT, COUNT));
        for child in children {
            child.kill();
        }
        // All of them are dead, so the table has room again.
        for _ in 0..COUNT + 1 {
            fork(|| {
                let lock = lock(&segment, 40);
                lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
                lock.release().unwrap();
            })
            .succeed();
        }
    });
}

#[test]
fn a_stopped_claimer_delays_no_other_process() {
    alone(|| {
        let mut inherited = Some((unnamed(4), ()));
        let rounds = shared_words(1);
        let claimer = fork(|| {
            let fd = descriptor_alone(&mut inherited);
            loop {
                let lock = claim(&fd, 1);
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                lock.release().unwrap();
                rounds[0].fetch_add(1, Relaxed);
            }
        });
        for round in 0..50 {
            let before = rounds[0].load(Relaxed);
            wait_until(|| rounds[0].load(Relaxed) > before + round % 7);
            kill(claimer.pid(), Signal::SIGSTOP).unwrap();
            fork(|| {
                let fd = descriptor_alone(&mut inherited);
                let lock = claim(&fd, 0);
                assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                lock.release().unwrap();
            })
            .succeed();
            kill(claimer.pid(), Signal::SIGCONT).unwrap();
        }
        claimer.kill();
    });
}

#[test]
fn a_small_table_serves_many_short_lived_processes() {
    alone(|| {
        let segment = unnamed(2);
        let own = lock(&segment, 0);
        let mut last = 0;
        for round in 0..200 {
            let child = fork(|| {
                own.acquire_with(WaitOptions::BLOCKING).unwrap();
                // Whether it exits or is killed, it does not release.
                if round % 2 == 0 {
                    stay();
                }
            });
            if round % 2 == 0 {
                wait_until(|| {
                    own.stat()
                        .0
                        .owner
                        .is_some_and(|owner| owner.ticket() > last)
                });
                child.kill();
            } else {
                child.succeed();
            }
            last = own.stat().0.owner.unwrap().ticket();
            recover(&own);
        }
    });
}

/// Sets the last ticket that was drawn; it follows the header.
fn set_tickets(segment: &Segment, last: u64) {
    byte::reopen(segment.fd())
        .write_all_at(&last.to_ne_bytes(), 128)
        .unwrap();
}

#[test]
fn a_ticket_counter_that_is_turned_back_duplicates_no_live_ticket() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        let owner = holder(&held, || {});
        let its = held.stat().0.owner.unwrap();
        for _ in 0..3 {
            fork(|| {
                set_tickets(&segment, its.ticket() - 1);
                refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
                free.acquire_with(WaitOptions::NONBLOCKING).unwrap();
                assert!(free.stat().0.owner.unwrap().ticket() > its.ticket());
                refused!(NotOwner, held.release());
                refused!(Timeout, held.acquire_with(within(20)));
                free.release().unwrap();
            })
            .succeed();
        }
        assert_eq!(held.stat().0.owner, Some(its));
        owner.kill();
        recover(&held);
    });
}

#[test]
fn a_claim_fails_after_the_last_ticket() {
    const LAST: u64 = (1 << 48) - 1;
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        set_tickets(&segment, LAST - 1);
        let owner = holder(&lock, || {});
        assert_eq!(lock.stat().0.owner.unwrap().ticket(), LAST);
        for last in [LAST, LAST + 1, u64::MAX - 1, u64::MAX] {
            fork(|| {
                set_tickets(&segment, last);
                refused!(Corrupt, lock.acquire_with(WaitOptions::NONBLOCKING));
            })
            .succeed();
        }
        owner.kill();
        recover(&lock);
    });
}

#[test]
fn an_overwritten_table_changes_no_liveness() {
    alone(|| {
        let segment = unnamed(8);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        free.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        free.release().unwrap();
        let owner = holder(&held, || {});
        let its = held.stat().0.owner.unwrap();
        let file = byte::reopen(segment.fd());
        for value in [0, 1, its.ticket() + 1, u64::MAX] {
            for word in 0..8 * 8 {
                file.write_all_at(&u64::to_ne_bytes(value), 256 + 8 * word)
                    .unwrap();
            }
            refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, held.acquire_with(within(5)));
            held.stat();
        }
        owner.kill();
        recover(&held);
    });
}
