//! Who reads and who writes: many or one; and how one becomes the other.

use super::common::process::{Child, alone, fork, wait_until};
use super::{
    await_sleeper, await_waiting_writer, reader, readers, recover, staying, unnamed, use_once,
    within, writer,
};
use shmkit::raw::WaitOptions;
use shmkit::rwlock::RwLock;

#[test]
fn many_read_or_one_writes() {
    alone(|| {
        let lock = unnamed();
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        let others = [reader(&lock), reader(&lock)];
        let stat = lock.stat().0;
        assert_eq!((stat.readers, stat.reading, stat.writer), (3, 3, None));
        refused!(WouldBlock, lock.write_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.write_with(within(2_000_000)));
        lock.release_read().unwrap();
        refused!(WouldBlock, lock.write_with(WaitOptions::NONBLOCKING));
        others.into_iter().for_each(Child::kill);
        assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
        fork(|| {
            refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, lock.read_with(within(2_000_000)));
            refused!(WouldBlock, lock.write_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, lock.write_with(within(1)));
        })
        .succeed();
        lock.release_write().unwrap();
        use_once(&lock);
    });
}

#[test]
fn what_is_not_held_is_not_given_back() {
    // Nothing has been claimed in this process yet: it has no id to compare.
    alone(|| {
        let lock = unnamed();
        let nothing = || {
            refused!(NotOwner, lock.release_read());
            refused!(NotOwner, lock.release_write());
            refused!(NotOwner, lock.mark_consistent());
            refused!(NotOwner, lock.upgrade_with(WaitOptions::NONBLOCKING));
            refused!(NotOwner, lock.upgrade_with(WaitOptions::BLOCKING));
            refused!(NotOwner, lock.downgrade());
        };
        nothing();
        use_once(&lock);
        nothing();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_write());
        refused!(NotOwner, lock.mark_consistent());
        refused!(NotOwner, lock.downgrade());
        fork(nothing).succeed();
        lock.release_read().unwrap();
        lock.write_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_read());
        refused!(NotOwner, lock.upgrade_with(WaitOptions::NONBLOCKING));
        fork(|| {
            nothing();
            refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
            nothing();
        })
        .succeed();
        lock.release_write().unwrap();
        let child = reader(&lock);
        nothing();
        child.kill();
        let child = writer(&lock);
        nothing();
        child.kill();
        nothing();
        recover(&lock);
        nothing();
    });
}

#[test]
fn a_process_reads_as_often_as_it_likes() {
    alone(|| {
        let lock = unnamed();
        for _ in 0..65_535 {
            assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        }
        refused!(Overflow, lock.read_with(WaitOptions::NONBLOCKING));
        refused!(Overflow, lock.read_with(WaitOptions::BLOCKING));
        let stat = lock.stat().0;
        assert_eq!((stat.readers, stat.reading), (65_535, 1));
        let child = reader(&lock);
        assert_eq!(lock.stat().0.readers, 65_536);
        child.kill();
        for _ in 0..65_535 {
            lock.release_read().unwrap();
        }
        refused!(NotOwner, lock.release_read());
        use_once(&lock);
    });
}

#[test]
fn as_many_processes_read_as_there_are_cells_for() {
    alone(|| {
        let lock = RwLock::unnamed(&readers(2)).unwrap();
        assert_eq!(lock.readers(), 2);
        let first = reader(&lock);
        let second = reader(&lock);
        refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
        refused!(TooManyProcesses, lock.read_with(WaitOptions::BLOCKING));
        // A dead one's is to be had.
        first.kill();
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        lock.release_read().unwrap();
        // So is that of one who lives and does not read.
        let third = reader(&lock);
        refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
        // Who writes cannot become a reader without a cell, and still writes.
        second.kill();
        third.kill();
        let one = RwLock::unnamed(&readers(1)).unwrap();
        use_once(&one);
        assert_eq!(one.write_with(WaitOptions::NONBLOCKING), Ok(false));
        one.downgrade().unwrap();
        fork(|| {
            drop(refused!(
                TooManyProcesses,
                one.read_with(WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        one.release_read().unwrap();
        use_once(&one);
    });
}

#[test]
fn who_upgrades_waits_for_the_others_and_new_ones_for_it() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_read());
        let waiting = fork(|| assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false)));
        await_sleeper(&lock);
        lock.release_write().unwrap();
        waiting.succeed();
        // Another one reads: it still reads when it gives up.
        let other = reader(&lock);
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, lock.upgrade_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.upgrade_with(within(2_000_000)));
        assert_eq!(lock.stat().0.readers, 2);
        fork(|| use_reading(&lock)).succeed();
        other.kill();
        lock.upgrade_with(WaitOptions::BLOCKING).unwrap();
        lock.release_write().unwrap();
        use_once(&lock);
    });
}

/// Reads once, whoever else does.
fn use_reading(lock: &RwLock) {
    assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false));
    lock.release_read().unwrap();
}

#[test]
fn who_upgrades_has_read_once_less() {
    alone(|| {
        let lock = unnamed();
        for _ in 0..2 {
            lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        }
        // It waits for all readings but one, those of this process too.
        refused!(WouldBlock, lock.upgrade_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.upgrade_with(within(1_000_000)));
        lock.release_read().unwrap();
        lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
        assert_eq!(lock.stat().0.readers, 0);
        lock.release_write().unwrap();
    });
}

#[test]
fn of_two_who_upgrade_the_second_is_told_at_once() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        let first = fork(|| {
            assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.upgrade_with(WaitOptions::BLOCKING).unwrap();
            lock.release_write().unwrap();
        });
        await_waiting_writer(&lock);
        for wait in [WaitOptions::NONBLOCKING, within(1), WaitOptions::BLOCKING] {
            let cause = refused!(Deadlock, lock.upgrade_with(wait));
            assert!(cause.text.contains("acquire it for writing"), "{cause}");
        }
        lock.release_read().unwrap();
        first.succeed();
        use_once(&lock);
        assert_eq!(lock.stat().0.readers, 0);
    });
}

#[test]
fn who_upgrades_while_a_writer_waits_is_told_at_once() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        let waiting = fork(|| {
            assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_write().unwrap();
        });
        await_waiting_writer(&lock);
        refused!(Deadlock, lock.upgrade_with(WaitOptions::BLOCKING));
        // It dies instead of writing: then nothing is in the way, as soon as nobody remembers it alive.
        waiting.kill();
        wait_until(|| match lock.upgrade_with(WaitOptions::BLOCKING) {
            Ok(()) => true,
            refused => refused!(Deadlock, refused).errno != 0,
        });
        lock.release_write().unwrap();
        use_once(&lock);
    });
}

#[test]
fn who_downgrades_lets_readers_in_and_no_writer() {
    alone(|| {
        let lock = unnamed();
        lock.write_with(WaitOptions::NONBLOCKING).unwrap();
        let waiting = fork(|| {
            assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_read().unwrap();
        });
        await_sleeper(&lock);
        lock.downgrade().unwrap();
        refused!(NotOwner, lock.release_write());
        refused!(NotOwner, lock.downgrade());
        waiting.succeed();
        fork(|| {
            drop(refused!(
                WouldBlock,
                lock.write_with(WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        // Round and round.
        for _ in 0..100 {
            lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
            lock.downgrade().unwrap();
        }
        lock.release_read().unwrap();
        use_once(&lock);
    });
}

#[test]
fn a_child_holds_nothing_of_its_parents() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            refused!(NotOwner, lock.release_read());
            assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
            assert_eq!(lock.stat().0.reading, 2);
            lock.release_read().unwrap();
            refused!(NotOwner, lock.release_read());
        })
        .succeed();
        lock.release_read().unwrap();
        use_once(&lock);
    });
}

#[test]
fn guards_give_back_what_they_hold() {
    alone(|| {
        let lock = unnamed();
        {
            let (first, _second) = (lock.read().unwrap(), lock.read().unwrap());
            assert!(!first.owner_died());
            assert_eq!(lock.stat().0.readers, 2);
            let (first, error) = first.try_upgrade().err().unwrap();
            refused!(WouldBlock, Err::<(), _>(error));
            drop(first);
            assert_eq!(lock.stat().0.readers, 1);
        }
        let writer = lock.read().unwrap().try_upgrade().ok().unwrap();
        refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
        let reader = writer.downgrade().ok().unwrap();
        drop(lock.read().unwrap());
        drop(reader);
        drop(lock.write().unwrap());
        use_once(&lock);
        super::writer(&lock).kill();
        assert!(lock.read().unwrap().owner_died());
        {
            let writer = lock.write().unwrap();
            assert!(writer.owner_died());
            let reader = writer.downgrade().ok().unwrap();
            assert!(reader.owner_died(), "nobody has said that all is whole");
            let writer = reader.try_upgrade().ok().unwrap();
            assert!(writer.owner_died());
            writer.mark_consistent().unwrap();
            assert!(!writer.downgrade().ok().unwrap().owner_died());
        }
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.write().unwrap();
            panic!("inside");
        }));
        assert!(unwound.is_err());
        use_once(&lock);
        // Given back behind the guard's back, and taken by somebody else: the guard takes it from nobody.
        let guard = lock.write().unwrap();
        lock.release_write().unwrap();
        let child = staying(|| assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false)));
        drop(guard);
        refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
        child.kill();
        recover(&lock);
    });
}
