//! Processes that end while they hold something of a queue: killed, by exit, or by closing their last handle.

use super::common::Name;
use super::common::container::{can_contain, contained, kill_first};
use super::common::process::{Ended, alone, fork, shared_words, wait_until};
use super::{NOW, ONE_MINUTE, await_sleepers, drain, get_many, holder, lessee, stay, unnamed};
use shmkit::queue::{Batch, Create, Options, Overflow, Queue};
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

fn of(messages: u64) -> Options {
    Options {
        messages,
        ..Options::default()
    }
}

/// Creates a queue with these messages.
fn with(messages: &[&[u8]]) -> Queue {
    let queue = unnamed(Options::default());
    for message in messages {
        queue.put_with(message, NOW).unwrap();
    }
    queue
}

/// Takes `count` messages and sorts them: a redelivered message may follow later ones.
fn get_sorted(queue: &Queue, count: usize) -> Vec<Vec<u8>> {
    let mut had: Vec<_> = (0..count)
        .map(|_| queue.get_with(ONE_MINUTE).unwrap())
        .collect();
    had.sort();
    had
}

#[test]
fn a_sleeper_that_dies_takes_no_message_and_no_room() {
    alone(|| {
        let queue = unnamed(of(2));
        let idle: Vec<_> = (0..3)
            .map(|_| fork(|| drop(queue.get_with(WaitOptions::BLOCKING))))
            .collect();
        await_sleepers(&queue, 3, 0);
        idle.into_iter().for_each(|child| child.kill());
        queue.put_with(b"a", NOW).unwrap();
        queue.put_with(b"b", NOW).unwrap();
        let idle = fork(|| drop(queue.put_with(b"never", WaitOptions::BLOCKING)));
        let next = fork(|| queue.put_with(b"c", WaitOptions::BLOCKING).unwrap());
        await_sleepers(&queue, 3, 2);
        idle.kill();
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"a");
        next.succeed();
        assert_eq!(drain(&queue), [b"b", b"c"]);
    });
}

#[test]
fn a_lease_of_a_dead_consumer_is_redelivered_with_a_higher_attempt_count() {
    alone(|| {
        let queue = with(&[b"a"]);
        for attempts in 1..=4 {
            let lessee = holder(|| {
                let lease = queue.lease_with(NOW).unwrap();
                assert_eq!((lease.length, lease.attempts), (1, attempts));
            });
            assert_eq!(queue.stat().unwrap().leased, 1);
            lessee.kill();
        }
        let lease = queue.lease().unwrap();
        assert_eq!((lease.bytes().len(), lease.attempts()), (1, 5));
        lease.ack().unwrap();
        let stat = queue.stat().unwrap();
        assert_eq!((stat.redelivered, stat.messages, stat.leased), (4, 0, 0));
    });
}

#[test]
fn a_lease_of_a_dead_consumer_is_redelivered_to_every_kind_of_get() {
    alone(|| {
        let queue = with(&[b"a", b"b", b"c", b"d"]);
        let lessee = holder(|| {
            for _ in 0..3 {
                queue.lease_with(NOW).unwrap();
            }
        });
        assert_eq!(drain(&queue), [b"d"]);
        refused!(WouldBlock, queue.join_with(NOW));
        // A consumer sleeps when the lessee dies.
        let sleeper = fork(|| assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"a"));
        let before = queue.stat().unwrap().waits.0;
        await_sleepers(&queue, before + 1, 0);
        lessee.kill();
        sleeper.succeed();
        let peeked = queue.peek_into_with(&mut [], ONE_MINUTE).unwrap();
        assert_eq!((peeked.length, peeked.attempts), (1, 1));
        let (mut bytes, mut lengths) = (
            [std::mem::MaybeUninit::uninit(); 8],
            [std::mem::MaybeUninit::uninit(); 8],
        );
        assert_eq!(
            queue.get_many_into_with(&mut bytes, &mut lengths, ONE_MINUTE),
            Ok(2)
        );
        queue.join_with(NOW).unwrap();
    });
}

#[test]
fn leases_of_dead_consumers_are_redelivered_under_a_steady_load() {
    alone(|| {
        let queue = with(&[b"lost"]);
        lessee(&queue).kill();
        // There is always another message to get.
        queue.put_with(b"load", NOW).unwrap();
        let mut gets = 0;
        loop {
            queue.put_with(b"load", NOW).unwrap();
            gets += 1;
            if queue.get_with(NOW).unwrap() == b"lost" {
                break;
            }
            assert!(
                gets < 10_000,
                "no get has searched for leases of dead processes"
            );
        }
    });
}

#[test]
fn a_reservation_of_a_dead_producer_is_skipped() {
    alone(|| {
        for sleeping in [false, true] {
            let queue = with(&[b"a"]);
            let reserver = holder(|| {
                for _ in 0..3 {
                    queue.reserve_with(100, NOW).unwrap();
                }
            });
            queue.put_with(b"b", NOW).unwrap();
            assert_eq!(queue.get_with(NOW).unwrap(), b"a");
            refused!(Empty, queue.get_with(NOW));
            let stat = queue.stat().unwrap();
            assert_eq!((stat.messages, stat.reserved), (1, 3));
            let process = queue.process_info(stat.held_up_by.unwrap()).unwrap();
            assert_eq!(process.pid, reserver.pid().as_raw() as u32);
            if sleeping {
                let consumer =
                    fork(|| assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"b"));
                let before = queue.stat().unwrap().waits.0;
                await_sleepers(&queue, before + 1, 0);
                reserver.kill();
                consumer.succeed();
            } else {
                reserver.kill();
                assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"b");
            }
            let stat = queue.stat().unwrap();
            assert_eq!((stat.skipped, stat.reserved, stat.messages), (3, 0, 0));
            queue.join_with(NOW).unwrap();
        }
    });
}

#[test]
fn a_batch_get_skips_a_reservation_of_a_dead_producer() {
    alone(|| {
        let queue = with(&[b"a"]);
        let reserver = holder(|| {
            queue.reserve_with(100, NOW).unwrap();
        });
        queue.put_with(b"b", NOW).unwrap();
        reserver.kill();
        assert_eq!(get_many(&queue, 8, 8), [b"a", b"b"]);
        let stat = queue.stat().unwrap();
        assert_eq!((stat.skipped, stat.reserved, stat.messages), (1, 0, 0));
    });
}

#[test]
fn room_reserved_by_a_dead_producer_goes_to_a_waiting_one() {
    alone(|| {
        // Room by messages, by bytes, and by the ring.
        for options in [
            of(1),
            Options {
                bytes: 2000,
                ..Options::default()
            },
            Options {
                capacity: 4096,
                ..Options::default()
            },
        ] {
            let queue = unnamed(options);
            let fill = || holder(|| while queue.reserve_with(1900, NOW).is_ok() {});
            let reserver = fill();
            refused!(Full, queue.put_with(&[1; 1900], NOW));
            reserver.kill();
            queue.put_with(&[1; 1900], ONE_MINUTE).unwrap();
            assert_eq!(drain(&queue), [[1; 1900]]);
            let reserver = fill();
            let producer = fork(|| queue.put_with(&[2; 1900], WaitOptions::BLOCKING).unwrap());
            let before = queue.stat().unwrap().waits.1;
            await_sleepers(&queue, 0, before + 1);
            reserver.kill();
            producer.succeed();
            // The reserver was alive at the last check, so a call that does not wait may not check again.
            assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), [2; 1900]);
        }
    });
}

#[test]
fn a_consumer_that_dies_in_an_acknowledgement_leaves_no_sleeper_behind() {
    alone(|| {
        let queue = unnamed(Options {
            capacity: 4096,
            ..Options::default()
        });
        let lessees: Vec<_> = (0..2)
            .map(|_| {
                queue.put_with(&[1; 1800], NOW).unwrap();
                lessee(&queue)
            })
            .collect();
        let producer = fork(|| {
            for _ in 0..2 {
                queue.put_with(&[2; 1800], WaitOptions::BLOCKING).unwrap();
            }
        });
        await_sleepers(&queue, 0, 1);
        lessees.into_iter().for_each(|child| child.kill());
        // Each message is redelivered once.
        let mut had = [0; 4].map(|_: i32| queue.get_with(ONE_MINUTE).unwrap()[0]);
        producer.succeed();
        had.sort_unstable();
        assert_eq!(had, [1, 1, 2, 2]);
        assert_eq!(queue.stat().unwrap().messages, 0);
    });
}

#[test]
fn a_process_that_exits_counts_as_dead() {
    alone(|| {
        let queue = with(&[b"a"]);
        fork(|| {
            queue.lease_with(NOW).unwrap();
            queue.reserve_with(10, NOW).unwrap();
        })
        .succeed();
        queue.put_with(b"b", NOW).unwrap();
        assert_eq!(get_sorted(&queue, 2), [b"a", b"b"]);
        let aborted = fork(|| {
            queue.reserve_with(10, NOW).unwrap();
            std::process::abort();
        });
        assert_eq!(
            aborted.wait(),
            Ended::Signal(nix::sys::signal::Signal::SIGABRT)
        );
        queue.put_with(b"c", NOW).unwrap();
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"c");
    });
}

#[test]
fn a_process_that_closes_its_last_handle_counts_as_dead() {
    alone(|| {
        let name = Name::new();
        let queue = Queue::named(&name, Create::Always, &Options::default()).unwrap();
        queue.put_with(b"a", NOW).unwrap();
        queue.put_with(b"b", NOW).unwrap();
        drop(queue);
        let words = shared_words(1);
        let open = || Queue::named(&name, Create::Never, &Options::default()).unwrap();
        let closer = fork(|| {
            let (queue, second) = (open(), open());
            queue.lease_with(NOW).unwrap();
            second.reserve_with(10, NOW).unwrap();
            drop(queue);
            words[0].store(1, Relaxed);
            // While another handle is open the process counts as live.
            wait_until(|| words[0].load(Relaxed) == 2);
            drop(second);
            words[0].store(3, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let queue = open();
        queue.put_with(b"c", NOW).unwrap();
        assert_eq!(drain(&queue), [b"b"]);
        words[0].store(2, Relaxed);
        wait_until(|| words[0].load(Relaxed) == 3);
        assert_eq!(get_sorted(&queue, 2), [b"a", b"c"]);
        closer.kill();
    });
}

#[test]
fn a_forked_child_holds_nothing_of_its_parent() {
    alone(|| {
        let queue = with(&[b"a", b"b"]);
        let lease = queue.lease().unwrap();
        let slot = queue.reserve(10).unwrap();
        let (token, reserved) = (
            queue.lease_with(NOW).unwrap(),
            queue.reserve_with(9, NOW).unwrap(),
        );
        fork(|| {
            refused!(NotOwner, queue.ack(token.token));
            refused!(NotOwner, queue.nack(token.token));
            refused!(NotOwner, queue.commit(token.token, 0));
            refused!(NotOwner, queue.commit(reserved.token, 1));
            refused!(NotOwner, queue.abort(reserved.token));
            refused!(Empty, queue.get_with(NOW));
            // The child holds what it reserves and leases itself.
            queue.put_with(b"c", NOW).unwrap();
        })
        .succeed();
        // The child's death did not count as the parent's.
        let stat = queue.stat().unwrap();
        assert_eq!((stat.leased, stat.reserved), (2, 2));
        queue.nack(token.token).unwrap();
        queue.commit(reserved.token, 0).unwrap();
        lease.ack().unwrap();
        drop(slot);
        assert_eq!(drain(&queue), [&b"b"[..], b"", b"c"]);
    });
}

#[test]
fn a_lease_of_a_dead_child_is_redelivered_while_its_parent_lives() {
    alone(|| {
        let queue = with(&[b"a", b"b"]);
        let own = queue.lease_with(NOW).unwrap();
        lessee(&queue).kill();
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"b");
        queue.ack(own.token).unwrap();
        queue.join_with(NOW).unwrap();
    });
}

#[test]
fn overwriting_discards_no_message_that_a_live_process_leases() {
    alone(|| {
        let queue = unnamed(Options {
            capacity: 4096,
            overflow: Overflow::Overwrite,
            ..Options::default()
        });
        queue.put_with(&[1; 1800], NOW).unwrap();
        let lessee = lessee(&queue);
        queue.put_with(&[2; 1800], NOW).unwrap();
        refused!(Full, queue.put_with(&[3; 1700], WaitOptions::BLOCKING));
        // A message that cannot make room is not discarded.
        assert_eq!(queue.stat().unwrap().messages, 1);
        lessee.kill();
        // Leases of dead processes are discarded first. The lessee was alive at the last check, so it may be checked
        // later.
        wait_until(|| queue.put_with(&[3; 1700], NOW).is_ok());
        assert_eq!(queue.stat().unwrap().overwritten, 1);
        assert_eq!(drain(&queue), [&[2; 1800][..], &[3; 1700]]);
    });
}

#[test]
fn a_returned_lease_is_the_oldest_and_is_discarded_first() {
    let queue = unnamed(Options {
        capacity: 4096,
        overflow: Overflow::Overwrite,
        ..Options::default()
    });
    queue.put_with(&[1; 1800], NOW).unwrap();
    queue.put_with(&[2; 1800], NOW).unwrap();
    let leases = [0; 2].map(|_| queue.lease_with(NOW).unwrap());
    refused!(Full, queue.put_with(&[3; 1700], ONE_MINUTE));
    // No room becomes free behind a message that is being read.
    queue.nack(leases[1].token).unwrap();
    refused!(Full, queue.put_with(&[3; 1700], ONE_MINUTE));
    assert_eq!(queue.stat().unwrap().overwritten, 0);
    queue.nack(leases[0].token).unwrap();
    queue.put_with(&[3; 1700], ONE_MINUTE).unwrap();
    assert_eq!(queue.stat().unwrap().overwritten, 1);
    assert_eq!(drain(&queue), [&[2; 1800][..], &[3; 1700]]);
}

#[test]
fn workers_that_are_killed_at_any_time_lose_no_unacknowledged_message() {
    alone(|| {
        const EACH: u64 = 300;
        let queue = unnamed(Options {
            capacity: 8192,
            ..Options::default()
        });
        let words = shared_words(2 + EACH as usize * 8);
        let (put, done) = words[2..].split_at(EACH as usize * 4);
        // Producers record what they have put; consumers record what they have done, before they acknowledge it.
        let producer = |number: u64| {
            for message in 0..EACH {
                let at = (number * EACH + message) as usize;
                queue
                    .put_with(&(at as u64).to_ne_bytes().repeat(12), ONE_MINUTE)
                    .unwrap();
                put[at].store(1, Relaxed);
            }
        };
        let consumer = || {
            loop {
                let lease = queue.lease().unwrap();
                // SAFETY: no process writes them during the lease, and they are aligned.
                let at = unsafe { lease.as_ptr().cast::<u64>().read() };
                done[at as usize].fetch_add(1, Relaxed);
                lease.ack().unwrap();
            }
        };
        let count = || put.iter().filter(|word| word.load(Relaxed) == 1).count() as u64;
        for round in 0..4 {
            let (before, consumers) = (count(), [fork(consumer), fork(consumer)]);
            let worker = fork(|| producer(round));
            wait_until(|| count() >= before + EACH / 2);
            // The worker is killed, unless it has finished.
            drop(worker);
            consumers.into_iter().for_each(|child| child.kill());
        }
        let rest = fork(consumer);
        queue.join_with(ONE_MINUTE).unwrap();
        rest.kill();
        for (at, (put, done)) in put.iter().zip(done).enumerate() {
            let (put, done) = (put.load(Relaxed), done.load(Relaxed));
            assert!(done >= put, "{at} was put and never processed");
        }
        let stat = queue.stat().unwrap();
        assert_eq!((stat.messages, stat.leased, stat.reserved), (0, 0, 0));
    });
}

#[test]
fn a_batch_of_a_producer_that_dies_asleep_is_put_as_a_whole_or_not_at_all() {
    alone(|| {
        let queue = unnamed(of(4));
        queue.put_with(b"a", NOW).unwrap();
        let five = [&b"b"[..]; 4];
        let producer = fork(|| {
            let _ = queue.put_many_with(five.into_iter(), Batch::All, WaitOptions::BLOCKING);
        });
        await_sleepers(&queue, 0, 1);
        producer.kill();
        queue.put_with(b"c", NOW).unwrap();
        assert_eq!(drain(&queue), [b"a", b"c"]);
    });
}

#[test]
fn more_processes_than_slots_fail_until_one_dies() {
    alone(|| {
        let name = Name::new();
        let mut options = Options::default();
        options.file.participants = 1;
        fork(|| drop(Queue::named(&name, Create::Always, &options).unwrap())).succeed();
        let open = || Queue::named(&name, Create::Never, &Options::default());
        let only = holder(|| {
            let queue = open().unwrap();
            queue.put_with(b"a", NOW).unwrap();
            queue.put_with(b"b", NOW).unwrap();
            queue.lease_with(NOW).unwrap();
            queue.reserve_with(10, NOW).unwrap();
            std::mem::forget(queue);
        });
        let queue = open().unwrap();
        // Reading the state needs no slot.
        let stat = queue.stat().unwrap();
        assert_eq!((stat.messages, stat.leased, stat.reserved), (1, 1, 1));
        refused!(TooManyProcesses, queue.get_with(NOW));
        only.kill();
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"b");
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"a");
    });
}

#[test]
fn a_get_succeeds_though_liveness_is_unknown_for_a_later_record() {
    alone(|| {
        let queue = unnamed(Options::default());
        let large = vec![7; 100_000];
        queue.put_with(&large, NOW).unwrap();
        // The next record at head belongs to a process whose liveness would have to be checked.
        let reserver = holder(|| {
            queue.reserve_with(10, NOW).unwrap();
        });
        let consumer = fork(|| {
            queue.is_full().unwrap(); // claims an identity before liveness becomes unknown
            // SAFETY: all memory that this process needs is mapped.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
            assert_eq!(closed, 0);
            assert!(queue.get_with(NOW).unwrap() == large);
        });
        consumer.succeed();
        assert_eq!(queue.stat().unwrap().messages, 0);
        reserver.kill();
    });
}

#[test]
fn a_death_is_seen_though_another_container_has_a_process_of_the_same_pid() {
    alone(|| {
        if !can_contain() {
            return;
        }
        let queue = with(&[b"leased", b"put"]);
        let words = shared_words(2);
        let lessee = contained(|| {
            let lease = queue.lease_with(NOW).unwrap();
            queue.reserve_with(10, NOW).unwrap();
            queue.put_with(b"later", NOW).unwrap();
            words[0].store(lease.token, Relaxed);
            wait_until(|| false);
        });
        wait_until(|| words[0].load(Relaxed) != 0);
        let other = contained(|| {
            refused!(NotOwner, queue.ack(words[0].load(Relaxed)));
            assert_eq!(queue.get_with(NOW).unwrap(), b"put");
            refused!(Empty, queue.get_with(NOW));
            words[1].store(1, Relaxed);
            // The consumer sleeps when the other process dies.
            let mut had = [(); 2].map(|()| {
                let lease = queue.lease().unwrap();
                let got = (lease.bytes().len(), lease.attempts());
                lease.ack().unwrap();
                got
            });
            had.sort();
            assert_eq!(had, [(5, 1), (6, 2)]);
        });
        wait_until(|| words[1].load(Relaxed) == 1);
        let stat = queue.stat().unwrap();
        assert_eq!((stat.leased, stat.reserved), (1, 1));
        assert_eq!(queue.process_info(stat.held_up_by.unwrap()).unwrap().pid, 1);
        kill_first(&lessee);
        other.succeed();
        assert_eq!(lessee.wait(), Ended::Exit(101));
        queue.join_with(NOW).unwrap();
    });
}
