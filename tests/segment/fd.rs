//! Descriptors: memory files and their seals, descriptors of every kind, and passing them to other processes.

use super::common::pass::{receive, send};
use super::common::process::{alone, fork};
use super::common::{Folder, Name};
use super::{byte, fill, is_filled, plain, put, within};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use shmkit::segment::{Form, Growth, Options, Segment};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

fn reading() -> Options {
    Options {
        readonly: true,
        ..plain()
    }
}

fn trusting() -> Options {
    Options {
        trust: true,
        ..plain()
    }
}

/// Borrows the descriptor of a segment.
fn lend(segment: &Segment) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the segment's and stays open as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(segment.fd()) }
}

fn memory_file(seals: SealFlag) -> OwnedFd {
    let file = memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::ftruncate(&file, 5000).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

#[test]
fn an_anonymous_segment_can_grow_but_not_shrink() {
    let options = Options {
        capacity: 1 << 20,
        ..plain()
    };
    let made = Segment::create(None, 5000, &options).unwrap();
    assert!(made.stat().unwrap().sealed);
    assert_eq!(made.stat().unwrap().file.links, 0);
    let truncate = |size| nix::unistd::ftruncate(lend(&made), size);
    assert_eq!(truncate(4999), Err(Errno::EPERM));
    assert_eq!(truncate(0), Err(Errno::EPERM));
    // No process can remove the seals or make the file unwritable.
    let add = |seal| fcntl(lend(&made), FcntlArg::F_ADD_SEALS(seal));
    assert_eq!(add(SealFlag::F_SEAL_WRITE), Err(Errno::EPERM));
    assert_eq!(add(SealFlag::F_SEAL_GROW), Err(Errno::EPERM));
    made.resize(8192, &Growth::default()).unwrap();
    truncate(1 << 20).unwrap();
    assert_eq!(made.size().unwrap(), 1 << 20);
    assert_eq!(truncate(8192), Err(Errno::EPERM));

    let name = Name::new();
    let named = Segment::create(Some(&name), 1, &plain()).unwrap();
    assert!(!named.stat().unwrap().sealed);
}

#[test]
fn open_fd_maps_the_same_memory() {
    let name = Name::new();
    let options = Options {
        capacity: 1 << 20,
        ..plain()
    };
    for name in [None, Some(&*name)] {
        let made = Segment::create(name, 5000, &options).unwrap();
        fill(&made);
        let opened = Segment::open_fd(made.fd(), 5000, &options).unwrap();
        assert!(is_filled(&opened));
        assert_ne!(
            opened.fd(),
            made.fd(),
            "open_fd must duplicate the descriptor"
        );
        let (one, other) = (made.stat().unwrap(), opened.stat().unwrap());
        assert_eq!(one.file, other.file);
        assert!(one.created && !other.created);
        drop(made);
        opened.resize(6000, &Growth::default()).unwrap();
        put(&opened, 5999, 1);
        refused!(Invalid, Segment::open_fd(opened.fd(), 6001, &options));
    }
}

#[test]
fn open_fd_leaves_the_callers_descriptor_open_and_descriptors_close_on_exec() {
    let flags = |segment: &Segment| fcntl(lend(segment), FcntlArg::F_GETFD).unwrap();
    let name = Name::new();
    let made = Segment::create(None, 5000, &plain()).unwrap();
    let file = memory_file(SealFlag::F_SEAL_SHRINK);
    let opened = Segment::open_fd(file.as_raw_fd(), 0, &plain()).unwrap();
    let named = Segment::create(Some(&name), 1, &plain()).unwrap();
    let found = Segment::open(&name, 0, &plain()).unwrap();
    for segment in [&made, &opened, &named, &found] {
        assert_eq!(flags(segment), libc::FD_CLOEXEC);
    }
    drop(opened);
    nix::sys::stat::fstat(&file).expect("closing the segment leaves the caller's descriptor open");
}

#[test]
fn open_fd_fails_for_numbers_without_a_descriptor() {
    alone(|| {
        let closed = memory_file(SealFlag::F_SEAL_SHRINK).as_raw_fd();
        for fd in [-1, i32::MIN, i32::MAX, 9999, closed] {
            for options in [plain(), reading(), trusting()] {
                let cause = refused!(Invalid, Segment::open_fd(fd, 0, &options));
                assert!(cause.text.contains(&fd.to_string()), "{cause}");
                assert_eq!(cause.errno, libc::EBADF);
            }
        }
    });
}

#[test]
fn open_fd_fails_for_other_file_types() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let folder = File::open("/dev/shm").unwrap();
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    let kinds = [socket.as_raw_fd(), device.as_raw_fd()];
    for options in [plain(), reading(), trusting()] {
        for fd in kinds {
            refused!(WrongKind, Segment::open_fd(fd, 0, &options));
        }
        refused!(WrongKind, Segment::open_fd(reader.as_raw_fd(), 0, &options));
        refused!(WrongKind, Segment::open_fd(folder.as_raw_fd(), 0, &options));
        // This end cannot be read.
        refused!(
            Permission,
            Segment::open_fd(writer.as_raw_fd(), 0, &options)
        );
    }
}

#[test]
fn open_fd_fails_for_descriptors_with_less_access() {
    let name = Name::new();
    let made = Segment::create(Some(&name), 5000, &plain()).unwrap();
    fill(&made);
    let open = |flags| nix::fcntl::open(name.path(), flags, Mode::empty()).unwrap();
    for options in [plain(), reading(), trusting()] {
        for flags in [OFlag::O_WRONLY, OFlag::O_PATH] {
            let file = open(flags);
            let cause = refused!(Permission, Segment::open_fd(file.as_raw_fd(), 0, &options));
            assert!(cause.text.contains("reading"), "{cause}");
        }
    }
    let file = open(OFlag::O_RDONLY);
    let cause = refused!(Permission, Segment::open_fd(file.as_raw_fd(), 0, &plain()));
    assert!(cause.text.contains("read-only"), "{cause}");
    let opened = Segment::open_fd(file.as_raw_fd(), 5000, &reading()).unwrap();
    assert!(is_filled(&opened));
    refused!(Permission, opened.resize(8192, &Growth::default()));
}

#[test]
fn an_unnamed_file_without_the_shrink_seal_is_untrusted() {
    let folder = Folder::new();
    let unsealed = memory_file(SealFlag::empty());
    let cannot_grow = memory_file(SealFlag::F_SEAL_GROW);
    let nameless = nix::fcntl::open(
        folder.path(),
        OFlag::O_TMPFILE | OFlag::O_RDWR,
        Mode::S_IRWXU,
    )
    .unwrap();
    nix::unistd::ftruncate(&nameless, 5000).unwrap();
    let unlinked = Segment::create(Some(c"a"), 5000, &within(&folder)).unwrap();
    unlinked.unlink().unwrap();
    for fd in [
        unsealed.as_raw_fd(),
        cannot_grow.as_raw_fd(),
        nameless.as_raw_fd(),
        unlinked.fd(),
    ] {
        let cause = refused!(Untrusted, Segment::open_fd(fd, 0, &plain()));
        assert!(cause.text.contains("sealed"), "{cause}");
        refused!(Untrusted, Segment::open_fd(fd, 0, &reading()));
        assert_eq!(
            Segment::open_fd(fd, 5000, &trusting())
                .unwrap()
                .size()
                .unwrap(),
            5000
        );
    }
    let sealed = memory_file(SealFlag::F_SEAL_SHRINK);
    let opened = Segment::open_fd(sealed.as_raw_fd(), 0, &plain()).unwrap();
    assert!(opened.stat().unwrap().sealed);
}

#[test]
fn a_memory_file_sealed_against_writing_opens_for_reading() {
    let sealed = memory_file(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE);
    refused!(
        Permission,
        Segment::open_fd(sealed.as_raw_fd(), 0, &plain())
    );
    let opened = Segment::open_fd(sealed.as_raw_fd(), 0, &reading()).unwrap();
    assert_eq!(byte(&opened, 4999), 0);
}

#[test]
fn a_segment_sealed_against_growing_keeps_its_size() {
    let sealed = memory_file(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW);
    let options = Options {
        capacity: 1 << 20,
        ..plain()
    };
    let opened = Segment::open_fd(sealed.as_raw_fd(), 0, &options).unwrap();
    fill(&opened);
    refused!(Permission, opened.resize(8192, &Growth::default()));
    let sparse = Growth {
        sparse: true,
        ..Growth::default()
    };
    refused!(Permission, opened.resize(8192, &sparse));
    assert_eq!(opened.size().unwrap(), 5000);
    assert!(is_filled(&opened));
}

#[test]
fn a_segment_can_be_passed_over_a_socket() {
    alone(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = fork(|| {
            let file = receive(&theirs);
            let options = Options {
                capacity: 1 << 20,
                ..plain()
            };
            let opened = Segment::open_fd(file.as_raw_fd(), 5000, &options).unwrap();
            assert!(is_filled(&opened));
            assert!(opened.stat().unwrap().sealed);
            put(&opened, 0, 99);
            opened.resize(8192, &Growth::default()).unwrap();
        });
        let options = Options {
            capacity: 1 << 20,
            ..plain()
        };
        let made = Segment::create(None, 5000, &options).unwrap();
        fill(&made);
        send(&ours, made.fd());
        child.succeed();
        assert_eq!((byte(&made, 0), made.size().unwrap()), (99, 8192));
    });
}

#[test]
fn a_segment_can_be_opened_through_proc_of_another_process() {
    alone(|| {
        let made = Segment::create(None, 5000, &plain()).unwrap();
        fill(&made);
        let path = format!("/proc/{}/fd/{}", std::process::id(), made.fd());
        fork(|| {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let opened = Segment::open_fd(file.as_raw_fd(), 5000, &plain()).unwrap();
            assert!(is_filled(&opened));
        })
        .succeed();
        drop(made);
    });
}

#[test]
fn a_descriptor_that_became_another_file_is_neither_closed_nor_grown() {
    alone(|| {
        let folder = Folder::new();
        for form in [Form::Plain, Form::Managed] {
            let options = Options {
                form,
                capacity: 1 << 20,
                ..within(&folder)
            };
            let segment = Segment::create(Some(c"a"), 8192, &options).unwrap();
            let path = folder.path().join("other");
            std::fs::write(&path, b"untouched").unwrap();
            let fd = segment.fd();
            nix::unistd::close(fd).unwrap();
            refused!(LivenessUnknown, segment.size());
            let other = File::options().read(true).write(true).open(&path).unwrap();
            assert_eq!(other.as_raw_fd(), fd, "the number is not reused");
            refused!(LivenessUnknown, segment.size());
            refused!(LivenessUnknown, segment.stat());
            refused!(LivenessUnknown, segment.resize(16384, &Growth::default()));
            refused!(LivenessUnknown, segment.bytes());
            segment.unlink().unwrap();
            refused!(NotFound, segment.unlink());
            drop(segment);
            assert_eq!(
                other.metadata().unwrap().len(),
                9,
                "the segment changed another file"
            );
        }
    });
}
