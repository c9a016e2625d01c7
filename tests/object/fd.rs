//! Unnamed objects, and objects that another process opens by their descriptor.

use super::common::kernel::{become_unprivileged, can_change_user};
use super::common::pass::{receive, send};
use super::common::process::{fork, shared_words, wait_until};
use super::common::{Name, byte};
use super::managed;
use super::noun::{FILES, Noun};
use shmkit::lock::{Create, FileOptions};
use shmkit::segment::Segment;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;

each_noun!(
    open_fd_opens_the_same_object,
    open_fd_takes_the_object_as_it_is,
    open_fd_fails_for_other_offsets,
    open_fd_fails_for_other_kinds,
    open_fd_fails_for_other_descriptors,
    unnamed_objects_share_a_file_unless_they_grow;
    alone: open_fd_opens_an_object_that_came_over_a_socket, open_fd_opens_an_object_of_another_user_only_with_trust,
    a_forked_child_shares_its_objects, the_memory_of_an_exported_object_is_not_used_again
);

fn open_fd_opens_the_same_object<N: Noun>() {
    let name = Name::new();
    let named = N::named(&name, Create::Always, &N::usual()).unwrap();
    for (object, is_named) in [(N::unnamed(&N::usual()).unwrap(), false), (named, true)] {
        let (fd, offset) = object.export().unwrap();
        let same = N::open_fd(fd, offset, &N::usual()).unwrap();
        object.use_once();
        assert_eq!((same.uses(), same.offset()), (1, offset));
        // An object that was opened by a descriptor can be exported, and outlives the first handle.
        let (fd, offset) = same.export().unwrap();
        drop(object);
        let again = N::open_fd(fd, offset, &N::usual()).unwrap();
        again.use_once();
        assert_eq!(same.uses(), 2);
        // Its name is not known. A memory file has none, so that there is nothing to remove.
        match N::GROWS && !is_named {
            true => same.unlink().unwrap(),
            false => drop(refused!(Invalid, same.unlink())),
        }
    }
}

fn open_fd_takes_the_object_as_it_is<N: Noun>() {
    let file = FileOptions {
        participants: 5,
        mode: Some(0o640),
        ..FileOptions::default()
    };
    for created in N::variants(&FileOptions::default()) {
        let object = N::unnamed(&created).unwrap();
        let (fd, offset) = object.export().unwrap();
        for options in N::variants(&file) {
            let opened = N::open_fd(fd, offset, &options).unwrap();
            assert_eq!(
                (opened.state(), opened.made()),
                (object.state(), object.made())
            );
        }
    }
}

fn open_fd_fails_for_other_offsets<N: Noun>() {
    let usual = &N::usual();
    let alone = |object: N| {
        let (fd, offset) = object.export().unwrap();
        assert_eq!(offset, 0);
        for wrong in [1, 8, 64, 1 << 63, u64::MAX] {
            let cause = refused!(Invalid, N::open_fd(fd, wrong, usual));
            let text =
                format!("offset {wrong}: the file contains one object, so the offset must be 0");
            assert_eq!(cause.text, text);
        }
    };
    alone(N::named(&Name::new(), Create::Always, usual).unwrap());
    let object = N::unnamed(usual).unwrap();
    if N::GROWS {
        return alone(object);
    }
    let (fd, offset) = object.export().unwrap();
    let end = object.segment().size().unwrap();
    for wrong in [
        offset + 1,
        offset + 8,
        end,
        end + 64,
        1 << 63,
        u64::MAX - 63,
    ] {
        refused!(Invalid, N::open_fd(fd, wrong, usual));
    }
    let unused = end - N::size(usual).next_multiple_of(64);
    refused!(NotFound, N::open_fd(fd, unused, usual));
}

macro_rules! export_each {
    ($check:ident: $($file:ident $noun:ident),*) => {
        /// Calls `check` with the file, descriptor and offset of an unnamed object of each noun.
        fn $check(check: impl Fn(&str, i32, u64)) {
            $({
                use shmkit::$file::$noun;
                let object = <$noun as Noun>::unnamed(&<$noun as Noun>::usual()).unwrap();
                let (fd, offset) = object.export().unwrap();
                check(stringify!($file), fd, offset);
            })*
        }
    };
}
rows!(export_each, each_unnamed);

fn open_fd_fails_for_other_kinds<N: Noun>() {
    each_unnamed(|noun, fd, offset| {
        let opened = N::open_fd(fd, offset, &N::usual());
        match FILES.contains(&(noun, N::KIND)) {
            true => opened.unwrap().use_once(),
            false => drop(refused!(WrongKind, opened)),
        }
        // Neither a file of one object nor an arena is a segment.
        let options = shmkit::segment::Options::default();
        refused!(WrongKind, Segment::open_fd(fd, 0, &options));
    });
}

fn open_fd_fails_for_other_descriptors<N: Noun>() {
    let usual = &N::usual();
    let segment = managed(1 << 16);
    N::at(&segment, 0, Create::Always, usual).unwrap();
    refused!(WrongKind, N::open_fd(segment.fd(), 0, usual));
    let plain = Segment::create(None, 4096, &Default::default()).unwrap();
    let cause = refused!(WrongKind, N::open_fd(plain.fd(), 0, usual));
    assert!(cause.text.contains("plain"), "{cause}");
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    refused!(WrongKind, N::open_fd(null.as_raw_fd(), 0, usual));
    for fd in [-1, i32::MIN, i32::MAX] {
        refused!(Invalid, N::open_fd(fd, 0, usual));
    }
    let object = N::unnamed(usual).unwrap();
    let (fd, offset) = object.export().unwrap();
    let reader = File::open(format!("/proc/self/fd/{fd}")).unwrap();
    refused!(Permission, N::open_fd(reader.as_raw_fd(), offset, usual));
}

fn unnamed_objects_share_a_file_unless_they_grow<N: Noun>() {
    let objects: Vec<_> = (0..300).map(|_| N::unnamed(&N::usual()).unwrap()).collect();
    objects.iter().for_each(N::use_once);
    for object in &objects {
        assert_eq!(object.uses(), 1);
        let shares = object.segment().fd() == objects[0].segment().fd();
        assert!(shares != N::GROWS || std::ptr::eq(object, &objects[0]));
    }
    if !N::GROWS {
        refused!(Invalid, objects[0].unlink());
    }
    let (fd, offset) = objects[9].export().unwrap();
    let opened = N::open_fd(fd, offset, &N::usual()).unwrap();
    let shares = opened.segment().data() == objects[9].segment().data();
    assert!(shares != N::GROWS, "an arena is mapped once");
}

fn open_fd_opens_an_object_that_came_over_a_socket<N: Noun>() {
    let usual = &N::usual();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let words = shared_words(2);
    let child = fork(|| {
        for round in 0..3 {
            let file = receive(&theirs);
            wait_until(|| words[0].load(Relaxed) > round);
            let object = N::open_fd(file.as_raw_fd(), words[1].load(Relaxed), usual).unwrap();
            drop(file);
            object.use_once();
            words[0].store(0, Relaxed);
        }
    });
    let name = Name::new();
    // These objects are created after the fork, so the child has none of them.
    let named = N::named(&name, Create::Always, usual).unwrap();
    let unnamed = [(); 2].map(|()| N::unnamed(usual).unwrap());
    for (round, object) in unnamed.iter().chain([&named]).enumerate() {
        let (fd, offset) = object.export().unwrap();
        object.use_once();
        send(&ours, fd);
        words[1].store(offset, Relaxed);
        words[0].store(round as u64 + 1, Relaxed);
        wait_until(|| words[0].load(Relaxed) == 0);
        assert_eq!(object.uses(), 2);
    }
    child.succeed();
}

fn open_fd_opens_an_object_of_another_user_only_with_trust<N: Noun>() {
    if !can_change_user() {
        return;
    }
    let object = N::unnamed(&N::usual()).unwrap();
    let (fd, offset) = object.export().unwrap();
    // Participants open the memory file anew; its mode allows that only to its owner.
    let file = byte::reopen(fd);
    file.set_permissions(PermissionsExt::from_mode(0o666))
        .unwrap();
    let trusting = N::with(&FileOptions {
        trust: true,
        ..FileOptions::default()
    });
    fork(|| {
        become_unprivileged();
        refused!(Untrusted, N::open_fd(fd, offset, &N::usual()));
        let opened = N::open_fd(fd, offset, &trusting).unwrap();
        assert_eq!(opened.uses(), object.uses());
    })
    .succeed();
    object.use_once();
}

fn a_forked_child_shares_its_objects<N: Noun>() {
    let usual = &N::usual();
    let segment = managed(1 << 16);
    let name = Name::new();
    let objects = [
        N::unnamed(usual).unwrap(),
        N::named(&name, Create::Always, usual).unwrap(),
        N::at(&segment, 0, Create::Always, usual).unwrap(),
    ];
    for used_before in [0, 1] {
        fork(|| objects.iter().for_each(N::use_once)).succeed();
        // A child that drops its handles leaves those of this process open.
        fork(|| {
            for object in &objects {
                // SAFETY: the child forgets them; it ends without dropping them again.
                drop(unsafe { std::ptr::read(object) });
            }
            // SAFETY: _exit takes any number.
            unsafe { libc::_exit(0) };
        })
        .succeed();
        for object in &objects {
            object.use_once();
            assert_eq!(object.uses(), 2 * (used_before + 1));
        }
    }
}

fn the_memory_of_an_exported_object_is_not_used_again<N: Noun>() {
    if N::GROWS {
        return;
    }
    let place = |object: &N| (object.segment().fd(), object.offset());
    let kept = N::unnamed(&N::usual()).unwrap();
    let first = place(&kept);
    drop(kept);
    let again = N::unnamed(&N::usual()).unwrap();
    assert_eq!(
        place(&again),
        first,
        "the memory of an object that was not exported is used again"
    );
    again.export().unwrap();
    drop(again);
    assert_ne!(place(&N::unnamed(&N::usual()).unwrap()), first);
}
