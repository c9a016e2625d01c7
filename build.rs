//! Makes the C header and the two pxds from src/capi, and gives the library its soname.
//!
//! They are written to OUT_DIR; tests/generated.rs compares them with what is checked in. `SHMKIT_BLESS=1 cargo build`
//! copies them into the tree instead.

use cbindgen::{Builder, Config, CythonConfig, DocumentationStyle, Language, Style};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files of the C ABI in the order in which the header has them.
const ORDER: &[&str] = &[
    "version",
    "status",
    "interrupt",
    "wait",
    "limits",
    "segment",
    "lock",
    "rlock",
    "rwlock",
    "semaphore",
    "condition",
    "event",
    "barrier",
    "once",
    "queue",
];

/// What the header says before anything else.
const PREFACE: &str = include_str!("src/capi/preface.h");

/// Long enough that every declaration stands on one line of a pxd.
const ONE_LINE: usize = 10_000;

fn source(root: &Path, noun: &str) -> PathBuf {
    root.join("src/capi").join(noun).with_extension("rs")
}

fn generate(root: &Path, config: Config) -> String {
    let builder = ORDER
        .iter()
        .fold(Builder::new().with_config(config), |builder, noun| {
            builder.with_src(source(root, noun))
        });
    let mut text = Vec::new();
    builder
        .generate()
        .expect("src/capi has declarations that cbindgen cannot read")
        .write(&mut text);
    String::from_utf8(text).expect("cbindgen writes UTF-8")
}

fn header(root: &Path) -> String {
    let text = generate(
        root,
        Config {
            language: Language::C,
            header: Some(PREFACE.trim_end().to_owned()),
            include_guard: Some("SHMKIT_H".to_owned()),
            includes: vec![],
            sys_includes: vec!["stdint.h".to_owned()],
            no_includes: true,
            cpp_compat: true,
            style: Style::Both,
            documentation_style: DocumentationStyle::Doxy,
            line_length: 100,
            ..Config::default()
        },
    );
    // rustdoc wants the heading; a C reader wants the sentence.
    let text = text.replace(" * # Safety\n * ", " * Required: ");
    let text = parenthesised(&short_comments(&text));
    // The types alone also stand in __init__.pxd: whichever comes second in a C file is skipped.
    let types = "#include <stdint.h>\n";
    let functions = "#ifdef __cplusplus\nextern \"C\" {";
    text.replacen(types, &format!("{types}\n{TYPES_GUARD}"), 1)
        .replacen(
            functions,
            &format!("#endif /* SHMKIT_TYPES */\n\n{functions}"),
            1,
        )
}

const TYPES_GUARD: &str = "#ifndef SHMKIT_TYPES\n#define SHMKIT_TYPES\n";

/// Puts negative constants into parentheses, as a macro should have them.
fn parenthesised(text: &str) -> String {
    let lines = text.lines().map(|line| {
        match line
            .strip_prefix("#define ")
            .and_then(|rest| rest.split_once(" -"))
        {
            Some((name, number)) => format!("#define {name} (-{number})\n"),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Writes comments of one line on one line.
fn short_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < lines.len() {
        let comment = match lines[at..] {
            [open, line, close, ..] if open.trim() == "/**" && close.trim() == "*/" => {
                line.trim().strip_prefix("* ")
            }
            _ => None,
        };
        match comment {
            Some(comment) => {
                let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
                out.push_str(&format!("{indent}/** {comment} */\n"));
                at += 3;
            }
            None => {
                out.push_str(&format!("{}\n", lines[at]));
                at += 1;
            }
        }
    }
    out
}

/// The linked way: `cdef extern from "shmkit.h"`.
fn extern_pxd(root: &Path) -> String {
    let text = generate(
        root,
        Config {
            language: Language::Cython,
            // Written verbatim between `cdef extern from` and the colon.
            cython: CythonConfig {
                header: Some("\"shmkit.h\" nogil".to_owned()),
                ..CythonConfig::default()
            },
            no_includes: true,
            style: Style::Type,
            documentation: false,
            line_length: ONE_LINE,
            ..Config::default()
        },
    );
    let lines = text
        .lines()
        .map(|line| line.trim_end().trim_end_matches(';'))
        .filter(|line| !line.is_empty());
    let text: String = lines
        .map(|line| format!("{}\n", line.replace("  ", "    ")))
        .collect();
    format!(
        "{GENERATED}# The C functions of libshmkit for extensions that link to it, with include dirs and libraries.\n\n\
         from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t\n\n{text}"
    )
}

const GENERATED: &str = "# Generated by build.rs from src/capi: do not edit.\n";

/// One function as the pxd declares it.
struct Function<'a> {
    result: &'a str,
    name: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Function<'a> {
    fn parse(line: &'a str) -> Option<Function<'a>> {
        let (head, arguments) = line.trim().strip_suffix(')')?.split_once('(')?;
        if head.starts_with("ctypedef") {
            return None;
        }
        let name = head.rsplit([' ', '*']).next()?;
        let arguments = if arguments.is_empty() {
            vec![]
        } else {
            arguments.split(", ").collect()
        };
        Some(Function {
            result: head.strip_suffix(name)?.trim_end(),
            name,
            arguments,
        })
    }

    fn declaration(&self) -> String {
        format!(
            "cdef {} {}({}) noexcept nogil",
            self.result,
            self.name,
            self.arguments.join(", ")
        )
    }

    /// The text by which Cython names this signature: the types alone, `const` behind what it is said of.
    fn signature(&self) -> String {
        let types: Vec<_> = self
            .arguments
            .iter()
            .map(|argument| canonical(without_name(argument)))
            .collect();
        let arguments = if types.is_empty() {
            "void".to_owned()
        } else {
            types.join(", ")
        };
        // A pointer's star stands where the blank would.
        let result = canonical(self.result);
        let blank = if result.ends_with('*') { "" } else { " " };
        format!("{result}{blank}({arguments})")
    }
}

fn without_name(argument: &str) -> &str {
    argument
        .rfind([' ', '*'])
        .map_or(argument, |end| argument[..=end].trim_end())
}

/// `const char *` and `const char*` as Cython writes them: `char const *`.
fn canonical(declared: &str) -> String {
    let stars = declared.matches('*').count();
    let base = declared.replace('*', "");
    let base = base.trim();
    let base = base
        .strip_prefix("const ")
        .map_or(base.to_owned(), |base| format!("{base} const"));
    if stars == 0 {
        base
    } else {
        format!("{base} {}", "*".repeat(stars))
    }
}

/// The way without linking: `cimport shmkit` alone, types from a C block, functions from `shmkit.__pyx_capi__`.
fn package_pxd(pxd: &str, header: &str) -> String {
    let (mut types, mut functions) = (String::new(), String::new());
    let mut lines = pxd
        .lines()
        .skip_while(|line| !line.starts_with("cdef extern from"));
    lines.next();
    for line in lines {
        match Function::parse(line) {
            Some(function) => functions.push_str(&format!("{}\n", function.declaration())),
            None => types.push_str(&format!("{}\n", line.trim_end())),
        }
    }
    let declarations = c_types(header);
    format!(
        "{GENERATED}# The C functions of libshmkit for any extension, without include dirs, libraries or rpath.\n\
         #\n\
         # The types are declared by the C code below; the functions are found in shmkit.__pyx_capi__ at import.\n\n\
         from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t\n\n\
         cdef extern from *:\n    \"\"\"\n{declarations}    \"\"\"\n\n\
         cdef extern from * nogil:\n{}\n\n{functions}",
        types.trim_end()
    )
}

/// The constants and types of the header, without its comments and functions.
fn c_types(header: &str) -> String {
    let mut text = String::from(
        "    #include <stdint.h>\n    #ifndef SHMKIT_TYPES\n    #define SHMKIT_TYPES\n",
    );
    let (mut in_comment, mut in_struct) = (false, false);
    for line in header.lines() {
        let trimmed = line.trim();
        in_comment |= trimmed.starts_with("/*");
        let keep = !in_comment
            && !trimmed.is_empty()
            && (in_struct
                || trimmed.starts_with("typedef")
                || trimmed.starts_with("#define SHMKIT_"))
            && !["#define SHMKIT_H", "#define SHMKIT_TYPES"].contains(&trimmed);
        if keep {
            in_struct |= trimmed.ends_with('{');
            in_struct &= !trimmed.starts_with('}');
            text.push_str(&format!("    {line}\n"));
        }
        in_comment &= !trimmed.ends_with("*/");
    }
    text + "    #endif\n"
}

/// What shmkit/_capsules.pyx is made of: each function with the text by which Cython asks for it.
fn capsule_table(pxd: &str) -> String {
    let mut text = format!(
        "{GENERATED}# The functions of shmkit/__init__.pxd and their signatures as Cython writes them.\n\n"
    );
    text.push_str("cdef list _TABLE = [\n");
    for function in pxd.lines().filter_map(Function::parse) {
        let Function { name, .. } = function;
        text.push_str(&format!(
            "    ({name:?}, b{:?}, <size_t> <void *> c.{name}),\n",
            function.signature()
        ));
    }
    text + "]\n"
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for noun in ORDER {
        println!("cargo:rerun-if-changed={}", source(&root, noun).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/capi/preface.h");
    println!("cargo:rerun-if-env-changed=SHMKIT_BLESS");
    // Programs built for one series run with all of it: while the major version is 0, each minor version begins another.
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
    let series = match part("MAJOR") {
        zero if zero == "0" => format!("0.{}", part("MINOR")),
        major => major,
    };
    let soname = format!("libshmkit.so.{series}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");

    let header = header(&root);
    let extern_pxd = extern_pxd(&root);
    let made = [
        ("include/shmkit.h", &header),
        ("cython/shmkit/libshmkit.pxd", &extern_pxd),
        (
            "cython/shmkit/__init__.pxd",
            &package_pxd(&extern_pxd, &header),
        ),
        ("cython/shmkit/_capsules.pxi", &capsule_table(&extern_pxd)),
    ];
    for (path, text) in made {
        let file = Path::new(path).file_name().expect("each is a file");
        fs::write(out.join(file), text).expect("OUT_DIR can be written");
        if env::var_os("SHMKIT_BLESS").is_some() {
            fs::write(root.join(path), text).expect("the tree can be written");
        }
    }
}
