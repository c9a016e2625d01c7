//! By name: a file that contains one object and nothing else.

use super::common::Folder;
use super::common::kernel::{become_unprivileged, can_change_user};
use super::common::process::{fork, shared_words, wait_until};
use super::form;
use super::noun::{FILES, Noun};
use shmkit::lock::{Create, FileOptions};
use shmkit::segment::{self, Form, Segment};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::Relaxed;

each_noun!(
    named_opens_what_named_created,
    named_creates_a_file_with_the_mode_and_the_participants_of_its_options,
    named_fails_with_impossible_names,
    named_fails_with_other_options_than_those_of_its_creator,
    named_fails_for_files_that_contain_something_else,
    an_unlinked_object_remains_usable_and_its_name_is_free;
    alone: named_creates_one_object_if_processes_race, named_opens_the_object_of_another_user_only_with_trust,
    an_object_survives_its_creator
);

fn within(folder: &Folder) -> FileOptions {
    FileOptions {
        directory: folder.directory(),
        ..FileOptions::default()
    }
}

fn named_opens_what_named_created<N: Noun>() {
    let folder = Folder::new();
    let options = N::with(&within(&folder));
    let named = |create| N::named(c"a", create, &options);
    refused!(NotFound, named(Create::Never));
    assert!(folder.entries().is_empty());
    let created = named(Create::IfMissing).unwrap();
    refused!(Exists, named(Create::Always));
    let opened = [Create::Never, Create::IfMissing].map(|create| named(create).unwrap());
    created.use_once();
    opened[0].use_once();
    assert_eq!((created.uses(), opened[1].uses()), (2, 2));
    assert_eq!(folder.entries(), ["a"]);
}

fn an_unlinked_object_remains_usable_and_its_name_is_free<N: Noun>() {
    let folder = Folder::new();
    let options = N::with(&within(&folder));
    let created = N::named(c"a", Create::Always, &options).unwrap();
    let opened = N::named(c"/a", Create::Never, &options).unwrap();
    opened.unlink().unwrap();
    assert!(folder.entries().is_empty());
    refused!(NotFound, created.unlink());
    let other = N::named(c"a", Create::Always, &options).unwrap();
    created.use_once();
    assert_eq!((opened.uses(), other.uses()), (1, 0));
    refused!(NotFound, opened.unlink());
    other.unlink().unwrap();
}

fn named_creates_a_file_with_the_mode_and_the_participants_of_its_options<N: Noun>() {
    let folder = Folder::new();
    for (mode, participants, expected) in [(None, 0, (0o600, 128)), (Some(0o640), 7, (0o640, 7))] {
        let options = N::with(&FileOptions {
            mode,
            participants,
            ..within(&folder)
        });
        let created = N::named(c"a", Create::Always, &options).unwrap();
        // An opener's options for new files do not matter.
        let opened = N::named(c"a", Create::IfMissing, &N::with(&within(&folder))).unwrap();
        for object in [&created, &opened] {
            let stat = object.segment().stat().unwrap();
            let participants = stat.header.unwrap().participants;
            assert_eq!((stat.file.mode, participants), expected);
            assert_eq!((stat.size, object.offset()), (N::size(&options), 0));
        }
        created.unlink().unwrap();
    }
    for participants in [4097, u32::MAX] {
        let options = N::with(&FileOptions {
            participants,
            ..within(&folder)
        });
        refused!(Invalid, N::named(c"a", Create::Always, &options));
    }
    assert!(folder.entries().is_empty());
}

fn named_fails_with_impossible_names<N: Noun>() {
    let folder = Folder::new();
    let options = N::with(&within(&folder));
    for name in [c"", c"/", c".", c"..", c"a/b", c".shmkit-a"] {
        for create in super::noun::EACH {
            refused!(Invalid, N::named(name, create, &options));
        }
    }
    assert!(folder.entries().is_empty());
}

fn named_fails_with_other_options_than_those_of_its_creator<N: Noun>() {
    let folder = Folder::new();
    let all = N::variants(&within(&folder));
    let mut made = Vec::new();
    for (number, options) in all.iter().enumerate() {
        let created = N::named(c"a", Create::Always, options).unwrap();
        for (other, options) in all.iter().enumerate() {
            let opened = N::named(c"a", Create::IfMissing, options);
            match other == number {
                true => drop(opened.unwrap()),
                false => drop(refused!(Invalid, opened)),
            }
            // An opener takes the object as it is.
            let opened = N::named(c"a", Create::Never, options).unwrap();
            assert_eq!(opened.made(), created.made());
        }
        created.unlink().unwrap();
        made.push(created.made());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), all.len(), "each option is kept");
}

macro_rules! create_each {
    ($check:ident: $($file:ident $noun:ident),*) => {
        /// Creates a file of each noun, with the noun's name.
        fn $check(file: &FileOptions) {
            $({
                use shmkit::$file::$noun;
                let name = std::ffi::CString::new(stringify!($file)).unwrap();
                let options = <$noun as Noun>::with(file);
                <$noun as Noun>::named(&name, Create::Always, &options).unwrap();
            })*
        }
    };
}
rows!(create_each, create_files);

fn named_fails_for_files_that_contain_something_else<N: Noun>() {
    let folder = Folder::new();
    let file = within(&folder);
    create_files(&file);
    let segments = |form_| segment::Options {
        directory: folder.directory(),
        ..form(form_)
    };
    Segment::create(Some(c"managed"), 1 << 20, &segments(Form::Managed)).unwrap();
    Segment::create(Some(c"plain"), 1 << 20, &segments(Form::Plain)).unwrap();
    std::fs::write(folder.path().join("garbage"), [0x2a; 5000]).unwrap();
    let options = N::with(&file);
    let entries = folder.entries();
    for entry in &entries {
        let name = std::ffi::CString::new(entry.as_str()).unwrap();
        let row = FILES.iter().find(|(file, _)| file == entry);
        for create in [Create::Never, Create::IfMissing] {
            let opened = N::named(&name, create, &options);
            match row {
                Some((_, kind)) if *kind == N::KIND => drop(opened.unwrap()),
                Some((_, kind)) => {
                    let cause = refused!(WrongKind, opened);
                    assert!(cause.text.contains(kind.noun()), "{cause}");
                }
                None => drop(refused!(WrongKind, opened)),
            }
        }
        refused!(Exists, N::named(&name, Create::Always, &options));
        // It is no segment, but its bare bytes are open to all.
        if row.is_some() {
            for form in [Form::Either, Form::Managed] {
                refused!(WrongKind, Segment::open(&name, 0, &segments(form)));
                refused!(
                    WrongKind,
                    Segment::open_or_create(Some(&name), 1, &segments(form))
                );
            }
            Segment::open(&name, 0, &segments(Form::Plain)).unwrap();
        }
    }
    assert_eq!(folder.entries(), entries);
}

fn named_creates_one_object_if_processes_race<N: Noun>() {
    const PROCESSES: u64 = 4;
    let folder = Folder::new();
    let options = &N::with(&within(&folder));
    let words = shared_words(1);
    for round in 0..10 {
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| {
                fork(move || {
                    wait_until(|| words[0].load(Relaxed) > round);
                    let object = N::named(c"race", Create::IfMissing, options).unwrap();
                    object.segment().stat().unwrap();
                    std::mem::forget(object);
                })
            })
            .collect();
        words[0].store(round + 1, Relaxed);
        let object = N::named(c"race", Create::IfMissing, options).unwrap();
        object.use_once();
        assert_eq!(object.uses(), 1);
        for child in children {
            child.succeed();
        }
        assert_eq!(folder.entries(), ["race"]);
        object.unlink().unwrap();
    }
}

fn an_object_survives_its_creator<N: Noun>() {
    let folder = Folder::new();
    let options = N::with(&within(&folder));
    for _ in 0..2 {
        fork(|| {
            N::named(c"a", Create::IfMissing, &options)
                .unwrap()
                .use_once();
        })
        .succeed();
    }
    let opened = N::named(c"a", Create::Never, &options).unwrap();
    assert_eq!(opened.uses(), 2);
    opened.use_once();
}

fn named_opens_the_object_of_another_user_only_with_trust<N: Noun>() {
    if !can_change_user() {
        return;
    }
    let folder = Folder::new();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for (mode, trust) in [(0o666, false), (0o666, true), (0o600, true)] {
        let options = N::with(&FileOptions {
            mode: Some(mode),
            trust,
            ..within(&folder)
        });
        let created = N::named(c"a", Create::Always, &options).unwrap();
        fork(|| {
            become_unprivileged();
            let opened = N::named(c"a", Create::Never, &options);
            match (mode, trust) {
                (0o600, _) => drop(refused!(Permission, opened)),
                (_, false) => {
                    refused!(Untrusted, opened);
                    refused!(Untrusted, N::named(c"a", Create::IfMissing, &options));
                }
                (_, true) => drop(opened.unwrap()),
            }
        })
        .succeed();
        created.unlink().unwrap();
    }
}
