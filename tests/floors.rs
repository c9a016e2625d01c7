//! The rules of the sources: which module may import which, which may name the kernel, and how each file begins.
//!
//! The table of floors is at the top of src/lib.rs. Each rule is also tested with sources that break it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A source file: its path below the root of the package, and its text.
type Source = (String, String);

/// The crates that only `src/sys` may name.
const KERNEL: [&str; 3] = ["libc", "nix", "memmap2"];

/// The attributes of exported functions, which only `src/capi` may use.
const EXPORTS: [&str; 2] = ["no_mangle", "export_name"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(root()).expect("below the root");
                found.push((path.to_str().expect("UTF-8").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Returns the text without comments and without string literals.
fn code(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['/', '"']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') && !out.ends_with('\'') {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes
            });
            end.map_or(rest.len(), |end| end + 2)
        } else {
            out.push_str(&rest[..1]);
            1
        };
        rest = &rest[length..];
    }
    out + rest
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
}

/// Returns the modules after each `prefix`, alone or in braces: `crate::{name, sys::shm}` has two.
fn modules_after<'a>(code: &'a str, prefix: &'a str) -> Vec<&'a str> {
    let first_word = |text: &'a str| words(text).next();
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(first_word(rest));
            continue;
        };
        let (mut depth, mut from) = (1, 0);
        for (at, c) in group.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 || (depth == 1 && c == ',') {
                found.extend(first_word(&group[from..at]));
                from = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Reads the table at the top of src/lib.rs: ``| floor | `module`, `module` | … |``.
fn floors(lib: &str) -> BTreeMap<String, u32> {
    let mut table = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split(" | ");
        let (Some(floor), Some(modules)) = (cells.next(), cells.next()) else {
            continue;
        };
        if let Ok(floor) = floor.trim().parse() {
            let names = modules.split('`').skip(1).step_by(2);
            table.extend(names.map(|name| (name.to_owned(), floor)));
        }
    }
    table
}

/// Returns the module at the root that a file belongs to.
fn module_of(path: &str) -> &str {
    let below = path.strip_prefix("src/").expect("a path below src");
    below
        .split('/')
        .next()
        .unwrap_or(below)
        .trim_end_matches(".rs")
}

/// Returns the faults in the imports of these files.
fn complaints(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let lib = sources
        .iter()
        .find(|(path, _)| path == "src/lib.rs")
        .expect("src/lib.rs");
    let floors = floors(&lib.1);
    let mut modules = BTreeSet::new();
    for (path, text) in sources.iter().filter(|(path, _)| path != "src/lib.rs") {
        let (module, code) = (module_of(path), code(text));
        modules.insert(module.to_owned());
        let Some(&floor) = floors.get(module) else {
            found.push(format!("{path}: {module} has no floor in src/lib.rs"));
            continue;
        };
        for other in modules_after(&code, "crate::") {
            match floors.get(other) {
                Some(&lower) if lower < floor || other == module => {}
                Some(&other_floor) => found.push(format!(
                    "{path}: {module} (floor {floor}) imports {other} (floor {other_floor})"
                )),
                None => found.push(format!("{path}: imports {other}, which has no floor")),
            }
        }
        // Above a file at the root is the crate itself, so `super::` would bypass the table.
        let outside = match path.matches('/').count() {
            1 => modules_after(&code, "super::")
                .into_iter()
                .any(|word| floors.contains_key(word)),
            _ => code.contains("super::super"),
        };
        if outside {
            found.push(format!(
                "{path}: imports through super:: what crate:: should name"
            ));
        }
        let kernel = words(&code).find(|word| KERNEL.contains(word));
        if let Some(word) = kernel.filter(|_| module != "sys") {
            found.push(format!("{path}: names {word} outside src/sys"));
        }
        if words(&code).any(|word| EXPORTS.contains(&word)) && module != "capi" {
            found.push(format!("{path}: exports a C function outside src/capi"));
        }
    }
    let stale = floors.keys().filter(|module| !modules.contains(*module));
    found.extend(stale.map(|module| format!("src/lib.rs: {module} has a floor but no file")));
    found
}

#[test]
fn modules_import_only_from_lower_floors() {
    let found = complaints(&sources("src"));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_file_begins_with_a_description() {
    for folder in ["src", "tests"] {
        for (path, text) in sources(folder)
            .into_iter()
            .filter(|(path, _)| !path.contains("/fuzz/target/"))
        {
            let fuzz = path.starts_with("tests/fuzz/") && text.starts_with("#![no_main]");
            assert!(
                text.starts_with("//!") || fuzz,
                "{path} does not begin with //!"
            );
        }
    }
}

/// Returns the nouns of src/capi/objects.txt.
fn objects() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("src/capi/objects.txt")).expect("the list");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| words(line).next().expect("a noun").to_owned())
        .collect()
}

/// Returns the modules that a file declares.
fn declared(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(path)).expect(path);
    let lines = text.lines().map(|line| line.trim_start_matches("pub "));
    lines
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_root_of_the_sources_contains_only_floors() {
    let mut found: Vec<_> = std::fs::read_dir(root().join("src"))
        .expect("src")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_str().expect("UTF-8").to_owned())
        .collect();
    found.sort();
    let expected = [
        "capi",
        "error.rs",
        "layout.rs",
        "lib.rs",
        "object",
        "participant.rs",
        "raw",
        "segment",
        "sys",
    ];
    assert_eq!(found, expected);
}

#[test]
fn one_noun_has_one_name_on_every_floor() {
    let objects = objects();
    assert!(objects.len() > 5, "{objects:?}");
    let of_object = |noun: &String| {
        [
            format!("src/raw/{noun}.rs"),
            format!("src/object/{noun}.rs"),
        ]
    };
    let of_noun = |noun: &str| {
        [
            format!("src/capi/{noun}.rs"),
            format!("cython/shmkit/{noun}.pyx"),
            format!("cython/shmkit/{noun}.pxd"),
            format!("cython/shmkit/{noun}.pyi"),
            format!("tests/{noun}.rs"),
            format!("tests/c/test_{noun}.c"),
            format!("tests/python/test_{noun}.py"),
        ]
    };
    let expected = objects.iter().flat_map(of_object);
    let nouns = objects.iter().map(String::as_str).chain(["segment"]);
    let missing: Vec<_> = expected
        .chain(nouns.flat_map(of_noun))
        .filter(|path| !root().join(path).exists())
        .collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn every_floor_declares_the_objects_of_the_list_and_no_others() {
    let objects = objects();
    // These modules are shared by all objects, or belong to no object.
    let besides = [
        ("src/raw/mod.rs", "count_slot fairness model undo wait"),
        ("src/object/mod.rs", "arena"),
        (
            "src/capi/mod.rs",
            "handle interrupt limits mutex object segment status structure version wait",
        ),
    ];
    for (path, besides) in besides {
        let mut found = declared(path);
        found.retain(|module| !besides.split(' ').any(|other| other == module));
        let mut expected = objects.clone();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{path}");
    }
}

/// Returns the files below tests/fuzz/fuzz_targets that have no `[[bin]]` of their name in this manifest.
fn unlisted_fuzz_targets<'a>(manifest: &str, files: &[&'a str]) -> Vec<&'a str> {
    let listed = |file: &&&str| {
        let name = file.trim_end_matches(".rs");
        let entry = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{file}\"\n");
        manifest.contains(&entry)
    };
    files.iter().filter(|file| !listed(file)).copied().collect()
}

#[test]
fn every_fuzz_target_has_a_bin_in_the_manifest() {
    let manifest = std::fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).expect("UTF-8");
    let sources = sources("tests/fuzz/fuzz_targets");
    let files: Vec<_> = sources
        .iter()
        .map(|(path, _)| path.trim_start_matches("tests/fuzz/fuzz_targets/"))
        .collect();
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(unlisted_fuzz_targets(&manifest, &files), [""; 0]);
    assert_eq!(
        unlisted_fuzz_targets(&manifest, &["lock.rs", "fresh.rs"]),
        ["fresh.rs"]
    );
}

/// Returns the files of the project below these folders, and those at its top.
fn files(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if path.is_dir() {
                open.extend((name != "target" && name != "__pycache__").then(|| path.clone()));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    for name in ["Makefile", "build.rs", "setup.py", "pyproject.toml"] {
        let text = std::fs::read_to_string(root().join(name)).expect(name);
        found.push((name.to_owned(), text));
    }
    found
}

/// Returns the noun that a file lacks although it names all others.
fn lacking<'a>(text: &str, nouns: &[&'a str]) -> Option<&'a str> {
    let named: BTreeSet<String> = text
        .split(|c: char| !c.is_ascii_alphabetic())
        .map(|word| word.to_lowercase().trim_end_matches('s').to_owned())
        .collect();
    let lacking: Vec<_> = nouns
        .iter()
        .filter(|noun| !named.contains(**noun))
        .collect();
    match lacking[..] {
        [noun] => Some(noun),
        _ => None,
    }
}

/// A file that names every noun but one contains an incomplete list.
#[test]
fn a_file_that_lists_the_nouns_lists_all_of_them() {
    let objects = objects();
    // A text about a lock holds for a recursive one, so many files name only the first.
    let nouns: Vec<_> = objects
        .iter()
        .map(String::as_str)
        .filter(|noun| *noun != "rlock")
        .collect();
    // This file names only some classes; tests/python/support/waits.py lists them all.
    let in_passing = "tests/python/test_object_waits.py";
    let found: Vec<_> = files(&["src", "cython", "tests", "benches", "include"])
        .into_iter()
        .filter(|(path, _)| path != in_passing)
        .filter_map(|(path, text)| Some(format!("{path} lacks {}", lacking(&text, &nouns)?)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(
        lacking("Lock Event QUEUES", &["lock", "event", "queue"]),
        None
    );
    assert_eq!(
        lacking("locks, event", &["lock", "event", "queue"]),
        Some("queue")
    );
}

/// Returns the faults of invented files next to a small table.
fn complaints_about(files: &[(&str, &str)]) -> Vec<String> {
    let table = "//! | 0 | [`error`] | x |\n//! | 1 | `sys` | x |\n//! | 2 | `low`, `also_low` | x |\n//! | 8 | [`capi`] | x |\n";
    let fixed = [
        "error.rs",
        "sys/mod.rs",
        "low.rs",
        "also_low.rs",
        "capi/mod.rs",
    ];
    let mut sources = vec![("src/lib.rs".to_owned(), table.to_owned())];
    sources.extend(fixed.map(|file| (format!("src/{file}"), String::new())));
    sources.extend(
        files
            .iter()
            .map(|(path, text)| (format!("src/{path}"), (*text).to_owned())),
    );
    complaints(&sources)
}

#[test]
fn the_rules_accept_valid_sources() {
    let right = [
        (
            "low.rs",
            "use crate::error::{Error, Result};\nuse crate::sys::{self, shm};\nuse std::fs;",
        ),
        (
            "low.rs",
            "// crate::capi, libc::open\n/* nix */ fn f() { say(\"crate::capi libc no_mangle\") }",
        ),
        (
            "low.rs",
            "mod tests { use super::*; fn f() { '\"'; crate::low::f() } }",
        ),
        (
            "sys/shm.rs",
            "use super::refused;\nuse nix::errno::Errno;\nextern \"C\" fn handler() {}",
        ),
        (
            "capi/noun.rs",
            "use super::run;\nuse crate::{error::{Error, Result}, low, also_low};\n#[unsafe(no_mangle)] fn f() {}",
        ),
    ];
    for file in right {
        assert_eq!(complaints_about(&[file]), [""; 0], "{file:?}");
    }
}

#[test]
fn the_rules_report_each_fault() {
    let wrong = [
        (
            "low.rs",
            "use crate::capi::run;",
            "low (floor 2) imports capi (floor 8)",
        ),
        (
            "low.rs",
            "fn f() { crate::also_low::g() }",
            "imports also_low (floor 2)",
        ),
        (
            "error.rs",
            "use crate::{sys::{a, b}, error};",
            "error (floor 0) imports sys (floor 1)",
        ),
        ("sys/shm.rs", "use crate::low;", "sys (floor 1) imports low"),
        ("low.rs", "use super::also_low::g;", "super::"),
        ("capi/noun.rs", "use super::super::low;", "super::"),
        ("low.rs", "use crate::unheard_of;", "has no floor"),
        ("fresh.rs", "", "fresh has no floor"),
        (
            "low.rs",
            "let fd = libc::open(path);",
            "names libc outside src/sys",
        ),
        ("low.rs", "use nix::unistd;", "names nix outside src/sys"),
        (
            "capi/noun.rs",
            "use memmap2 as m;",
            "names memmap2 outside src/sys",
        ),
        (
            "low.rs",
            "let q = '\"'; use libc; let q = '\"';",
            "names libc outside src/sys",
        ),
        (
            "low.rs",
            "#[unsafe(no_mangle)]\npub extern \"C\" fn f() {}",
            "exports a C function",
        ),
    ];
    for (path, text, expected) in wrong {
        let found = complaints_about(&[(path, text)]);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].contains(expected), "{text:?}: {found:?}");
    }
    let lib = ("src/lib.rs".to_owned(), "//! | 0 | `gone` | x |".to_owned());
    assert_eq!(
        complaints(&[lib]),
        ["src/lib.rs: gone has a floor but no file"]
    );
}
