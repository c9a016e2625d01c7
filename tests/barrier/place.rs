//! The size of a barrier, and the number of its parties and processes. The rest: tests/object.

use super::common::Name;
use super::common::process::{alone, wait_until};
use super::{managed, wait, waiter};
use shmkit::barrier::{Barrier, Create, FileOptions, MAX_PARTIES, Options};

#[test]
fn an_invalid_number_of_parties_is_refused() {
    let segment = managed(4096);
    let name = Name::new();
    for parties in [
        0,
        MAX_PARTIES + 1,
        1 << 15,
        (1 << 15) + 1,
        1 << 16,
        u32::MAX,
    ] {
        let options = Options::of(parties);
        refused!(Invalid, options.size());
        refused!(Invalid, Barrier::unnamed(&options));
        for create in [Create::Always, Create::IfMissing] {
            refused!(Invalid, Barrier::named(&name, create, &options));
            refused!(Invalid, Barrier::at(&segment, 0, create, &options));
        }
    }
    refused!(
        NotFound,
        Barrier::named(&name, Create::Never, &Options::default())
    );
    refused!(
        NotFound,
        Barrier::at(&segment, 0, Create::Never, &Options::default())
    );
}

#[test]
fn the_size_follows_from_the_number_of_parties() {
    for (parties, size) in [
        (1, 192),
        (2, 192),
        (3, 256),
        (8, 384),
        (MAX_PARTIES, 128 + 65536),
    ] {
        let options = Options::of(parties);
        assert_eq!(options.size(), Ok(size));
        let segment = managed(size + 64);
        let barrier = Barrier::at(&segment, 64, Create::Always, &options).unwrap();
        assert_eq!((barrier.parties(), barrier.offset()), (parties, 64));
        let cause = refused!(
            Invalid,
            Barrier::at(&segment, 128, Create::Always, &options)
        );
        assert!(cause.text.contains("64"), "{cause}");
    }
}

#[test]
fn a_barrier_may_admit_fewer_processes_than_parties() {
    alone(|| {
        let name = Name::new();
        let options = Options {
            parties: 3,
            file: FileOptions {
                participants: 2,
                ..FileOptions::default()
            },
        };
        let barrier = Barrier::named(&name, Create::Always, &options).unwrap();
        let others = [waiter(&barrier, 0), waiter(&barrier, 1)];
        refused!(TooManyProcesses, wait(&barrier));
        assert_eq!(barrier.stat().waiting, 2);
        others.into_iter().for_each(|other| other.kill());
        // The dead make room, and then their death is found.
        refused!(Broken, wait(&barrier));
        wait_until(|| barrier.stat().broken);
        barrier.unlink().unwrap();
    });
}
