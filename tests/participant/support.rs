//! Kernels without the system calls that liveness needs: the first use fails, and leaves nothing behind.
//!
//! A seccomp filter makes the kernel answer as an older one does.

use super::common::kernel::{refuse_byte_locks, refuse_wiping};
use super::common::process::alone;
use super::common::{Folder, entries};
use super::managed;
use shmkit::segment::{Options, Segment};

#[test]
fn managed_segments_are_unsupported_without_open_file_description_locks() {
    alone(|| {
        let folder = Folder::new();
        refuse_byte_locks();
        let options = Options {
            directory: folder.directory(),
            ..managed(0)
        };
        refused!(Unsupported, Segment::create(None, 1, &managed(0)));
        refused!(Unsupported, Segment::create(Some(c"a"), 1, &options));
        assert_eq!(entries(folder.path()), [""; 0]);
        let plain = Options {
            directory: folder.directory(),
            ..Options::default()
        };
        Segment::create(Some(c"a"), 1, &plain).expect("plain segments have no participants");
    });
}

#[test]
fn managed_segments_are_unsupported_without_wipe_on_fork() {
    alone(|| {
        let folder = Folder::new();
        refuse_wiping();
        let options = Options {
            directory: folder.directory(),
            ..managed(0)
        };
        refused!(Unsupported, Segment::create(None, 1, &managed(0)));
        refused!(Unsupported, Segment::create(Some(c"a"), 1, &options));
        assert_eq!(entries(folder.path()), [""; 0], "a name was left");
        let plain = Options {
            directory: folder.directory(),
            capacity: 8192,
            ..Options::default()
        };
        let plain =
            Segment::create(Some(c"a"), 1, &plain).expect("plain segments have no participants");
        plain.resize(5000, &Default::default()).unwrap();
        super::common::process::fork(|| plain.unlink().unwrap()).succeed();
    });
}
