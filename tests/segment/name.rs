//! Names: which are valid, where their files are, and what `list` reports.

use super::common::process::alone;
use super::common::{Folder, Name, c_path, standard_directory, unique};
use super::{byte, plain, put, within};
use shmkit::segment::{self, Options, Segment};
use std::ffi::{CStr, CString};
use std::os::unix::fs::symlink;

#[test]
fn a_leading_slash_is_ignored() {
    let name = Name::new();
    let slashed = CString::new([b"/", name.to_bytes()].concat()).unwrap();
    let made = Segment::create(Some(&slashed), 100, &plain()).unwrap();
    assert_eq!(made.name(), Some(&*name));
    assert_eq!(std::fs::metadata(name.path()).unwrap().len(), 100);
    put(&made, 99, 7);

    let opened = Segment::open(&name, 0, &plain()).unwrap();
    assert_eq!(byte(&opened, 99), 7);
    refused!(Exists, Segment::create(Some(&name), 100, &plain()));
    segment::unlink(&slashed, None, None, false).unwrap();
    refused!(NotFound, Segment::open(&name, 0, &plain()));
}

#[test]
fn a_name_of_255_bytes_is_valid_and_one_of_256_is_not() {
    let longest = format!("{:x<255}", unique());
    let name = Name::of(&longest);
    let slashed = Name::of(&format!("/{longest}"));
    Segment::create(Some(&slashed), 1, &plain()).unwrap();
    assert_eq!(
        Segment::open(&name, 0, &plain()).unwrap().name(),
        Some(&*name)
    );
    segment::unlink(&name, None, None, false).unwrap();

    let longer = CString::new(format!("{longest}x")).unwrap();
    let cause = refused!(Invalid, Segment::create(Some(&longer), 1, &plain()));
    assert!(cause.text.contains("255"), "{cause}");
    refused!(Invalid, Segment::open(&longer, 0, &plain()));
}

#[test]
fn names_that_could_mean_another_file_are_invalid_in_every_call() {
    let folder = Folder::new();
    let options = within(&folder);
    let directory = folder.directory();
    let wrong: [&CStr; 12] = [
        c"",
        c"/",
        c".",
        c"..",
        c"/.",
        c"/..",
        c"//",
        c"//a",
        c"a/b",
        c"../a",
        c"a/",
        c".shmkit-0123456789abcdef",
    ];
    for name in wrong {
        refused!(Invalid, Segment::create(Some(name), 1, &options));
        refused!(Invalid, Segment::open(name, 0, &options));
        refused!(Invalid, Segment::open_or_create(Some(name), 1, &options));
        refused!(
            Invalid,
            segment::unlink(name, directory.as_deref(), None, false)
        );
    }
    assert!(folder.entries().is_empty(), "{:?}", folder.entries());
    for name in [c"...", c".a", c".shmkit", c"a b", c"-", c"~", c"\xff\xfe"] {
        let made = Segment::create(Some(name), 1, &options).unwrap();
        assert_eq!(made.name(), Some(name));
        made.unlink().unwrap();
    }
}

#[test]
fn the_file_is_in_the_directory_of_the_call() {
    let (one, other) = (Folder::new(), Folder::new());
    let made = Segment::create(Some(c"same"), 1, &within(&one)).unwrap();
    assert_eq!(made.directory(), one.directory().as_deref());
    Segment::create(Some(c"same"), 2, &within(&other)).unwrap();
    let size = |folder| {
        Segment::open(c"same", 0, &within(folder))
            .unwrap()
            .size()
            .unwrap()
    };
    assert_eq!((size(&one), size(&other)), (1, 2));
    refused!(NotFound, Segment::open(c"same", 0, &plain()));

    made.unlink().unwrap();
    assert!(one.entries().is_empty());
    assert_eq!(other.entries(), ["same"]);
}

#[test]
fn a_missing_directory_is_not_found_and_a_file_is_invalid() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let below = |name: &str| Options {
        directory: Some(c_path(&folder.path().join(name))),
        ..plain()
    };
    for (name, options) in [(c"a", below("missing")), (c"a", below("missing/deeper"))] {
        refused!(NotFound, Segment::create(Some(name), 1, &options));
        refused!(NotFound, Segment::open(name, 0, &options));
        refused!(NotFound, Segment::open_or_create(Some(name), 1, &options));
        let directory = options.directory.as_deref();
        refused!(NotFound, segment::unlink(name, directory, None, false));
        refused!(NotFound, segment::list(directory, |_| true));
    }
    refused!(Invalid, Segment::create(Some(c"a"), 1, &below("file")));
    refused!(Invalid, Segment::open(c"a", 0, &below("file")));
    let long = Options {
        directory: CString::new("/dev/shm/".to_owned() + &"x/".repeat(4096)).ok(),
        ..plain()
    };
    refused!(Invalid, Segment::create(Some(c"a"), 1, &long));
    assert_eq!(folder.entries(), ["file"]);
}

#[test]
fn shmkit_dir_sets_the_default_directory() {
    alone(|| {
        let folder = Folder::new();
        let set = |value: &std::ffi::OsStr| {
            // SAFETY: this process has one thread, so no other thread reads the environment meanwhile.
            unsafe { std::env::set_var("SHMKIT_DIR", value) };
        };
        set(folder.path().as_os_str());
        let made = Segment::create(Some(c"here"), 5, &plain()).unwrap();
        assert_eq!(made.directory(), folder.directory().as_deref());
        assert_eq!(folder.entries(), ["here"]);
        assert_eq!(
            Segment::open(c"here", 0, &plain()).unwrap().size().unwrap(),
            5
        );
        let mut seen = 0;
        segment::list(None, |name| {
            assert_eq!(name, c"here");
            seen += 1;
            true
        })
        .unwrap();
        assert_eq!(seen, 1);
        // A relative directory is resolved against the working directory at the time of the call.
        std::env::set_current_dir(folder.path().parent().unwrap()).unwrap();
        set(folder.path().file_name().unwrap());
        let relative = Segment::create(Some(c"there"), 5, &plain()).unwrap();
        std::env::set_current_dir("/").unwrap();
        assert_eq!(relative.directory(), folder.directory().as_deref());
        relative.unlink().unwrap();
        assert_eq!(folder.entries(), ["here"]);
        set(folder.path().as_os_str());
        // The directory of a call overrides the variable.
        let other = Folder::new();
        refused!(NotFound, Segment::open(c"here", 0, &within(&other)));
        // A handle keeps the directory of its name when the variable changes.
        set("/nowhere".as_ref());
        refused!(NotFound, Segment::open(c"here", 0, &plain()));
        made.unlink().unwrap();
        assert!(folder.entries().is_empty());
        // An empty variable counts as unset.
        set("".as_ref());
        assert_eq!(standard_directory().to_str(), Some("/dev/shm"));
        let name = Name::new();
        Segment::create(Some(&name), 1, &plain()).unwrap();
        assert!(name.path().exists());
    });
}

#[test]
fn list_reports_the_names_that_open_could_open() {
    let folder = Folder::new();
    let directory = folder.directory();
    let at = |name: &str| folder.path().join(name);
    for name in [c"one", c"two", c"three"] {
        Segment::create(Some(name), 1, &within(&folder)).unwrap();
    }
    std::fs::write(at("made-by-others"), "x").unwrap();
    std::fs::write(at(".shmkit-unfinished"), "x").unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    symlink(at("one"), at("link")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();

    let mut names = Vec::new();
    let mut collect = |name: &CStr| {
        names.push(name.to_owned());
        true
    };
    segment::list(directory.as_deref(), &mut collect).unwrap();
    names.sort();
    assert_eq!(
        names,
        [c"made-by-others", c"one", c"three", c"two"].map(CStr::to_owned)
    );

    let mut calls = 0;
    segment::list(directory.as_deref(), |_| {
        calls += 1;
        calls < 2
    })
    .unwrap();
    assert_eq!(calls, 2, "false ends the list");
}
