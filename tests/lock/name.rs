//! Named locks: dead owners and the number of processes. The rest: tests/object/name.rs.

use super::common::Name;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{holder, recover, stay, use_once};
use shmkit::lock::{Create, FileOptions, Lock, Options};
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

fn by(file: FileOptions) -> Options {
    Options {
        file,
        ..Options::default()
    }
}

#[test]
fn a_dead_owners_lock_is_taken_over_by_a_process_that_opens_it_later() {
    alone(|| {
        let name = Name::new();
        let words = shared_words(1);
        let owner = fork(|| {
            let own = Lock::named(&name, Create::Always, &Options::default()).unwrap();
            own.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        owner.kill();
        let found = Lock::named(&name, Create::IfMissing, &Options::default()).unwrap();
        recover(&found);
        use_once(&found);
    });
}

#[test]
fn a_lock_for_one_process_admits_the_next_after_a_death_or_the_last_close() {
    alone(|| {
        let name = Name::new();
        let options = by(FileOptions {
            participants: 1,
            ..FileOptions::default()
        });
        let lock = Lock::named(&name, Create::Always, &options).unwrap();
        let child = holder(&lock);
        refused!(TooManyProcesses, lock.acquire_with(WaitOptions::BLOCKING));
        refused!(NotOwner, lock.release());
        // This process becomes a participant once the first one has died.
        child.kill();
        recover(&lock);
        fork(|| {
            drop(refused!(
                TooManyProcesses,
                lock.acquire_with(WaitOptions::BLOCKING)
            ))
        })
        .succeed();
        // Another process becomes a participant once this one has closed its last handle.
        let again = Lock::named(&name, Create::Never, &options).unwrap();
        drop(lock);
        fork(|| {
            drop(refused!(
                TooManyProcesses,
                again.acquire_with(WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        let words = shared_words(1);
        let waiter = fork(|| {
            wait_until(|| words[0].load(Relaxed) == 1);
            let lock = Lock::named(&name, Create::Never, &Options::default()).unwrap();
            use_once(&lock);
        });
        drop(again);
        words[0].store(1, Relaxed);
        waiter.succeed();
    });
}
