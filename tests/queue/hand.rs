//! Queues opened by a descriptor: growth and seals. The rest: tests/object/fd.rs.

use super::common::pass::{receive, send};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Name, byte};
use super::{NOW, ONE_MINUTE, drain, unnamed};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use shmkit::error::Result;
use shmkit::queue::{Create, Options, Queue};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;

fn open_fd(fd: i32, offset: u64) -> Result<Queue> {
    Queue::open_fd(fd, offset, &Options::default())
}

#[test]
fn a_queue_opened_by_descriptor_in_the_same_process_is_the_same_queue() {
    let name = Name::new();
    let named = Queue::named(&name, Create::Always, &Options::default()).unwrap();
    for (queue, has_name) in [(unnamed(Options::default()), false), (named, true)] {
        let (fd, offset) = queue.export().unwrap();
        let same = open_fd(fd, offset).unwrap();
        queue.put_with(b"one", NOW).unwrap();
        // A queue that was opened by a descriptor can be exported again.
        let (fd, offset) = same.export().unwrap();
        drop(queue);
        let again = open_fd(fd, offset).unwrap();
        assert_eq!(drain(&again), [b"one"]);
        // The opener does not know the name, so it cannot unlink the queue.
        match has_name {
            true => drop(refused!(Invalid, same.unlink())),
            false => same.unlink().unwrap(),
        }
        // The queue still grows.
        again.put_with(&[1; 1 << 20], NOW).unwrap();
        assert_eq!(drain(&same), [[1; 1 << 20]]);
    }
}

#[test]
fn a_descriptor_sent_over_a_socket_opens_the_queue() {
    alone(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let words = shared_words(1);
        let child = fork(|| {
            let file = receive(&theirs);
            let queue = open_fd(file.as_raw_fd(), 0).unwrap();
            drop(file);
            assert_eq!(queue.bounds(), (1 << 20, 0, 0));
            let message = queue.get_with(ONE_MINUTE).unwrap();
            queue.put_with(&message.repeat(50_000), ONE_MINUTE).unwrap();
            words[0].store(1, Relaxed);
        });
        let queue = unnamed(Options {
            capacity: 1 << 20,
            ..Options::default()
        });
        let (fd, offset) = queue.export().unwrap();
        assert_eq!(offset, 0);
        send(&ours, fd);
        queue.put_with(b"question", ONE_MINUTE).unwrap();
        wait_until(|| words[0].load(Relaxed) == 1);
        assert_eq!(drain(&queue), [b"question".repeat(50_000)]);
        child.succeed();
    });
}

#[test]
fn an_exported_memory_file_cannot_be_truncated() {
    let queue = unnamed(Options::default());
    queue.put_with(&[1; 300_000], NOW).unwrap();
    let (fd, _) = queue.export().unwrap();
    let file = byte::reopen(fd);
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
    assert!(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK));
    let size = file.metadata().unwrap().len();
    file.set_len(size - 4096).unwrap_err();
    file.set_len(0).unwrap_err();
    assert_eq!(drain(&queue), [[1; 300_000]]);
}

#[test]
fn an_unsealed_file_of_another_user_is_refused() {
    let queue = unnamed(Options::default());
    queue.put_with(b"bait", NOW).unwrap();
    let (fd, offset) = queue.export().unwrap();
    let mut bytes = Vec::new();
    byte::reopen(fd).read_to_end(&mut bytes).unwrap();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy: OwnedFd = memfd_create("queue", flags).unwrap();
    let mut copy = File::from(copy);
    copy.write_all(&bytes).unwrap();
    refused!(Untrusted, open_fd(copy.as_raw_fd(), offset));
    // With seals it is accepted.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    let twin = open_fd(copy.as_raw_fd(), offset).unwrap();
    assert_eq!(drain(&twin), [b"bait"]);
    assert_eq!(drain(&queue), [b"bait"]);
}
