//! Generates files from src/capi: the C header, the two pxds, and the tables and guards of the Cython modules. It also
//! gives the library its soname.
//!
//! The life cycle that all objects share is written once, in src/capi/object.rs.in, and expanded here for each line of
//! src/capi/objects.txt. Everything is written to OUT_DIR; tests/generated.rs compares it with what is checked in.
//! `SHMKIT_BLESS=1 cargo build` copies it into the tree instead.

use cbindgen::{Builder, Config, CythonConfig, DocumentationStyle, Language, Style};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The files of the C ABI that belong to no object, in the order of the header. The objects follow them.
const GENERAL: &[&str] = &[
    "status",
    "version",
    "interrupt",
    "wait",
    "limits",
    "segment",
    "object",
];

/// The objects, one a line.
const OBJECTS: &str = include_str!("src/capi/objects.txt");

/// The life cycle functions of one object; @noun@, @Type@, @options@ and @a@ are replaced.
const LIFE_CYCLE: &str = include_str!("src/capi/object.rs.in");

/// The first comment of the header.
const PREFACE: &str = include_str!("src/capi/preface.h");

/// Long enough to keep every declaration in one line of a pxd.
const ONE_LINE: usize = 10_000;

/// A line of src/capi/objects.txt.
struct Object {
    noun: &'static str,
    rust_type: &'static str,
    options: &'static str,
    prose: String,
}

fn objects() -> Vec<Object> {
    let lines = OBJECTS.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || {
                words
                    .next()
                    .unwrap_or_else(|| panic!("objects.txt: {line:?}"))
            };
            let (noun, rust_type, options) = (word(), word(), word());
            let prose: Vec<_> = words.collect();
            Object {
                noun,
                rust_type,
                options,
                prose: prose.join(" "),
            }
        })
        .collect()
}

/// The path of a noun's expanded life cycle, which src/capi/<noun>.rs includes.
fn life_cycle(out: &Path, noun: &str) -> PathBuf {
    out.join(format!("object_{noun}.rs"))
}

/// Adds the declarations of a section of the C ABI.
fn with_section(builder: Builder, root: &Path, out: &Path, section: &str) -> Builder {
    let expanded = life_cycle(out, section);
    let builder = match expanded.exists() {
        true => builder.with_src(expanded),
        false => builder,
    };
    builder.with_src(root.join("src/capi").join(section).with_extension("rs"))
}

fn generate(builder: Builder) -> String {
    let mut text = Vec::new();
    builder
        .generate()
        .expect("src/capi has declarations that cbindgen cannot read")
        .write(&mut text);
    String::from_utf8(text).expect("cbindgen writes UTF-8")
}

/// The header: the preface, a table of contents, and a section for each file of src/capi.
fn header(root: &Path, out: &Path, sections: &[&str]) -> String {
    let (mut contents, mut body) = (String::new(), String::new());
    for section in sections {
        let path = root.join("src/capi").join(section).with_extension("rs");
        let source = fs::read_to_string(path).expect("a section is a file");
        let intro = introduction(&source);
        let title = intro.split([':', '.']).next().unwrap_or_default();
        let config = Config {
            language: Language::C,
            no_includes: true,
            style: Style::Both,
            documentation_style: DocumentationStyle::Doxy,
            line_length: COLUMNS,
            export: cbindgen::ExportConfig {
                include: vec!["shmkit_object_options".to_owned()],
                ..Default::default()
            },
            ..Config::default()
        };
        let builder = Builder::new().with_config(config);
        let text = generate(with_section(builder, root, out, section));
        let text = short_comments(&without_safety(&text));
        let text = in_hexadecimal(&parenthesised(&text), &source);
        contents.push_str(&format!(" *   {title}\n"));
        body.push_str(&banner(&intro));
        body.push_str(&guarded(&text));
    }
    let preface = PREFACE.trim_end().replace(" * @contents@\n", &contents);
    format!(
        "{preface}\n\n#ifndef SHMKIT_H\n#define SHMKIT_H\n\n#include <stdint.h>\n\n{OPEN_EXTERN_C}\n{body}\
         /* shmkit/__init__.pxd declares the types too: the second of the two is skipped. */\n\
         #define SHMKIT_TYPES\n\n{CLOSE_EXTERN_C}\n#endif /* SHMKIT_H */\n"
    )
}

const COLUMNS: usize = 100;
const OPEN_EXTERN_C: &str = "#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
const CLOSE_EXTERN_C: &str = "#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n";

/// The comment at the top of a source file, without the marks of its code blocks.
fn introduction(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("```")).collect();
    lines.join("\n")
}

/// The comment at the beginning of a section.
fn banner(intro: &str) -> String {
    let rule = "=".repeat(COLUMNS - 6);
    let lines: String = intro
        .lines()
        .map(|line| format!(" * {line}").trim_end().to_owned() + "\n")
        .collect();
    format!("/* {rule}\n{lines} * {rule} */\n\n")
}

/// Wraps the constants and types of a section in the guard that the header and __init__.pxd share.
fn guarded(text: &str) -> String {
    let is_function = |item: &&str| item.ends_with(");") && !item.contains("typedef");
    let (functions, types): (Vec<_>, Vec<_>) = text.trim().split("\n\n").partition(is_function);
    let mut guarded = String::new();
    if !types.is_empty() {
        let types = types.join("\n\n");
        guarded += &format!("#ifndef SHMKIT_TYPES\n\n{types}\n\n#endif /* SHMKIT_TYPES */\n\n");
    }
    for function in functions {
        // C programs use the typedefs.
        guarded += &format!("{}\n\n", function.replace("struct shmkit_", "shmkit_"));
    }
    guarded
}

/// Writes a constant in hexadecimal if the source does: flags.
fn in_hexadecimal(text: &str, source: &str) -> String {
    let flags: Vec<_> = source
        .lines()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("pub const ")?.split_once(": u32 = 0x")?;
            Some((name, value.strip_suffix(';')?))
        })
        .collect();
    let lines = text.lines().map(|line| {
        let define = line.strip_prefix("#define ");
        let name = define.and_then(|rest| rest.split(' ').next());
        match flags.iter().find(|(flag, _)| Some(*flag) == name) {
            Some((name, value)) => format!("#define {name} 0x{value}\n"),
            None => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Removes the `# Safety` sections: the preface has the same rules for all functions.
fn without_safety(text: &str) -> String {
    let mut safety = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        if line == " * # Safety" {
            safety = true;
            // Remove the empty line before it as well.
            kept.pop_if(|line| *line == " *");
        }
        safety &= line != " */" && line != " *";
        if !safety {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

/// Puts negative constants into parentheses, as macros need.
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

/// Writes a comment with one line of text on one line.
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

/// The pxd for modules that link to the library: `cdef extern from "shmkit.h"`.
fn extern_pxd(root: &Path, out: &Path, sections: &[&str]) -> String {
    let config = Config {
        language: Language::Cython,
        // Copied verbatim between `cdef extern from` and the colon.
        cython: CythonConfig {
            header: Some("\"shmkit.h\" nogil".to_owned()),
            ..CythonConfig::default()
        },
        no_includes: true,
        style: Style::Type,
        documentation: false,
        line_length: ONE_LINE,
        ..Config::default()
    };
    let builder = sections
        .iter()
        .fold(Builder::new().with_config(config), |builder, section| {
            with_section(builder, root, out, section)
        });
    let text = generate(builder);
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

/// The declaration of one function in a pxd.
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

    /// The name that Cython gives to this signature: the types alone, with `const` after the type.
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
        // A pointer's star replaces the blank.
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

/// The pxd for modules that do not link: types from a C block, functions from `shmkit.__pyx_capi__`.
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

/// The table of shmkit/_capsules.pyx: each function with its signature as Cython names it.
fn capsule_table(functions: &[Function]) -> String {
    let mut text = format!(
        "{GENERATED}# The functions of shmkit/__init__.pxd, and their signatures as Cython names them.\n\n"
    );
    text.push_str("cdef list _TABLE = [\n");
    for function in functions {
        let Function { name, .. } = function;
        text.push_str(&format!(
            "    ({name:?}, b{:?}, <size_t> <void *> c.{name}),\n",
            function.signature()
        ));
    }
    text + "]\n"
}

/// The table of shmkit/_object.pyx: the life cycle functions of each noun, and the size of its options.
fn call_table(objects: &[Object], functions: &[Function]) -> String {
    let mut text = format!(
        "{GENERATED}# The C functions of each noun's life cycle, and the size of its options.\n\n\
         cimport shmkit as c\n\ncdef Calls[{}] _CALLS\ncdef dict _INDEX = {{}}\n",
        objects.len()
    );
    for (index, Object { noun, options, .. }) in objects.iter().enumerate() {
        text += &format!("\n_INDEX[{noun:?}] = {index}\n");
        for (field, cast) in [
            ("create", "name_call"),
            ("open", "name_call"),
            ("open_or_create", "name_call"),
            ("create_at", "at_call"),
            ("open_at", "at_call"),
            ("open_fd", "open_fd_call"),
            ("fd", "fd_call"),
            ("segment", "segment_call"),
            ("close", "handle_call"),
        ] {
            text += &format!("_CALLS[{index}].{field} = <{cast}> c.shmkit_{noun}_{field}\n");
        }
        let built_in = format!("shmkit_segment_{noun}");
        let built_in = match functions.iter().any(|function| function.name == built_in) {
            true => format!("<built_in_call> c.{built_in}"),
            false => "NULL".to_owned(),
        };
        text += &format!(
            "_CALLS[{index}].built_in = {built_in}\n\
             _CALLS[{index}].options_size = sizeof(c.shmkit_{options}_options)\n"
        );
    }
    text
}

/// The methods of a noun for shmkit/<noun>.pyx: each one refuses a closed handle, or calls the C function.
fn guards(noun: &str, functions: &[Function]) -> String {
    let prefix = format!("shmkit_{noun}_");
    let mut text = format!(
        "{GENERATED}# The methods of a noun: each returns SHMKIT_ERR_CLOSED if it is closed, or calls the C function.\n\n\
         cimport shmkit as c\n\
         from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t\n\
         from shmkit._object cimport Object, begin_call, end_call\n"
    );
    for function in functions {
        let Some(verb) = function.name.strip_prefix(&prefix) else {
            continue;
        };
        if LIFE_CYCLE.contains(&format!("shmkit_@noun@_{verb}(")) {
            continue;
        }
        let handle = function.arguments[0];
        let declared: String = function.arguments[1..]
            .iter()
            .map(|argument| format!(", {}", qualified(argument)))
            .collect();
        let passed: String = function.arguments[1..]
            .iter()
            .map(|argument| format!(", {}", name_of(argument)))
            .collect();
        text += &format!(
            "\n\ncdef inline c.shmkit_status call_{verb}(Object self{declared}) noexcept nogil:\n    \
             cdef c.shmkit_status status = c.SHMKIT_ERR_CLOSED\n    \
             cdef void *handle = begin_call(self)\n    \
             if handle is not NULL:\n        \
             status = c.{}(<{}> handle{passed})\n    \
             end_call(self)\n    \
             return status\n",
            function.name,
            qualified(without_name(handle)),
        );
    }
    text
}

/// The name of a C type in Cython modules that use `cimport shmkit as c`.
fn qualified(declared: &str) -> String {
    declared.replace("shmkit_", "c.shmkit_")
}

fn name_of(argument: &str) -> &str {
    argument[without_name(argument).len()..].trim()
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let objects = objects();
    let mut sections = GENERAL.to_vec();
    sections.extend(objects.iter().map(|object| object.noun));
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-env-changed=SHMKIT_BLESS");
    // Programs built for one series run with every version of it: while the major version is 0, each minor version is a
    // series of its own.
    let part = |name: &str| env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
    let series = match part("MAJOR") {
        zero if zero == "0" => format!("0.{}", part("MINOR")),
        major => major,
    };
    let soname = format!("libshmkit.so.{series}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");

    for object in &objects {
        let expanded = LIFE_CYCLE
            .replace("@noun@", object.noun)
            .replace("@Type@", object.rust_type)
            .replace("@options@", object.options)
            .replace("@a@", &object.prose);
        fs::write(life_cycle(&out, object.noun), expanded).expect("OUT_DIR can be written");
    }
    let header = header(&root, &out, &sections);
    let extern_pxd = extern_pxd(&root, &out, &sections);
    let functions: Vec<_> = extern_pxd.lines().filter_map(Function::parse).collect();
    let mut made = vec![
        ("include/shmkit.h".to_owned(), header.clone()),
        ("cython/shmkit/libshmkit.pxd".to_owned(), extern_pxd.clone()),
        (
            "cython/shmkit/__init__.pxd".to_owned(),
            package_pxd(&extern_pxd, &header),
        ),
        (
            "cython/shmkit/_capsules.pxi".to_owned(),
            capsule_table(&functions),
        ),
        (
            "cython/shmkit/_calls.pxi".to_owned(),
            call_table(&objects, &functions),
        ),
    ];
    for Object { noun, .. } in &objects {
        let pyx = format!("cython/shmkit/{noun}.pyx");
        println!("cargo:rerun-if-changed={pyx}");
        let pyx = fs::read_to_string(root.join(pyx)).expect("each noun has a pyx");
        if pyx.contains(&format!("include \"{noun}.pxi\"")) {
            made.push((
                format!("cython/shmkit/{noun}.pxi"),
                guards(noun, &functions),
            ));
        }
    }
    for (path, text) in made {
        let file = Path::new(&path).file_name().expect("each is a file");
        fs::write(out.join(file), &text).expect("OUT_DIR can be written");
        if env::var_os("SHMKIT_BLESS").is_some() {
            fs::write(root.join(path), text).expect("the tree can be written");
        }
    }
}
