//! Deaths: a dead reader's count is cleared, a dead writer is reported, and waiters go on.

use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::{
    await_sleeper, await_waiting_writer, managed, reader, readers, recover, stay, staying, unnamed,
    use_once, within, writer,
};
use shmkit::raw::WaitOptions;
use shmkit::rwlock::{Create, Options, RwLock};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_dead_reader_does_not_block_a_writer_and_is_not_reported() {
    alone(|| {
        let lock = unnamed();
        for wait in [WaitOptions::NONBLOCKING, within(1), WaitOptions::BLOCKING] {
            reader(&lock).kill();
            assert_eq!(
                lock.stat().0.readers,
                1,
                "a dead reader counts until a writer waits for it"
            );
            assert_eq!(lock.write_with(wait), Ok(false));
            assert_eq!(lock.stat().0.readers, 0);
            lock.release_write().unwrap();
        }
        // An upgrade does not wait for a dead reader either.
        for wait in [WaitOptions::NONBLOCKING, within(1), WaitOptions::BLOCKING] {
            reader(&lock).kill();
            assert_eq!(lock.read_with(wait), Ok(false));
            lock.upgrade_with(wait).unwrap();
            lock.release_write().unwrap();
        }
        assert_eq!(lock.stat().0.recoveries, 0);
        use_once(&lock);
    });
}

#[test]
fn a_dead_writer_is_reported_until_the_lock_is_marked_consistent() {
    alone(|| {
        let lock = unnamed();
        for round in 0..20 {
            let child = writer(&lock);
            let (stat, owner) = lock.stat();
            assert_eq!(owner.unwrap().pid, child.pid().as_raw() as u32);
            assert!(!stat.waits && !stat.writer_died);
            child.kill();
            for _ in 0..2 {
                // Whether a reader or a writer finds the death, each acquisition reports it.
                if round % 2 == 0 {
                    assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(true));
                    fork(|| assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(true)))
                        .succeed();
                    lock.release_read().unwrap();
                } else {
                    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(true));
                    lock.release_write().unwrap();
                }
                assert_eq!(lock.stat().0.recoveries, round + 1);
                assert!(lock.stat().0.writer_died);
            }
            assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(true));
            lock.downgrade().unwrap();
            refused!(NotOwner, lock.mark_consistent());
            lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
            lock.mark_consistent().unwrap();
            lock.mark_consistent().unwrap();
            assert!(!lock.stat().0.writer_died);
            lock.release_write().unwrap();
            use_once(&lock);
        }
    });
}

#[test]
fn a_writer_that_dies_waiting_is_not_reported() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        let waiting = fork(|| drop(lock.write_with(WaitOptions::BLOCKING)));
        await_waiting_writer(&lock);
        waiting.kill();
        // The next caller finds the waiter dead, and reads beside this process.
        fork(|| {
            assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.release_read().unwrap();
        })
        .succeed();
        assert_eq!(lock.stat().0.contended_since, 0, "no live process waits");
        // The same with a reader that upgrades; the read that it holds ends with it.
        let waiting = fork(|| {
            lock.read_with(WaitOptions::NONBLOCKING).unwrap();
            drop(lock.upgrade_with(WaitOptions::BLOCKING));
        });
        await_waiting_writer(&lock);
        waiting.kill();
        wait_until(|| lock.upgrade_with(WaitOptions::NONBLOCKING).is_ok());
        assert_eq!(lock.stat().0.recoveries, 0);
        lock.release_write().unwrap();
        use_once(&lock);
    });
}

#[test]
fn a_writer_that_dies_waiting_keeps_the_mark_of_an_earlier_death() {
    alone(|| {
        let lock = unnamed();
        writer(&lock).kill();
        let reading = staying(|| assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(true)));
        let waiting = fork(|| drop(lock.write_with(WaitOptions::BLOCKING)));
        await_waiting_writer(&lock);
        assert!(lock.stat().0.writer_died);
        waiting.kill();
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(true));
        lock.release_read().unwrap();
        reading.kill();
        assert_eq!(lock.stat().0.recoveries, 1);
        recover(&lock);
    });
}

#[test]
fn the_death_of_a_writer_that_marked_it_consistent_marks_it_again() {
    alone(|| {
        let lock = unnamed();
        writer(&lock).kill();
        staying(|| {
            assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(true));
            lock.mark_consistent().unwrap();
        })
        .kill();
        recover(&lock);
        // A reader that sees the mark and dies leaves the mark.
        writer(&lock).kill();
        staying(|| assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(true))).kill();
        recover(&lock);
        // A process that has downgraded is a reader: its death leaves no mark.
        staying(|| {
            assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.downgrade().unwrap();
        })
        .kill();
        use_once(&lock);
        // A process that has upgraded is a writer: its death leaves the mark.
        staying(|| {
            assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
        })
        .kill();
        recover(&lock);
    });
}

#[test]
fn after_the_writers_death_every_waiter_acquires_in_turn() {
    const WAITERS: u64 = 6;
    alone(|| {
        let lock = unnamed();
        let words = shared_words(1);
        let owner = writer(&lock);
        let waiting: Vec<_> = (0..WAITERS)
            .map(|number| {
                fork(|| {
                    words[0].fetch_add(1, Relaxed);
                    // Each waiter ends while it holds the lock.
                    let died = match number % 2 {
                        0 => lock.read_with(WaitOptions::BLOCKING),
                        _ => lock.write_with(WaitOptions::BLOCKING),
                    };
                    assert_eq!(died, Ok(true));
                })
            })
            .collect();
        wait_until(|| words[0].load(Relaxed) == WAITERS);
        await_sleeper(&lock);
        owner.kill();
        for child in waiting {
            child.succeed();
        }
        assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(true));
        assert_eq!(lock.stat().0.recoveries, 1 + WAITERS / 2);
        lock.release_write().unwrap();
        recover(&lock);
    });
}

#[test]
fn a_writer_that_waits_for_readers_goes_on_after_their_death() {
    alone(|| {
        let lock = unnamed();
        let reading: [_; 3] = std::array::from_fn(|_| reader(&lock));
        let waiting = fork(|| {
            assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_write().unwrap();
        });
        await_waiting_writer(&lock);
        reading.into_iter().for_each(Child::kill);
        waiting.succeed();
        use_once(&lock);
    });
}

#[test]
fn the_count_slots_of_dead_readers_are_used_again() {
    alone(|| {
        let lock = RwLock::unnamed(&readers(3)).unwrap();
        for _ in 0..20 {
            reader(&lock).kill();
        }
        assert_eq!(lock.stat().0.reading, 3);
        use_once(&lock);
        assert_eq!(lock.stat().0.reading, 0);
    });
}

#[test]
fn closing_the_last_handle_counts_as_a_death() {
    alone(|| {
        let segment = managed(16640);
        let at = |segment: &Arc<_>, offset| {
            RwLock::at(segment, offset, Create::IfMissing, &Options::default()).unwrap()
        };
        let (read, written) = (at(&segment, 0), at(&segment, 8320));
        let (fd, words) = (segment.fd(), shared_words(1));
        let mut inherited = Some((segment, read, written));
        let child = fork(|| {
            let options = shmkit::segment::Options {
                form: shmkit::segment::Form::Managed,
                ..Default::default()
            };
            let own = Arc::new(shmkit::segment::Segment::open_fd(fd, 0, &options).unwrap());
            drop(inherited.take());
            let (read, written) = (at(&own, 0), at(&own, 8320));
            assert_eq!(read.read_with(WaitOptions::NONBLOCKING), Ok(false));
            assert_eq!(written.write_with(WaitOptions::NONBLOCKING), Ok(false));
            drop((read, written, own));
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let (_segment, read, written) = inherited.unwrap();
        assert_eq!(read.write_with(WaitOptions::NONBLOCKING), Ok(false));
        read.release_write().unwrap();
        recover(&written);
        drop(child);
    });
}
