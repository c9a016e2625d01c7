//! Ownership: many readers or one writer; upgrade, downgrade, and guards.

use super::common::process::{Child, alone, fork, wait_until};
use super::{
    await_sleeper, await_waiting_writer, reader, readers, recover, staying, unnamed, use_once,
    within, writer,
};
use shmkit::raw::WaitOptions;
use shmkit::rwlock::RwLock;

#[test]
fn many_processes_read_or_a_single_one_writes() {
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
fn a_process_that_does_not_hold_the_lock_is_refused() {
    // This process has claimed no slot yet, so it has no identity to compare.
    alone(|| {
        let lock = unnamed();
        let holds_nothing = || {
            refused!(NotOwner, lock.release_read());
            refused!(NotOwner, lock.release_write());
            refused!(NotOwner, lock.mark_consistent());
            refused!(NotOwner, lock.upgrade_with(WaitOptions::NONBLOCKING));
            refused!(NotOwner, lock.upgrade_with(WaitOptions::BLOCKING));
            refused!(NotOwner, lock.downgrade());
        };
        holds_nothing();
        use_once(&lock);
        holds_nothing();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_write());
        refused!(NotOwner, lock.mark_consistent());
        refused!(NotOwner, lock.downgrade());
        fork(holds_nothing).succeed();
        lock.release_read().unwrap();
        lock.write_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_read());
        refused!(NotOwner, lock.upgrade_with(WaitOptions::NONBLOCKING));
        fork(|| {
            holds_nothing();
            refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
            holds_nothing();
        })
        .succeed();
        lock.release_write().unwrap();
        let child = reader(&lock);
        holds_nothing();
        child.kill();
        let child = writer(&lock);
        holds_nothing();
        child.kill();
        holds_nothing();
        recover(&lock);
        holds_nothing();
    });
}

#[test]
fn a_process_may_hold_65535_reads() {
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
fn at_most_as_many_processes_read_as_there_are_count_slots() {
    alone(|| {
        let lock = RwLock::unnamed(&readers(2)).unwrap();
        assert_eq!(lock.readers(), 2);
        let first = reader(&lock);
        let second = reader(&lock);
        refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
        refused!(TooManyProcesses, lock.read_with(WaitOptions::BLOCKING));
        // A dead reader's slot is free for another process.
        first.kill();
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        lock.release_read().unwrap();
        // So is the slot of a live process that does not read.
        let third = reader(&lock);
        refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
        // A writer that downgrades holds the only slot, so another process cannot read.
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
fn an_upgrade_waits_for_other_readers_and_new_readers_wait_for_it() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(NotOwner, lock.release_read());
        let waiting = fork(|| assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false)));
        await_sleeper(&lock);
        lock.release_write().unwrap();
        waiting.succeed();
        // Another process reads, so the upgrade fails, and this process still reads.
        let other = reader(&lock);
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, lock.upgrade_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.upgrade_with(within(2_000_000)));
        assert_eq!(lock.stat().0.readers, 2);
        fork(|| read_once(&lock)).succeed();
        other.kill();
        lock.upgrade_with(WaitOptions::BLOCKING).unwrap();
        lock.release_write().unwrap();
        use_once(&lock);
    });
}

/// Reads once; other processes may read as well.
fn read_once(lock: &RwLock) {
    assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false));
    lock.release_read().unwrap();
}

#[test]
fn an_upgrade_uses_up_one_read_and_waits_for_all_others() {
    alone(|| {
        let lock = unnamed();
        for _ in 0..2 {
            lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        }
        // An upgrade waits for all reads but one, also for those of this process.
        refused!(WouldBlock, lock.upgrade_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.upgrade_with(within(1_000_000)));
        lock.release_read().unwrap();
        lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
        assert_eq!(lock.stat().0.readers, 0);
        lock.release_write().unwrap();
    });
}

#[test]
fn the_second_of_two_upgrades_fails_at_once_with_deadlock() {
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
fn an_upgrade_while_a_writer_waits_fails_at_once_with_deadlock() {
    alone(|| {
        let lock = unnamed();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        let waiting = fork(|| {
            assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_write().unwrap();
        });
        await_waiting_writer(&lock);
        refused!(Deadlock, lock.upgrade_with(WaitOptions::BLOCKING));
        // The waiting writer dies: the upgrade succeeds as soon as no process remembers that writer alive.
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
fn a_downgrade_admits_readers_but_no_writer() {
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
        // Upgrade and downgrade may be repeated.
        for _ in 0..100 {
            lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
            lock.downgrade().unwrap();
        }
        lock.release_read().unwrap();
        use_once(&lock);
    });
}

#[test]
fn a_child_does_not_hold_its_parents_reads() {
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
fn guards_release_what_they_hold() {
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
            assert!(reader.owner_died(), "the lock is not yet marked consistent");
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
        // Released and acquired by another process meanwhile: dropping the guard must not release the lock.
        let guard = lock.write().unwrap();
        lock.release_write().unwrap();
        let child = staying(|| assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false)));
        drop(guard);
        refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
        child.kill();
        recover(&lock);
    });
}
