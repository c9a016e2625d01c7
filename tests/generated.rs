//! What is generated and checked in is what the sources say now; what is frozen has not moved.
//!
//! | checked in                                  | compared with                              | renewed by            |
//! |---------------------------------------------|--------------------------------------------|-----------------------|
//! | the header, the pxds and the capsule table  | what build.rs has just made of src/capi    | `make bless`          |
//! | tests/abi/symbols.txt                       | the symbols that the library exports       | `make bless`          |
//! | tests/abi/layout.txt                        | sizes and offsets of all shared structs    | `make bless`          |
//!
//! `make bless` sets SHMKIT_BLESS. Look at the difference first: a line of tests/abi that changes or goes breaks programs.

use shmkit::capi::barrier::{shmkit_barrier_info, shmkit_barrier_options};
use shmkit::capi::condition::{shmkit_condition_info, shmkit_condition_options};
use shmkit::capi::event::shmkit_event_info;
use shmkit::capi::limits::shmkit_limits_info;
use shmkit::capi::lock::shmkit_lock_info;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::once::shmkit_once_info;
use shmkit::capi::queue::{shmkit_queue_info, shmkit_queue_message, shmkit_queue_options};
use shmkit::capi::rwlock::{shmkit_rwlock_info, shmkit_rwlock_options};
use shmkit::capi::segment::{shmkit_segment_info, shmkit_segment_options};
use shmkit::capi::semaphore::{shmkit_semaphore_info, shmkit_semaphore_options};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a file of the tree with what it should be, or renews it where the caller asks for that.
#[track_caller]
fn compare(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("SHMKIT_BLESS").is_some() {
        std::fs::write(&file, expected).expect("the tree can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found == expected {
        return;
    }
    let mut lines = found.lines().zip(expected.lines()).enumerate();
    let differs = lines.find(|(_, (found, expected))| found != expected);
    let (at, found, expected) = match differs {
        Some((at, (found, expected))) => (at + 1, found, expected),
        None => (
            found.lines().count().min(expected.lines().count()) + 1,
            "(another end)",
            "(another end)",
        ),
    };
    panic!(
        "{path}:{at} is not what the sources say; if they are right: make bless\n is:     {found}\n should: {expected}"
    );
}

#[test]
fn the_header_and_the_pxds_are_what_the_sources_say() {
    let mut files = vec![
        "include/shmkit.h".to_owned(),
        "cython/shmkit/libshmkit.pxd".to_owned(),
        "cython/shmkit/__init__.pxd".to_owned(),
    ];
    for entry in std::fs::read_dir(root().join("cython/shmkit")).expect("the package") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        if name.ends_with(".pxi") {
            files.push(format!("cython/shmkit/{name}"));
        }
    }
    assert!(files.len() > 8, "{files:?}");
    for path in &files {
        let name = Path::new(path).file_name().expect("a file");
        let made = read(&Path::new(env!("OUT_DIR")).join(name));
        assert!(
            made.len() > 500,
            "{path}: build.rs has made next to nothing:\n{made}"
        );
        compare(path, &made);
    }
}

#[test]
fn no_line_of_the_header_is_longer_than_100_columns() {
    let header = read(&root().join("include/shmkit.h"));
    let long: Vec<_> = header.lines().filter(|line| line.len() > 100).collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Returns the library to look at: SHMKIT_LIBRARY, or the one that was built together with this test.
fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("SHMKIT_LIBRARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test binary has a path");
    test.with_file_name("libshmkit.so")
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let library = library();
    let output = Command::new(program).args(arguments).arg(&library).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (of binutils): {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {complaint}",
        library.display()
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_library_exports_what_is_written_down_and_nothing_else() {
    let told = output_of("nm", &["-D", "--defined-only"]);
    let mut symbols: Vec<_> = told
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words[1], "T", "{line}: only functions are exported");
            words[2].to_owned() + "\n"
        })
        .collect();
    symbols.sort();
    assert!(symbols.len() > 20, "{symbols:?}");
    compare("tests/abi/symbols.txt", &symbols.concat());
    let header = read(&root().join("include/shmkit.h"));
    for symbol in symbols.iter().map(|symbol| symbol.trim_end()) {
        assert!(symbol.starts_with("shmkit_"), "{symbol} is no name of ours");
        assert!(
            header.contains(&format!("{symbol}(")),
            "{symbol} is not in the header"
        );
    }
}

#[test]
fn the_soname_changes_with_each_version_that_breaks_programs() {
    let told = output_of("readelf", &["--dynamic", "--wide"]);
    let soname = told
        .lines()
        .find(|line| line.contains("(SONAME)"))
        .expect("a soname");
    let version = env!("CARGO_PKG_VERSION");
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    let series: Vec<_> = version.split('.').take(parts).collect();
    let expected = format!("[libshmkit.so.{}]", series.join("."));
    assert!(soname.ends_with(&expected), "{soname}");
}

/// Writes the size, the alignment and the offsets of a struct.
macro_rules! layout {
    ($text:ident, $structure:ident: $($field:ident)+) => {{
        let (size, alignment) = (size_of::<$structure>(), align_of::<$structure>());
        writeln!($text, "{} size {size} alignment {alignment}", stringify!($structure)).expect("a String");
        $(
            let offset = std::mem::offset_of!($structure, $field);
            writeln!($text, "    {offset:3} {}", stringify!($field)).expect("a String");
        )+
        // All fields must be named above: the compiler refuses a pattern that leaves one out.
        #[allow(unused_variables, reason = "only the names matter")]
        let complete = |value: $structure| {
            let $structure { $($field),+ } = value;
        };
    }};
}

#[test]
fn shared_structs_lie_as_they_always_have() {
    let mut text = String::new();
    layout!(text, shmkit_segment_options: struct_size flags capacity mode participants directory);
    layout!(text, shmkit_segment_info:
        struct_size flags size capacity allocated device inode links user mode id control_bytes participants reserved);
    layout!(text, shmkit_limits_info:
        struct_size flags largest_named largest_anonymous directory_total directory_free memory_total memory_available
        swap_total swap_free cgroup_limit cgroup_free commit_free file_size_limit locked_memory_limit
        address_space_limit open_files_limit page_size huge_page_size overcommit_policy reserved);
    layout!(text, shmkit_object_options: struct_size flags mode participants directory);
    layout!(text, shmkit_lock_info:
        struct_size flags acquisitions contended recoveries contended_since owner_ticket owner_namespace offset owner_pid
        reserved);
    layout!(text, shmkit_semaphore_options:
        struct_size flags mode participants directory value maximum processes reserved);
    layout!(text, shmkit_semaphore_info:
        struct_size flags value maximum waits recoveries holders offset processes reserved);
    layout!(text, shmkit_rwlock_options: struct_size flags mode participants directory readers reserved);
    layout!(text, shmkit_rwlock_info:
        struct_size flags writes contended recoveries contended_since owner_ticket owner_namespace offset readers owner_pid
        reading_processes max_readers reserved);
    layout!(text, shmkit_event_info: struct_size flags sets waits offset);
    layout!(text, shmkit_barrier_options: struct_size flags mode participants directory parties reserved);
    layout!(text, shmkit_barrier_info: struct_size flags parties waiting turns breaks deaths offset);
    layout!(text, shmkit_condition_options: struct_size flags mode participants directory cells reserved);
    layout!(text, shmkit_condition_info:
        struct_size flags cells waiting waits notified timeouts recoveries offset);
    layout!(text, shmkit_once_info:
        struct_size flags attempts recoveries waits owner_ticket owner_namespace offset owner_pid reserved);
    layout!(text, shmkit_queue_options:
        struct_size flags mode participants directory capacity maxsize max_bytes);
    layout!(text, shmkit_queue_message: data size);
    layout!(text, shmkit_queue_info:
        struct_size flags messages bytes reserved leased puts gets overwritten skipped redelivered get_waits put_waits
        memory capacity maxsize max_bytes largest offset held_up_by_ticket held_up_by_namespace held_up_by_pid unused);
    compare("tests/abi/layout.txt", &text);
    let header = read(&root().join("include/shmkit.h"));
    let structs = header
        .lines()
        .filter_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"));
    for structure in structs {
        assert!(
            text.contains(&format!("{structure} size")),
            "{structure} is not looked at here"
        );
    }
}

#[test]
fn the_c_suite_has_a_row_for_each_noun_that_is_placed() {
    let header = read(&root().join("include/shmkit.h"));
    let rows = read(&root().join("tests/c/nouns.h"));
    let mut placed: Vec<_> = header
        .lines()
        .filter_map(|line| {
            line.strip_prefix("shmkit_status shmkit_")?
                .split_once("_create_at(")
        })
        .map(|(noun, _)| noun)
        .collect();
    let mut tested: Vec<_> = rows
        .lines()
        .filter_map(|line| line.strip_prefix("OBJECT(")?.split_once(','))
        .map(|(noun, _)| noun)
        .collect();
    placed.sort_unstable();
    tested.sort_unstable();
    assert!(placed.contains(&"lock"), "{placed:?}");
    assert_eq!(
        tested, placed,
        "the rows of tests/c/nouns.h and the nouns of include/shmkit.h"
    );
}
