//! Races for one name: exactly one process creates each segment, at most one removes it, and never a newer one.
//!
//! Every process records the events that it has seen by inode number, which tmpfs never reuses. Afterwards the records
//! are compared: each segment was created once, and removed at most once.

use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{Relaxed, plain, within};
use shmkit::error::Error;
use shmkit::segment::{self, Form, Growth, Options, Segment};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// An event that a process has seen for an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Made,
    Opened,
    Removed,
}

const EVENTS: [Event; 3] = [Event::Made, Event::Opened, Event::Removed];

/// The record of one process: its length, then one word per event.
struct Book {
    words: &'static [AtomicU64],
}

impl Book {
    fn with_room_for(events: usize) -> Book {
        Book {
            words: shared_words(events + 1),
        }
    }

    fn write(&self, event: Event, inode: u64) {
        let at = self.words[0].load(Relaxed) + 1;
        self.words[at as usize].store(inode << 2 | event as u64, Relaxed);
        self.words[0].store(at, Relaxed);
    }

    fn read(&self) -> impl Iterator<Item = (Event, u64)> {
        let length = self.words[0].load(Relaxed) as usize;
        let words = self.words[1..=length].iter().map(|word| word.load(Relaxed));
        words.map(|word| (EVENTS[(word & 3) as usize], word >> 2))
    }
}

/// Counts the events of all processes for each inode.
fn audit(books: &[Book]) -> BTreeMap<u64, [u64; 3]> {
    let mut counts = BTreeMap::<u64, [u64; 3]>::new();
    for (event, inode) in books.iter().flat_map(Book::read) {
        counts.entry(inode).or_default()[event as usize] += 1;
    }
    counts
}

/// Compares the records, and returns how many segments were created and how many removed.
fn check(books: &[Book], name: &Name) -> (u64, u64) {
    let standing = std::fs::metadata(name.path()).ok();
    let standing = standing.map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    let (mut all_made, mut all_removed) = (0, 0);
    for (inode, [made, _opened, removed]) in audit(books) {
        assert_eq!(made, 1, "segment {inode} was created {made} times");
        let expected = u64::from(standing != Some(inode));
        assert_eq!(
            removed, expected,
            "segment {inode} was removed {removed} times"
        );
        all_made += made;
        all_removed += removed;
    }
    (all_made, all_removed)
}

fn inode(segment: &Segment) -> u64 {
    segment.stat().unwrap().file.inode
}

/// Starts `count` processes that begin at the same time, and waits for them.
fn together(count: usize, body: impl Fn(usize)) {
    let ready = shared_words(1);
    let start = || {
        ready[0].fetch_add(1, Relaxed);
        wait_until(|| ready[0].load(Relaxed) == count as u64);
    };
    let children: Vec<Child> = (0..count)
        .map(|which| {
            fork(|| {
                start();
                body(which);
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.succeed());
}

#[test]
fn open_or_create_creates_one_segment_if_processes_race() {
    alone(|| {
        const PROCESSES: usize = 16;
        const ROUNDS: usize = 300;
        let name = Name::new();
        let books: Vec<_> = (0..PROCESSES)
            .map(|_| Book::with_room_for(2 * ROUNDS))
            .collect();
        together(PROCESSES, |which| {
            for round in 0..ROUNDS {
                let options = Options {
                    interruptible: false,
                    ..plain()
                };
                let segment = Segment::open_or_create(Some(&name), 5000, &options).unwrap();
                assert_eq!(segment.size().unwrap(), 5000, "the segment was not whole");
                assert!(
                    segment.stat().unwrap().file.allocated >= 5000,
                    "the segment was not whole"
                );
                let event = match segment.stat().unwrap().created {
                    true => Event::Made,
                    false => Event::Opened,
                };
                books[which].write(event, inode(&segment));
                if (which + round) % 3 == 0 {
                    match segment.unlink() {
                        Ok(()) => books[which].write(Event::Removed, inode(&segment)),
                        Err(error) => drop(refused!(NotFound, Err::<(), _>(error))),
                    }
                }
            }
        });
        let (made, removed) = check(&books, &name);
        assert!(
            made > PROCESSES as u64 && removed > 1,
            "no race: {made} created, {removed} removed"
        );
        let opened: u64 = audit(&books).values().map(|counts| counts[1]).sum();
        assert!(opened > 0, "no process opened a segment of another one");
    });
}

#[test]
fn create_succeeds_once_if_processes_race() {
    alone(|| {
        const PROCESSES: usize = 16;
        let folder = Folder::new();
        for (round, size) in [1, 5000, 2 << 20].into_iter().cycle().take(30).enumerate() {
            let winners = shared_words(1);
            let name = std::ffi::CString::new(format!("round-{round}")).unwrap();
            together(PROCESSES, |_| {
                match Segment::create(Some(&name), size, &within(&folder)) {
                    Ok(_) => drop(winners[0].fetch_add(1, Relaxed)),
                    Err(error) => drop(refused!(Exists, Err::<(), _>(error))),
                }
            });
            assert_eq!(winners[0].load(Relaxed), 1, "round {round}, {size} bytes");
        }
        assert_eq!(folder.entries().len(), 30, "{:?}", folder.entries());
    });
}

#[test]
fn racing_unlinks_never_remove_a_newer_segment() {
    alone(|| {
        const MAKERS: usize = 3;
        const UNLINKERS: usize = 6;
        const SEGMENTS: u64 = 500;
        let name = Name::new();
        let room = SEGMENTS as usize + 64;
        let books: Vec<_> = (0..MAKERS + UNLINKERS)
            .map(|_| Book::with_room_for(room))
            .collect();
        let made = shared_words(1);
        together(MAKERS + UNLINKERS, |which| {
            let book = &books[which];
            while made[0].load(Relaxed) < SEGMENTS {
                if which < MAKERS {
                    match Segment::create(Some(&name), 1, &plain()) {
                        Ok(segment) => {
                            book.write(Event::Made, inode(&segment));
                            made[0].fetch_add(1, Relaxed);
                        }
                        Err(error) => drop(refused!(Exists, Err::<(), _>(error))),
                    }
                    continue;
                }
                let segment = match Segment::open(&name, 0, &plain()) {
                    Err(Error::NotFound(_)) => continue,
                    other => other.unwrap(),
                };
                let file = segment.stat().unwrap().file;
                // Each way of removing runs twice; the second must not remove a newer segment.
                for again in 0..2 {
                    let only = Some((file.device, file.inode));
                    let removed = match (which + again) % 2 {
                        0 => segment.unlink(),
                        _ => segment::unlink(&name, None, only, false),
                    };
                    match removed {
                        Ok(()) => book.write(Event::Removed, file.inode),
                        Err(error) => drop(refused!(NotFound, Err::<(), _>(error))),
                    }
                }
            }
        });
        let (made, removed) = check(&books, &name);
        assert!(
            made >= SEGMENTS && removed + 1 >= made,
            "{made} made, {removed} removed"
        );
    });
}

#[test]
fn open_finds_a_growing_segment_whole() {
    alone(|| {
        let name = Name::new();
        let growing = Options {
            form: Form::Managed,
            capacity: 1 << 30,
            ..plain()
        };
        let made = Segment::create(Some(&name), 1, &growing).unwrap();
        let words = shared_words(1);
        let opener = fork(|| {
            while words[0].load(Relaxed) == 0 {
                Segment::open(&name, 0, &plain()).expect("the segment is whole");
                Segment::open_fd(made.fd(), 0, &plain()).expect("the segment is whole");
            }
        });
        for size in 1..3000 {
            made.resize(size * 4096, &Growth::default()).unwrap();
        }
        words[0].store(1, Relaxed);
        opener.succeed();
    });
}
