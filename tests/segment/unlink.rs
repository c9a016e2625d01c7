//! Unlinking: the name is removed, the memory stays with its users, and only the expected segment is removed.

use super::common::kernel::{UNPRIVILEGED_USER, become_unprivileged, can_change_user};
use super::common::process::{alone, fork};
use super::common::{Folder, Name};
use super::{byte, fill, is_filled, plain, put, within};
use shmkit::segment::{self, Options, Segment};
use std::os::unix::fs::{PermissionsExt, chown};

#[test]
fn an_unlinked_segment_remains_usable() {
    let name = Name::new();
    let made = Segment::create(Some(&name), 5000, &plain()).unwrap();
    let opened = Segment::open(&name, 0, &plain()).unwrap();
    assert_eq!(made.stat().unwrap().file.links, 1);
    made.unlink().unwrap();
    assert!(!name.path().exists());
    assert_eq!(made.stat().unwrap().file.links, 0);
    refused!(NotFound, Segment::open(&name, 0, &plain()));
    drop(made);
    fill(&opened);
    assert!(is_filled(&opened));
    assert_eq!(opened.name(), Some(&*name), "the handle keeps its name");
    refused!(NotFound, opened.unlink());
}

#[test]
fn closing_leaves_the_name() {
    let name = Name::new();
    put(&Segment::create(Some(&name), 100, &plain()).unwrap(), 99, 7);
    assert_eq!(byte(&Segment::open(&name, 0, &plain()).unwrap(), 99), 7);
}

#[test]
fn unlink_leaves_a_newer_segment_of_the_same_name() {
    let name = Name::new();
    let old = Segment::create(Some(&name), 100, &plain()).unwrap();
    old.unlink().unwrap();
    let new = Segment::create(Some(&name), 200, &plain()).unwrap();
    let cause = refused!(NotFound, old.unlink());
    assert!(cause.text.contains("another segment"), "{cause}");
    assert_eq!(
        Segment::open(&name, 0, &plain()).unwrap().size().unwrap(),
        200
    );
    new.unlink().unwrap();
    refused!(NotFound, old.unlink());
}

#[test]
fn unlink_by_name_removes_any_segment_or_only_the_expected_one() {
    let folder = Folder::new();
    let directory = folder.directory();
    let unlink = |only| segment::unlink(c"a", directory.as_deref(), only, false);
    let identity = |segment: &Segment| {
        let file = segment.stat().unwrap().file;
        Some((file.device, file.inode))
    };
    refused!(NotFound, unlink(None));
    let old = Segment::create(Some(c"a"), 100, &within(&folder)).unwrap();
    unlink(identity(&old)).unwrap();
    refused!(NotFound, unlink(identity(&old)));
    let new = Segment::create(Some(c"a"), 100, &within(&folder)).unwrap();
    refused!(NotFound, unlink(identity(&old)));
    let (device, inode) = identity(&new).unwrap();
    refused!(NotFound, unlink(Some((device + 1, inode))));
    refused!(NotFound, unlink(Some((device, inode + 1))));
    assert_eq!(folder.entries(), ["a"]);
    unlink(None).unwrap();
    assert!(folder.entries().is_empty());
    // An unfinished or damaged segment is still a regular file.
    std::fs::write(folder.path().join("a"), "").unwrap();
    unlink(None).unwrap();
}

#[test]
fn unlinking_an_anonymous_segment_does_nothing() {
    let anonymous = Segment::create(None, 100, &plain()).unwrap();
    anonymous.unlink().unwrap();
    anonymous.unlink().unwrap();
    assert_eq!(anonymous.name(), None);
    assert_eq!(anonymous.directory(), None);
    let again = Segment::open_fd(anonymous.fd(), 0, &plain()).unwrap();
    again.unlink().unwrap();
}

#[test]
fn a_segment_opened_by_its_descriptor_cannot_unlink_its_name() {
    let name = Name::new();
    let made = Segment::create(Some(&name), 100, &plain()).unwrap();
    let opened = Segment::open_fd(made.fd(), 0, &plain()).unwrap();
    assert_eq!((opened.name(), opened.directory()), (None, None));
    refused!(Invalid, opened.unlink());
    assert!(name.path().exists());
    made.unlink().unwrap();
    // The segment has no name any more.
    opened.unlink().unwrap();
}

#[test]
fn a_read_only_handle_can_unlink() {
    let name = Name::new();
    Segment::create(Some(&name), 100, &plain()).unwrap();
    let reading = Options {
        readonly: true,
        ..plain()
    };
    Segment::open(&name, 0, &reading).unwrap().unlink().unwrap();
    assert!(!name.path().exists());
}

/// Creates segments of several modes as an unprivileged user, in a folder of that user, and removes each with `remove`.
fn an_unprivileged_user_removes_its_segments(remove: impl Fn(Segment, &Options)) {
    if !can_change_user() {
        return;
    }
    let folder = Folder::new();
    chown(folder.path(), Some(UNPRIVILEGED_USER), None).unwrap();
    fork(|| {
        become_unprivileged();
        for mode in [0o600, 0o400, 0o200, 0o100, 0o040] {
            let options = Options {
                mode: Some(mode),
                ..within(&folder)
            };
            let made = Segment::create(Some(c"a"), 1, &options).unwrap();
            remove(made, &options);
            assert!(folder.entries().is_empty(), "mode {mode:o}");
        }
    })
    .succeed();
}

#[test]
fn unlink_by_name_removes_an_own_segment_of_any_mode() {
    alone(|| {
        an_unprivileged_user_removes_its_segments(|made, options| {
            drop(made);
            segment::unlink(c"a", options.directory.as_deref(), None, false).unwrap();
        });
    });
}

#[test]
fn unlink_by_handle_removes_an_own_segment_of_any_mode() {
    alone(|| an_unprivileged_user_removes_its_segments(|made, _| made.unlink().unwrap()));
}

#[test]
fn unlink_removes_another_users_segment_if_the_directory_allows_it() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        Segment::create(Some(c"a"), 1, &within(&folder)).unwrap();
        fork(|| {
            become_unprivileged();
            let directory = folder.directory();
            segment::unlink(c"a", directory.as_deref(), None, false).unwrap();
        })
        .succeed();
        assert!(folder.entries().is_empty());
    });
}
