//! Opening: which files of other programs are accepted, and which are refused and left unchanged.

use super::common::kernel::{UNPRIVILEGED_USER, become_unprivileged, can_change_user};
use super::common::process::{Ended, alone, fork};
use super::common::{Folder, Name, is_root};
use super::{byte, fill, is_filled, plain, put, within};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use shmkit::segment::{self, Options, Segment};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;

/// Returns options that open for reading and writing, and options that open for reading.
fn both_ways(folder: &Folder) -> [Options; 2] {
    let writing = within(folder);
    let reading = Options {
        readonly: true,
        ..within(folder)
    };
    [writing, reading]
}

#[test]
fn open_opens_files_that_other_programs_created() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("a"), vec![7; 5000]).unwrap();
    let opened = Segment::open(c"a", 5000, &within(&folder)).unwrap();
    assert_eq!(opened.size().unwrap(), 5000);
    assert!((0..5000).all(|at| byte(&opened, at) == 7));
    put(&opened, 4999, 8);
    drop(opened);
    let bytes = std::fs::read(folder.path().join("a")).unwrap();
    assert_eq!((bytes.len(), bytes[4999]), (5000, 8));
}

#[test]
fn a_size_beyond_the_file_is_invalid_and_an_empty_file_corrupt() {
    let folder = Folder::new();
    let path = folder.path().join("a");
    std::fs::write(&path, vec![7; 5000]).unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    for options in both_ways(&folder) {
        let cause = refused!(Invalid, Segment::open(c"a", 5001, &options));
        assert!(
            cause.text.contains("5000") && cause.text.contains("5001"),
            "{cause}"
        );
        refused!(Invalid, Segment::open_or_create(Some(c"a"), 5001, &options));
        refused!(Corrupt, Segment::open(c"empty", 0, &options));
        refused!(Corrupt, Segment::open(c"empty", 1, &options));
        refused!(
            Corrupt,
            Segment::open_or_create(Some(c"empty"), 1, &options)
        );
        for size in [0, 1, 4999, 5000] {
            assert_eq!(
                Segment::open(c"a", size, &options).unwrap().size().unwrap(),
                5000
            );
        }
        // The whole file must fit into the mapping.
        let capacity = |capacity| Options {
            capacity,
            ..options.clone()
        };
        refused!(Invalid, Segment::open(c"a", 0, &capacity(4999)));
        assert_eq!(
            Segment::open(c"a", 0, &capacity(5000)).unwrap().capacity(),
            8192
        );
    }
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 5000]);
    assert_eq!(folder.entries(), ["a", "empty"]);
}

#[test]
fn a_symbolic_link_is_never_followed() {
    let folder = Folder::new();
    Segment::create(Some(c"target"), 100, &within(&folder)).unwrap();
    symlink("target", folder.path().join("link")).unwrap();
    symlink("nowhere", folder.path().join("dangling")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    for options in both_ways(&folder) {
        let trusting = Options {
            trust: true,
            ..options.clone()
        };
        for options in [&options, &trusting] {
            for name in [c"link", c"dangling", c"loop"] {
                let cause = refused!(Untrusted, Segment::open(name, 0, options));
                assert!(cause.text.contains("symbolic link"), "{cause}");
                refused!(Untrusted, Segment::open_or_create(Some(name), 1, options));
                let directory = folder.directory();
                refused!(
                    WrongKind,
                    segment::unlink(name, directory.as_deref(), None, false)
                );
            }
        }
    }
    assert_eq!(folder.entries(), ["dangling", "link", "loop", "target"]);
}

#[test]
fn a_file_that_is_not_regular_is_the_wrong_kind() {
    // A plain open(2) of a FIFO waits for its other end; the watchdog of `alone` would report that.
    alone(|| {
        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name);
        let mut names = vec![c"folder", c"fifo", c"socket"];
        std::fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        if is_root() {
            let null = makedev(1, 3);
            mknod(&at("null"), SFlag::S_IFCHR, Mode::S_IRWXU, null).unwrap();
            // No driver has this number.
            let nothing = makedev(239, 255);
            mknod(&at("block"), SFlag::S_IFBLK, Mode::S_IRWXU, nothing).unwrap();
            names.extend([c"null", c"block"]);
        } else {
            super::common::skip("only root can make device nodes");
        }
        let before = folder.entries();
        for options in both_ways(&folder) {
            let trusting = Options {
                trust: true,
                ..options.clone()
            };
            for options in [&options, &trusting] {
                for name in &names {
                    refused!(WrongKind, Segment::open(name, 0, options));
                    refused!(WrongKind, Segment::open_or_create(Some(name), 1, options));
                    let directory = folder.directory();
                    refused!(
                        WrongKind,
                        segment::unlink(name, directory.as_deref(), None, false)
                    );
                }
            }
        }
        assert_eq!(folder.entries(), before);
    });
}

#[test]
fn open_does_not_wait_for_a_fifo_with_a_writer() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let _both_ends = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        for options in both_ways(&folder) {
            refused!(WrongKind, Segment::open(c"fifo", 0, &options));
        }
    });
}

#[test]
fn another_users_segment_is_untrusted() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        let made = Segment::create(Some(c"a"), 5000, &within(&folder)).unwrap();
        fill(&made);
        chown(folder.path().join("a"), Some(UNPRIVILEGED_USER), None).unwrap();
        for options in both_ways(&folder) {
            let cause = refused!(Untrusted, Segment::open(c"a", 0, &options));
            assert!(cause.text.contains("65534"), "{cause}");
            refused!(Untrusted, Segment::open_or_create(Some(c"a"), 1, &options));
            refused!(Untrusted, Segment::open_fd(made.fd(), 0, &options));
            let trusting = Options {
                trust: true,
                ..options
            };
            assert!(is_filled(&Segment::open(c"a", 5000, &trusting).unwrap()));
            assert!(is_filled(
                &Segment::open_fd(made.fd(), 0, &trusting).unwrap()
            ));
            let opened = Segment::open_or_create(Some(c"a"), 1, &trusting).unwrap();
            let stat = opened.stat().unwrap();
            assert_eq!((stat.file.user, stat.created), (UNPRIVILEGED_USER, false));
        }
        assert_eq!(folder.entries(), ["a"]);
    });
}

#[test]
fn roots_segment_is_untrusted_to_others() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mode = |mode| Options {
            mode: Some(mode),
            ..within(&folder)
        };
        let made = Segment::create(Some(c"shared"), 100, &mode(0o666)).unwrap();
        put(&made, 99, 7);
        Segment::create(Some(c"read"), 100, &mode(0o444)).unwrap();
        Segment::create(Some(c"own"), 100, &mode(0o400)).unwrap();
        fork(|| {
            become_unprivileged();
            for options in both_ways(&folder) {
                refused!(Untrusted, Segment::open(c"shared", 0, &options));
                refused!(Permission, Segment::open(c"own", 0, &options));
                let trusting = Options {
                    trust: true,
                    ..options
                };
                assert_eq!(
                    byte(&Segment::open(c"shared", 0, &trusting).unwrap(), 99),
                    7
                );
                refused!(Permission, Segment::open(c"own", 0, &trusting));
                refused!(
                    Permission,
                    Segment::open_or_create(Some(c"own"), 1, &trusting)
                );
                match trusting.readonly {
                    true => drop(Segment::open(c"read", 0, &trusting).unwrap()),
                    false => drop(refused!(Permission, Segment::open(c"read", 0, &trusting))),
                }
            }
            // The folder belongs to root: this user cannot create or remove files in it.
            refused!(
                Permission,
                Segment::create(Some(c"new"), 1, &within(&folder))
            );
            refused!(
                Permission,
                Segment::create(Some(c"new"), 2 << 20, &within(&folder))
            );
            let directory = folder.directory();
            refused!(
                Permission,
                segment::unlink(c"shared", directory.as_deref(), None, false)
            );
            refused!(
                Permission,
                segment::unlink(c"own", directory.as_deref(), None, false)
            );
            let trusting = Options {
                trust: true,
                ..within(&folder)
            };
            let opened = Segment::open(c"shared", 0, &trusting).unwrap();
            refused!(Permission, opened.unlink());
        })
        .succeed();
        assert_eq!(folder.entries(), ["own", "read", "shared"]);
    });
}

#[test]
fn a_directory_without_access_is_a_permission_error() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        Segment::create(Some(c"a"), 1, &within(&folder)).unwrap();
        fork(|| {
            become_unprivileged();
            refused!(Permission, Segment::create(Some(c"b"), 1, &within(&folder)));
            refused!(Permission, Segment::open(c"a", 0, &within(&folder)));
            let directory = folder.directory();
            refused!(Permission, segment::list(directory.as_deref(), |_| true));
            refused!(
                Permission,
                segment::unlink(c"a", directory.as_deref(), None, false)
            );
        })
        .succeed();
    });
}

#[test]
fn opening_for_reading_needs_only_read_permission() {
    alone(|| {
        let name = Name::new();
        let options = Options {
            mode: Some(0o400),
            ..plain()
        };
        let made = Segment::create(Some(&name), 5000, &options).unwrap();
        fill(&made);
        let check = || {
            let reading = Options {
                readonly: true,
                ..plain()
            };
            let opened = Segment::open(&name, 5000, &reading).unwrap();
            assert!(is_filled(&opened));
            assert!(opened.stat().unwrap().readonly);
            opened
        };
        let opened = check();
        refused!(Permission, opened.resize(8192, &Default::default()));
        if can_change_user() {
            chown(name.path(), Some(UNPRIVILEGED_USER), None).unwrap();
            fork(|| {
                become_unprivileged();
                check();
                refused!(Permission, Segment::open(&name, 0, &plain()));
                refused!(
                    Permission,
                    Segment::open_or_create(Some(&name), 1, &plain())
                );
            })
            .succeed();
        }
    });
}

#[test]
fn writing_to_a_read_only_segment_is_sigsegv() {
    alone(|| {
        let name = Name::new();
        // Mappings below and above the size of a huge page are created differently.
        for size in [5000, 5 << 20] {
            let made = Segment::create(Some(&name), size, &plain()).unwrap();
            let reading = Options {
                readonly: true,
                ..plain()
            };
            let opened = Segment::open(&name, 0, &reading).unwrap();
            fork(|| assert_eq!(byte(&opened, size - 1), 0)).succeed();
            let ended = fork(|| put(&opened, size - 1, 1)).wait();
            assert_eq!(ended, Ended::Signal(Signal::SIGSEGV));
            assert_eq!(byte(&made, size - 1), 0);
            made.unlink().unwrap();
        }
    });
}

#[test]
fn a_segment_truncated_while_mapped_is_corrupt_and_accessing_it_is_sigbus() {
    alone(|| {
        let name = Name::new();
        let made = Segment::create(Some(&name), 3 * 4096, &plain()).unwrap();
        let opened = Segment::open(&name, 3 * 4096, &plain()).unwrap();
        assert_eq!(opened.size().unwrap(), 3 * 4096);
        let bytes = opened.bytes().unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(name.path())
            .unwrap();
        file.set_len(4096).unwrap();

        for segment in [&made, &opened] {
            let cause = refused!(Corrupt, segment.size());
            assert!(
                cause.text.contains("12288") && cause.text.contains("4096"),
                "{cause}"
            );
            refused!(Corrupt, segment.bytes().map(drop));
        }
        fork(|| assert_eq!(bytes[4095].load(super::Relaxed), 0)).succeed();
        let touch = |at: usize| fork(|| _ = bytes[at].load(super::Relaxed)).wait();
        assert_eq!(touch(4096), Ended::Signal(Signal::SIGBUS));
        assert_eq!(touch(3 * 4096 - 1), Ended::Signal(Signal::SIGBUS));

        refused!(Invalid, Segment::open(&name, 3 * 4096, &plain()));
        assert_eq!(
            Segment::open(&name, 0, &plain()).unwrap().size().unwrap(),
            4096
        );
        file.set_len(0).unwrap();
        refused!(Corrupt, Segment::open(&name, 0, &plain()));
        refused!(Corrupt, made.size());
        // The name still belongs to the segment, which can be unlinked.
        made.unlink().unwrap();
        assert!(!name.path().exists());
    });
}
