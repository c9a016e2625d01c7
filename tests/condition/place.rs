//! Where a condition is stored: by name, at an offset of a segment, by a descriptor; its lock is stored anywhere.

use super::common::Name;
use super::common::process::{alone, shared_words};
use super::*;
use std::sync::atomic::Ordering::Relaxed;

/// Lets a process that opened both wait, and another process notify it.
fn meet(condition: impl Fn() -> Condition, lock: impl Fn() -> Lock) {
    let (ours, our_lock) = (condition(), lock());
    let child = fork(|| {
        let (condition, lock) = (condition(), lock());
        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
        assert_eq!(
            condition.wait_with(&lock, WaitOptions::BLOCKING),
            Ok(NOTIFIED)
        );
        lock.release().unwrap();
    });
    await_waiters(&ours, 1);
    locked(&our_lock, || ours.notify_with(&our_lock, 1).unwrap());
    child.succeed();
}

#[test]
fn a_named_condition_is_shared() {
    alone(|| {
        let (name, lock_name) = (Name::new(), Name::new());
        let named = |create, cells| Condition::named(&name, create, &with_cells(cells));
        refused!(NotFound, named(Create::Never, 0).map(drop));
        let made = named(Create::Always, 3).unwrap();
        refused!(Exists, named(Create::Always, 3).map(drop));
        refused!(Invalid, named(Create::IfMissing, 4).map(drop));
        assert_eq!(named(Create::Never, 4).unwrap().stat().cells, 3);
        refused!(
            WrongKind,
            Lock::named(&name, Create::Never, &lock::Options::default()).map(drop)
        );
        let lock =
            || Lock::named(&lock_name, Create::IfMissing, &lock::Options::default()).unwrap();
        lock();
        for create in [Create::Never, Create::IfMissing] {
            let options = Options::default();
            refused!(
                WrongKind,
                Condition::named(&lock_name, create, &options).map(drop)
            );
        }
        meet(|| named(Create::IfMissing, 3).unwrap(), lock);
        made.unlink().unwrap();
        refused!(NotFound, made.unlink());
        lock().unlink().unwrap();
    });
}

#[test]
fn a_condition_at_an_offset_beside_its_lock_works() {
    alone(|| {
        let segment = managed(8192);
        let place = || Condition::at(&segment, 64, Create::IfMissing, &Options::default()).unwrap();
        meet(place, || {
            Lock::at(&segment, 0, Create::IfMissing, &lock::Options::default()).unwrap()
        });
        assert_eq!(place().offset(), 64);
        refused!(Invalid, place().unlink());
        refused!(Invalid, place().export());
        let other =
            || Condition::at(&segment, 4096, Create::IfMissing, &Options::default()).unwrap();
        meet(other, || Lock::of(&segment).unwrap());
        for offset in [1, 8, 32, 8192, u64::MAX, 8192 - 64] {
            refused!(
                Invalid,
                Condition::at(&segment, offset, Create::IfMissing, &Options::default()).map(drop)
            );
        }
        let plain = Arc::new(Segment::create(None, 8192, &segment::Options::default()).unwrap());
        refused!(
            WrongKind,
            Condition::at(&plain, 0, Create::IfMissing, &Options::default()).map(drop)
        );
    });
}

#[test]
fn a_condition_passed_by_descriptor_works() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let (fd, offset) = condition.export().unwrap();
        let (lock_fd, lock_offset) = lock.export().unwrap();
        meet(
            || Condition::open_fd(fd, offset, &Options::default()).unwrap(),
            || Lock::open_fd(lock_fd, lock_offset, &lock::Options::default()).unwrap(),
        );
        refused!(
            WrongKind,
            Condition::open_fd(fd, lock_offset, &Options::default()).map(drop)
        );
        refused!(Invalid, condition.unlink());
    });
}

/// The waiters are participants of the condition's segment, and the owners of the lock's: their identities are
/// unrelated.
#[test]
fn a_condition_in_another_segment_than_its_lock_works() {
    alone(|| {
        let (near, far) = (managed(4096), managed(4096));
        // Other processes are participants of one of the two first.
        for _ in 0..3 {
            fork(|| {
                let lock = Lock::of(&far).unwrap();
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                lock.release().unwrap();
            })
            .succeed();
        }
        let words = shared_words(1);
        meet(
            || {
                words[0].fetch_add(1, Relaxed);
                Condition::at(&near, 0, Create::IfMissing, &Options::default()).unwrap()
            },
            || Lock::of(&far).unwrap(),
        );
        assert_eq!(words[0].load(Relaxed), 2);
    });
}
