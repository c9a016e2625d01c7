//! The rows of the suite.

use shmkit::barrier::{self, Barrier, Last};
use shmkit::condition::{self, Condition};
use shmkit::error::Result;
use shmkit::event::Event;
use shmkit::layout::Kind;
use shmkit::lock::{self, Create, FileOptions, Lock};
use shmkit::once::{Begun, Once};
use shmkit::queue::{self, Overflow, Queue};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::rwlock::{self, RwLock};
use shmkit::segment::Segment;
use shmkit::semaphore::{self, Semaphore};
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

/// How an object is created or opened.
pub const EACH: [Create; 3] = [Create::Always, Create::Never, Create::IfMissing];

/// What the suite needs to know of a noun.
pub trait Noun: Debug + Sized + Send + Sync {
    const KIND: Kind;
    /// Whether an unnamed one has a file of its own, so that it can grow.
    const GROWS: bool = false;
    type Options: Clone + Sync;

    /// Returns options of different objects, the usual ones first.
    fn variants(file: &FileOptions) -> Vec<Self::Options>;
    /// Returns options with which none can be created.
    fn invalid() -> Vec<Self::Options> {
        Vec::new()
    }
    fn size(options: &Self::Options) -> u64;
    fn unnamed(options: &Self::Options) -> Result<Self>;
    fn named(name: &std::ffi::CStr, create: Create, options: &Self::Options) -> Result<Self>;
    fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Self::Options,
    ) -> Result<Self>;
    fn open_fd(fd: i32, offset: u64, options: &Self::Options) -> Result<Self>;
    fn export(&self) -> Result<(i32, u64)>;
    fn unlink(&self) -> Result<()>;
    fn segment(&self) -> &Arc<Segment>;
    fn offset(&self) -> u64;

    /// Uses a new object, or one that was used so, once.
    fn use_once(&self);
    /// Returns how often it was used so, by any process.
    fn uses(&self) -> u64;
    /// Returns all that `stat` returns.
    fn state(&self) -> String;
    /// Returns the options of its creator, as far as the object keeps them.
    fn made(&self) -> String {
        String::new()
    }

    /// Returns the usual options.
    fn usual() -> Self::Options {
        Self::with(&FileOptions::default())
    }

    /// Returns the usual options, with a file of this kind.
    fn with(file: &FileOptions) -> Self::Options {
        Self::variants(file).swap_remove(0)
    }
}

/// Expands to a test of each listed function for each noun; those after `alone` run in a process of their own.
macro_rules! each_noun {
    ($($check:ident),*; alone: $($alone:ident),* $(,)?) => {
        $(mod $check { rows!(tests, $check); })*
        $(mod $alone { rows!(tests_alone, $alone); })*
    };
}

/// The rows: passes the file of each noun and its type to a macro.
macro_rules! rows {
    ($with:ident, $check:ident) => {
        $with! { $check:
            lock Lock, rlock RLock, rwlock RwLock, semaphore Semaphore, condition Condition, event Event, once Once,
            barrier Barrier, queue Queue
        }
    };
}

macro_rules! tests {
    ($check:ident: $($file:ident $noun:ident),*) => {$(
        #[test]
        fn $file() {
            super::$check::<shmkit::$file::$noun>();
        }
    )*};
}

macro_rules! tests_alone {
    ($check:ident: $($file:ident $noun:ident),*) => {$(
        #[test]
        fn $file() {
            $crate::common::process::alone(|| super::$check::<shmkit::$file::$noun>());
        }
    )*};
}

macro_rules! files {
    ($check:ident: $($file:ident $noun:ident),*) => {
        /// The file and the kind of each noun.
        pub const $check: &[(&str, Kind)] = &[$((stringify!($file), <$noun as Noun>::KIND)),*];
    };
}

rows!(files, FILES);

#[test]
fn each_noun_has_a_row() {
    let mut files: Vec<_> = super::common::entries(
        &std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/object"),
    )
    .into_iter()
    .filter_map(|file| file.strip_suffix(".rs").map(str::to_owned))
    .filter(|file| file != "mod" && file != "arena")
    .collect();
    files.sort();
    let mut rows: Vec<_> = FILES.iter().map(|(file, _)| file.to_string()).collect();
    rows.sort();
    assert_eq!(files, rows);
    let mut kinds: Vec<_> = FILES.iter().map(|(_, kind)| *kind as u64).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), rows.len(), "two nouns of one kind");
}

/// In an `impl Noun`: what the type does by its own methods of these names.
macro_rules! life_cycle {
    () => {
        life_cycle!(common);

        fn unnamed(options: &Self::Options) -> Result<Self> {
            Self::unnamed(options)
        }

        fn at(
            segment: &Arc<Segment>,
            offset: u64,
            create: Create,
            options: &Self::Options,
        ) -> Result<Self> {
            Self::at(segment, offset, create, options)
        }
    };
    (plain) => {
        life_cycle!(common);

        type Options = FileOptions;

        fn variants(file: &FileOptions) -> Vec<FileOptions> {
            vec![file.clone()]
        }

        fn size(_: &FileOptions) -> u64 {
            Self::SIZE
        }

        fn unnamed(_: &FileOptions) -> Result<Self> {
            Self::unnamed()
        }

        fn at(
            segment: &Arc<Segment>,
            offset: u64,
            create: Create,
            _: &FileOptions,
        ) -> Result<Self> {
            Self::at(segment, offset, create)
        }
    };
    (common) => {
        fn named(name: &std::ffi::CStr, create: Create, options: &Self::Options) -> Result<Self> {
            Self::named(name, create, options)
        }

        fn open_fd(fd: i32, offset: u64, options: &Self::Options) -> Result<Self> {
            Self::open_fd(fd, offset, options)
        }

        fn export(&self) -> Result<(i32, u64)> {
            self.export()
        }

        fn unlink(&self) -> Result<()> {
            self.unlink()
        }

        fn segment(&self) -> &Arc<Segment> {
            self.segment()
        }

        fn offset(&self) -> u64 {
            self.offset()
        }
    };
}

impl Noun for Lock {
    const KIND: Kind = Kind::Lock;
    type Options = lock::Options;

    fn variants(file: &FileOptions) -> Vec<lock::Options> {
        [false, true]
            .map(|transferable| lock::Options {
                transferable,
                file: file.clone(),
            })
            .into()
    }

    fn size(_: &lock::Options) -> u64 {
        Lock::SIZE
    }

    fn use_once(&self) {
        assert_eq!(self.acquire_with(WaitOptions::BLOCKING), Ok(false));
        self.release().unwrap();
    }

    fn uses(&self) -> u64 {
        self.stat().0.acquisitions
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    fn made(&self) -> String {
        format!("{:?}", self.is_transferable())
    }

    life_cycle!();
}

impl Noun for RLock {
    const KIND: Kind = Kind::RLock;

    fn use_once(&self) {
        assert_eq!(self.acquire_with(WaitOptions::BLOCKING), Ok(false));
        self.release().unwrap();
    }

    fn uses(&self) -> u64 {
        self.stat().0.acquisitions
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    life_cycle!(plain);
}

impl Noun for RwLock {
    const KIND: Kind = Kind::RwLock;
    type Options = rwlock::Options;

    fn variants(file: &FileOptions) -> Vec<rwlock::Options> {
        [2, 1, 3]
            .map(|readers| rwlock::Options {
                readers,
                file: file.clone(),
            })
            .into()
    }

    fn invalid() -> Vec<rwlock::Options> {
        [4097, u16::MAX]
            .map(|readers| rwlock::Options {
                readers,
                ..Default::default()
            })
            .into()
    }

    fn size(options: &rwlock::Options) -> u64 {
        options.size().unwrap()
    }

    fn use_once(&self) {
        assert_eq!(self.write_with(WaitOptions::BLOCKING), Ok(false));
        self.release_write().unwrap();
        assert_eq!(self.read_with(WaitOptions::BLOCKING), Ok(false));
        self.release_read().unwrap();
    }

    fn uses(&self) -> u64 {
        self.stat().0.writes
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    fn made(&self) -> String {
        format!("{:?}", self.readers())
    }

    life_cycle!();
}

impl Noun for Semaphore {
    const KIND: Kind = Kind::Semaphore;
    type Options = semaphore::Options;

    fn variants(file: &FileOptions) -> Vec<semaphore::Options> {
        let usual = semaphore::Options {
            file: file.clone(),
            ..Default::default()
        };
        let undo = semaphore::Options {
            value: 2,
            undo: true,
            processes: 2,
            ..usual.clone()
        };
        vec![
            usual.clone(),
            semaphore::Options {
                maximum: 7,
                ..usual
            },
            undo.clone(),
            semaphore::Options {
                value: 3,
                ..undo.clone()
            },
            semaphore::Options {
                processes: 3,
                ..undo
            },
        ]
    }

    fn invalid() -> Vec<semaphore::Options> {
        let new = |value, maximum, undo, processes| semaphore::Options {
            value,
            maximum,
            undo,
            processes,
            ..Default::default()
        };
        vec![
            new(1 << 31, 0, false, 0),
            new(0, 1 << 31, false, 0),
            new(3, 2, false, 0),
            new(2, 3, true, 0),
            new(2, 0, true, 4097),
            new(2, 0, false, 1),
            new(0, 0, true, 0),
        ]
    }

    fn size(options: &semaphore::Options) -> u64 {
        options.size().unwrap()
    }

    fn use_once(&self) {
        self.release(2).unwrap();
        self.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
    }

    fn uses(&self) -> u64 {
        self.value().unwrap()
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    fn made(&self) -> String {
        format!(
            "{:?}",
            (
                self.has_undo(),
                self.processes(),
                self.stat().unwrap().maximum
            )
        )
    }

    life_cycle!();
}

/// A condition is used with one lock, in all processes.
static LOCK: LazyLock<Lock> = LazyLock::new(|| Lock::unnamed(&Default::default()).unwrap());

impl Noun for Condition {
    const KIND: Kind = Kind::Condition;
    type Options = condition::Options;

    fn variants(file: &FileOptions) -> Vec<condition::Options> {
        LazyLock::force(&LOCK); // before any fork
        [3, 1, 4]
            .map(|cells| condition::Options {
                cells,
                file: file.clone(),
            })
            .into()
    }

    fn invalid() -> Vec<condition::Options> {
        [4097, u32::MAX]
            .map(|cells| condition::Options {
                cells,
                ..Default::default()
            })
            .into()
    }

    fn size(options: &condition::Options) -> u64 {
        options.size().unwrap()
    }

    fn use_once(&self) {
        LOCK.acquire_with(WaitOptions::BLOCKING).unwrap();
        let waited = self.wait_with(&*LOCK, WaitOptions::NONBLOCKING).unwrap();
        assert_eq!(waited.end, condition::End::Timeout);
        LOCK.release().unwrap();
    }

    fn uses(&self) -> u64 {
        self.stat().timeouts
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    fn made(&self) -> String {
        format!("{:?}", self.stat().cells)
    }

    life_cycle!();
}

impl Noun for Event {
    const KIND: Kind = Kind::Event;

    fn use_once(&self) {
        self.set();
        self.wait_with(WaitOptions::BLOCKING).unwrap();
        self.clear();
    }

    fn uses(&self) -> u64 {
        self.stat().sets
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    life_cycle!(plain);
}

impl Noun for Once {
    const KIND: Kind = Kind::Once;

    fn use_once(&self) {
        let begun = self.begin_with(WaitOptions::BLOCKING);
        assert_eq!(begun, Ok(Begun::Mine { owner_died: false }));
        self.abort().unwrap();
    }

    fn uses(&self) -> u64 {
        self.stat().0.attempts
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    life_cycle!(plain);
}

impl Noun for Barrier {
    const KIND: Kind = Kind::Barrier;
    type Options = barrier::Options;

    fn variants(file: &FileOptions) -> Vec<barrier::Options> {
        [1, 2, 5]
            .map(|parties| barrier::Options {
                parties,
                file: file.clone(),
            })
            .into()
    }

    fn invalid() -> Vec<barrier::Options> {
        [0, barrier::MAX_PARTIES + 1, u32::MAX]
            .map(barrier::Options::of)
            .into()
    }

    fn size(options: &barrier::Options) -> u64 {
        options.size().unwrap()
    }

    fn use_once(&self) {
        assert_eq!(self.wait_with(WaitOptions::BLOCKING, Last::Passes), Ok(0));
    }

    fn uses(&self) -> u64 {
        self.stat().turns
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat())
    }

    fn made(&self) -> String {
        format!("{:?}", self.parties())
    }

    life_cycle!();
}

impl Noun for Queue {
    const KIND: Kind = Kind::Queue;
    const GROWS: bool = true;
    type Options = queue::Options;

    fn variants(file: &FileOptions) -> Vec<queue::Options> {
        let usual = queue::Options {
            capacity: 4096,
            file: file.clone(),
            ..Default::default()
        };
        vec![
            usual.clone(),
            queue::Options {
                capacity: 4096 + 32,
                ..usual.clone()
            },
            queue::Options {
                messages: 7,
                ..usual.clone()
            },
            queue::Options {
                bytes: 7,
                ..usual.clone()
            },
            queue::Options {
                overflow: Overflow::Fail,
                ..usual.clone()
            },
            queue::Options {
                overflow: Overflow::Overwrite,
                ..usual
            },
        ]
    }

    fn invalid() -> Vec<queue::Options> {
        [1, 32, 992, 1025, 4097, (1 << 46) + 32, u64::MAX]
            .map(|capacity| queue::Options {
                capacity,
                ..Default::default()
            })
            .into()
    }

    fn size(options: &queue::Options) -> u64 {
        options.size().unwrap()
    }

    fn use_once(&self) {
        self.put_with(b"", WaitOptions::BLOCKING).unwrap();
        assert_eq!(self.get_with(WaitOptions::BLOCKING).unwrap(), b"");
    }

    fn uses(&self) -> u64 {
        self.stat().unwrap().puts
    }

    fn state(&self) -> String {
        format!("{:?}", self.stat().unwrap())
    }

    fn made(&self) -> String {
        format!("{:?}", (self.bounds(), self.overflow()))
    }

    life_cycle!();
}
