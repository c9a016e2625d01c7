//! Waiting: how long, what ends it, and that neither writers nor readers starve.

use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::{
    await_sleeper, await_waiting_writer, reader, recover, staying, unnamed, use_once, within,
    writer,
};
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::raw::{Timeout, WaitOptions};

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Waits forever, unless the hook ends the wait.
const UNTIL_INTERRUPTED: WaitOptions = WaitOptions {
    timeout: Timeout::Never,
    interruptible: true,
};

extern "C" fn hook(calls: *mut c_void) -> i32 {
    // SAFETY: `install` passes a word that lives as long as the process.
    let calls = unsafe { &*calls.cast::<AtomicU64>() };
    i32::from(calls.fetch_add(1, Relaxed) >= 2)
}

/// Installs a hook that ends a wait at its third call.
fn install(calls: &'static AtomicU64) {
    calls.store(0, Relaxed);
    // SAFETY: the hook may be called from any thread, and its word lives as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), calls.as_ptr().cast()) };
    assert_eq!(status, 0);
}

#[test]
fn acquire_times_out_after_its_timeout() {
    alone(|| {
        let lock = unnamed();
        let writing = writer(&lock);
        let time = Duration::from_millis(30);
        let wait = within(time.as_nanos() as u64);
        for read in [true, false] {
            let begin = Instant::now();
            match read {
                true => refused!(Timeout, lock.read_with(wait)),
                false => refused!(Timeout, lock.write_with(wait)),
            };
            assert!(begin.elapsed() >= time);
        }
        writing.kill();
        recover(&lock);
        let reading = reader(&lock);
        let begin = Instant::now();
        refused!(Timeout, lock.write_with(wait));
        assert!(begin.elapsed() >= time);
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        let begin = Instant::now();
        refused!(Timeout, lock.upgrade_with(wait));
        assert!(begin.elapsed() >= time);
        lock.release_read().unwrap();
        reading.kill();
        use_once(&lock);
    });
}

#[test]
fn very_long_timeouts_are_accepted() {
    alone(|| {
        let lock = unnamed();
        for time in [1 << 53, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            let reading = reader(&lock);
            let waiting = fork(|| {
                assert_eq!(lock.write_with(within(time)), Ok(false));
                lock.downgrade().unwrap();
                lock.upgrade_with(within(time)).unwrap();
                lock.release_write().unwrap();
            });
            await_waiting_writer(&lock);
            reading.kill();
            waiting.succeed();
            assert_eq!(lock.read_with(within(time)), Ok(false));
            lock.release_read().unwrap();
        }
    });
}

#[test]
fn a_writer_that_gives_up_blocks_no_reader() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(1));
        let reading = reader(&lock);
        let ends: [fn(&shmkit::rwlock::RwLock); 2] = [
            |lock| drop(refused!(Timeout, lock.write_with(within(50_000_000)))),
            |lock| drop(refused!(Interrupted, lock.write_with(UNTIL_INTERRUPTED))),
        ];
        for end in ends {
            let quitter = fork(|| {
                install(&words[0]);
                end(&lock);
                refused!(NotOwner, lock.release_write());
            });
            await_waiting_writer(&lock);
            // A reader that arrives meanwhile waits for the writer, and reads after the writer has given up.
            assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_read().unwrap();
            quitter.succeed();
            let stat = lock.stat().0;
            assert_eq!((stat.writer, stat.contended_since), (None, 0));
        }
        reading.kill();
        use_once(&lock);
    });
}

#[test]
fn the_hook_ends_each_wait() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(1));
        let writing = writer(&lock);
        install(&words[0]);
        refused!(Interrupted, lock.read_with(UNTIL_INTERRUPTED));
        install(&words[0]);
        refused!(Interrupted, lock.write_with(UNTIL_INTERRUPTED));
        writing.kill();
        recover(&lock);
        let reading = reader(&lock);
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        install(&words[0]);
        refused!(Interrupted, lock.upgrade_with(UNTIL_INTERRUPTED));
        assert_eq!(lock.stat().0.readers, 2, "this process must still read");
        lock.release_read().unwrap();
        reading.kill();
        // A wait that is not interruptible does not call the hook.
        install(&words[0]);
        let reading = reader(&lock);
        let waiting = fork(|| assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false)));
        await_waiting_writer(&lock);
        std::thread::sleep(Duration::from_millis(20));
        reading.kill();
        waiting.succeed();
        assert_eq!(words[0].load(Relaxed), 0);
        recover(&lock);
    });
}

#[test]
fn a_writer_acquires_under_a_constant_stream_of_readers() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(2));
        let readers: [_; 3] = std::array::from_fn(|_| {
            fork(|| {
                // The reads overlap, so the lock is hardly ever without a reader.
                while words[0].load(Relaxed) == 0 {
                    lock.read_with(WaitOptions::BLOCKING).unwrap();
                    words[1].fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_micros(200));
                    lock.release_read().unwrap();
                }
            })
        });
        wait_until(|| words[1].load(Relaxed) > 100);
        for _ in 0..50 {
            let read = words[1].load(Relaxed);
            assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
            lock.release_write().unwrap();
            // Readers do not starve either.
            wait_until(|| words[1].load(Relaxed) > read + 3);
        }
        words[0].store(1, Relaxed);
        readers.into_iter().for_each(Child::succeed);
        use_once(&lock);
    });
}

#[test]
fn readers_wait_for_a_writer_that_waits() {
    alone(|| {
        let lock = unnamed();
        let reading = reader(&lock);
        let waiting = waiting_writer(&lock);
        await_waiting_writer(&lock);
        refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.read_with(within(1_000_000)));
        assert_eq!(lock.stat().0.readers, 1);
        reading.kill();
        wait_until(|| {
            let stat = lock.stat().0;
            stat.writer.is_some() && !stat.waits
        });
        refused!(WouldBlock, lock.read_with(WaitOptions::NONBLOCKING));
        waiting.kill();
        recover(&lock);
    });
}

/// Forks a process that waits for the lock, writes and stays; returns at once.
fn waiting_writer(lock: &shmkit::rwlock::RwLock) -> Child {
    fork(|| {
        assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
        super::stay();
    })
}

#[test]
fn stat_counts_writes_waits_and_recoveries() {
    alone(|| {
        let lock = unnamed();
        use_once(&lock);
        let stat = lock.stat().0;
        assert_eq!((stat.writes, stat.contended, stat.recoveries), (2, 0, 0));
        let reading = reader(&lock);
        let waiting = fork(|| {
            lock.write_with(WaitOptions::BLOCKING).unwrap();
            lock.release_write().unwrap();
        });
        await_waiting_writer(&lock);
        let stat = lock.stat().0;
        assert!(stat.waits && stat.writer.is_some());
        drop(reading);
        waiting.succeed();
        assert_eq!((lock.stat().0.writes, lock.stat().0.contended), (3, 1));
        let writing = staying(|| {
            lock.write_with(WaitOptions::NONBLOCKING).unwrap();
        });
        let waiting = fork(|| assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(true)));
        await_sleeper(&lock);
        writing.kill();
        waiting.succeed();
        let stat = lock.stat().0;
        assert_eq!((stat.writes, stat.recoveries), (4, 1));
        assert_eq!(stat.contended, 2);
        assert_eq!(stat.contended_since, 0);
    });
}
