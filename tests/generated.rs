//! The generated files in the tree match the sources, and the frozen ones have not changed.
//!
//! | file in the tree                            | compared with                              | renewed by            |
//! |---------------------------------------------|--------------------------------------------|-----------------------|
//! | the header, the pxds and the capsule table  | what build.rs has generated from src/capi   | `make bless`          |
//! | tests/abi/symbols.txt                       | the symbols that the library exports       | `make bless`          |
//! | tests/abi/layout.txt                        | sizes and offsets of all shared structs    | `make bless`          |
//!
//! `make bless` sets SHMKIT_BLESS. Check the difference first: a line of tests/abi that changes or is removed breaks
//! programs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a file of the tree with its expected text, or renews it if SHMKIT_BLESS is set.
#[track_caller]
fn compare(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("SHMKIT_BLESS").is_some() {
        // Another test reads the header meanwhile, so it must never find half a file.
        let half = file.with_extension("blessed");
        std::fs::write(&half, expected).expect("the tree can be written");
        std::fs::rename(&half, &file).expect("the tree can be written");
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
            "(end of file)",
            "(end of file)",
        ),
    };
    panic!(
        "{path}:{at} does not match the sources; if they are right, run make bless\n found:    {found}\n expected: {expected}"
    );
}

#[test]
fn the_generated_files_match_the_sources() {
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
            "{path}: build.rs has generated almost nothing:\n{made}"
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

/// Returns the path of the library: SHMKIT_LIBRARY, or the one that was built with this test.
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
fn the_library_exports_exactly_the_listed_symbols() {
    let output = output_of("nm", &["-D", "--defined-only"]);
    let mut symbols: Vec<_> = output
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
        assert!(
            symbol.starts_with("shmkit_"),
            "{symbol} has no shmkit_ prefix"
        );
        assert!(
            header.contains(&format!("{symbol}(")),
            "{symbol} is not in the header"
        );
    }
}

#[test]
fn the_soname_changes_with_each_version_that_breaks_programs() {
    let output = output_of("readelf", &["--dynamic", "--wide"]);
    let soname = output
        .lines()
        .find(|line| line.contains("(SONAME)"))
        .expect("a soname");
    let version = env!("CARGO_PKG_VERSION");
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    let series: Vec<_> = version.split('.').take(parts).collect();
    let expected = format!("[libshmkit.so.{}]", series.join("."));
    assert!(soname.ends_with(&expected), "{soname}");
}

/// Returns the size of a field's type in the C header, which is also its alignment.
fn size_of_field(declared: &str) -> usize {
    if declared.contains('*') {
        return size_of::<*const ()>();
    }
    match declared.split(' ').next() {
        Some("uint32_t" | "int32_t") => 4,
        Some("uint64_t" | "int64_t") => 8,
        _ => panic!("{declared}: the type is unknown"),
    }
}

/// Compares the structs of the header as a C compiler lays them out; the Rust ones are repr(C) and assert their sizes.
#[test]
fn the_layout_of_shared_structs_is_unchanged() {
    let header = read(&root().join("include/shmkit.h"));
    let mut text = String::new();
    for declared in header.split("typedef struct ").skip(1) {
        let Some((name, rest)) = declared.split_once(" {\n") else {
            continue;
        };
        if name.contains(';') {
            continue;
        }
        let (body, _) = rest.split_once('}').expect("a struct ends");
        let fields = body
            .lines()
            .map(str::trim)
            .filter_map(|line| line.strip_suffix(';'))
            .filter(|line| !line.starts_with('*'));
        let (mut offset, mut alignment, mut lines) = (0_usize, 1, String::new());
        for field in fields {
            let size = size_of_field(field);
            offset = offset.next_multiple_of(size);
            alignment = alignment.max(size);
            let field = field.rsplit([' ', '*']).next().expect("a name");
            writeln!(lines, "    {offset:3} {field}").expect("a String");
            offset += size;
        }
        let size = offset.next_multiple_of(alignment);
        writeln!(text, "{name} size {size} alignment {alignment}").expect("a String");
        text += &lines;
    }
    assert!(
        text.len() > 500,
        "the header has almost no structs:\n{text}"
    );
    compare("tests/abi/layout.txt", &text);
}

#[test]
fn the_c_suite_has_a_row_for_each_placed_noun() {
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
        "the rows of tests/c/nouns.h do not match the nouns of include/shmkit.h"
    );
}
