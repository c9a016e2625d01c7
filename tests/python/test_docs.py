"""The documentation works: the docstrings, and every code block and link of every Markdown file."""

import contextlib
import doctest
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys

import markdown
import pytest
import shmkit
from conftest import COMPILER_SECONDS, ROOT


def public_objects():
    """Return every public object of the package by its dotted name, with the methods and properties of classes."""
    found = {"shmkit": shmkit}
    for name in shmkit.__all__:
        value = getattr(shmkit, name)
        found[f"shmkit.{name}"] = value
        if inspect.isclass(value):
            own = [kind for kind in value.__mro__ if kind.__module__.startswith("shmkit")]
            for member, part in [item for kind in reversed(own) for item in vars(kind).items()]:
                if not member.startswith("_"):
                    found[f"shmkit.{name}.{member}"] = (
                        part if inspect.isdatadescriptor(part) else getattr(value, member)
                    )
    return found


PUBLIC = public_objects()
TUPLES = [kind for kind in vars(shmkit).values() if inspect.isclass(kind) and hasattr(kind, "_fields")]
FIELDS = {f"shmkit.{kind.__name__}.{field}" for kind in TUPLES for field in kind._fields}


def prose(value):
    """Return a docstring as help() shows it."""
    return inspect.getdoc(value) or ""


def test_the_collection_finds_methods_and_properties_of_extension_types():
    for name in ("", ".limits", ".SharedMemory", ".SharedMemory.view", ".SharedMemory.buf", ".SharedMemory.names"):
        assert f"shmkit{name}" in PUBLIC


# The docstring of a tuple class describes its fields.
@pytest.mark.parametrize("name", sorted(set(PUBLIC) - FIELDS))
def test_every_public_object_is_documented(name):
    text = prose(PUBLIC[name])
    assert len(text) > 20, f"{name} has no docstring"
    assert text.splitlines()[0].strip()
    assert text[0].isupper()


@pytest.mark.parametrize("kind", TUPLES)
def test_every_field_is_documented(kind):
    text = inspect.getdoc(kind)
    words = set(re.findall(r"\w+", text))
    families = {star[:-2] for star in re.findall(r"\w+_\*", text)} | {end[2:] for end in re.findall(r"\*_\w+", text)}
    for field in kind._fields:
        known = field in words or field.split("_")[0] in families or field.split("_")[-1] in families
        assert known or field == "line", field


# Classes whose constructors need no description: a queue creates each Lease and Reservation.
MADE = (tuple, Exception, shmkit.Lease, shmkit.Reservation)
CALLS = {
    name: value
    for name, value in PUBLIC.items()
    if callable(getattr(value, "__func__", value)) and not (inspect.isclass(value) and issubclass(value, MADE))
}


@pytest.mark.parametrize("name", CALLS)
def test_every_parameter_is_documented(name):
    value = CALLS[name]
    value = getattr(value, "__func__", value)
    parameters = [parameter for parameter in inspect.signature(value).parameters if parameter not in ("self", "cls")]
    if name == "shmkit.SharedMemory":
        assert len(parameters) == 18
    text = prose(value)
    if name.startswith("shmkit.SharedMemory."):
        text += prose(shmkit.SharedMemory)  # a parameter of several methods is described in the class
    for parameter in parameters:
        assert re.search(rf"\b{parameter}\b", text), f"{name} does not describe {parameter!r}"


EXAMPLES = {name: value for name, value in PUBLIC.items() if ">>>" in (inspect.getdoc(value) or "")}


def test_the_main_classes_have_examples():
    assert {"shmkit", "shmkit.limits", "shmkit.SharedMemory", "shmkit.SharedMemory.view"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_docstrings_run(name, default_directory):
    names = {key: getattr(shmkit, key) for key in shmkit.__all__}
    text = inspect.getdoc(EXAMPLES[name])
    examples = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert examples.examples
    report = []
    outcome = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert outcome.failed == 0, "".join(report)
    assert outcome.attempted == len(examples.examples)


# --- Markdown ---------------------------------------------------------------------------------------------------------

PATHS = {str(path.relative_to(ROOT)): path for path in markdown.tracked("*.md")}
PAGES = {name: markdown.read(path.read_text()) for name, path in PATHS.items()}


def all_units():
    """Return the units that are run, by the line of their first block, and the error of each wrong page."""
    found, wrong = {}, {}
    for name, page in PAGES.items():
        try:
            found.update({f"{name}:{unit.line}": unit for unit in markdown.units(page.blocks)})
        except ValueError as error:
            wrong[name] = str(error)
    return found, wrong


UNITS, WRONG_BLOCKS = all_units()
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
CHECKOUT = (ROOT / ".git").exists()
in_checkout = pytest.mark.skipif(not CHECKOUT, reason="NOT TESTED: a copy without all files of the tree")

TEXT = "\n".join(
    [
        *("# One", "", "```python", "x = 1", "```", "```text", "```", ""),
        *("## Two `words`, [linked](other.md#there)", "", '  ```c title="y.c"', "  int y;", "", "  ```", ""),
        *("```", "# no heading", "```", '```sh skip="a reason"', "true", "```"),
    ]
)


def test_the_reader_finds_blocks_headings_and_links():
    page = markdown.read(TEXT)
    assert page.blocks == [
        markdown.Block(1, 3, "python", "", "", "x = 1\n"),
        markdown.Block(1, 6, "text", "", "", "\n"),
        markdown.Block(2, 11, "c", "y.c", "", "int y;\n\n"),
        markdown.Block(2, 16, "", "", "", "# no heading\n"),
        markdown.Block(2, 19, "sh", "", "a reason", "true\n"),
    ]
    assert page.anchors == {"one", "two-words-linked"}
    assert page.links == [(9, "other.md#there")]


WRONG = {
    "an unknown language": ("```pythn\nx\n```", "'pythn' is none of"),
    "no language": ("```\nx\n```", "'' is none of"),
    "an output of nothing": ("```text\nx\n```", "precedes this output"),
    "an output of a block that is not run": ('```python skip="no"\nx\n```\n```text\nx\n```', "precedes this output"),
    "a script without files": ("```sh\nls\n```", "needs files with titles"),
    "a file without a script": ('```c title="x.c"\nx\n```', "no script runs"),
    "a file without a title": ("```toml\nx = 1\n```", "needs a title"),
    "an unknown attribute": ('```python skipp="no"\nx\n```', "the info string"),
    "an open block": ("```python\nx", "not closed"),
}


@pytest.mark.parametrize("text, message", WRONG.values(), ids=WRONG)
def test_a_block_that_cannot_be_run_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        markdown.units(markdown.read(text).blocks)


@pytest.mark.parametrize("name", PAGES)
def test_each_code_block_is_run_or_has_a_reason(name):
    assert WRONG_BLOCKS.get(name) is None


def test_outputs_are_compared_with_a_wildcard():
    assert markdown.matches("a 1\nb\n", "a 1 \nb\n")
    assert markdown.matches("process ... died\n", "process 4711 died\n")
    assert not markdown.matches("a\n", "a\nb\n")
    assert not markdown.matches("a\n", "b\n")


def test_make_targets_are_found():
    page = markdown.read("Run `make test-all` or\n```sh\nmake install PREFIX=/usr  # builds\nmake demo\n```\n")
    assert [name for _, name in markdown.make_targets(page)] == ["install", "demo", "test-all"]


def run(line, folder, **how):
    """Run a command in a folder, kill what it leaves running, and return its stdout and stderr."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **how
    ) as child:
        try:
            out, errors = child.communicate(timeout=COMPILER_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 0, f"{line}\n{out}\n{errors}"
    return out, errors


def need(*tools):
    """Skip the test if one of these tools is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"NOT TESTED without {tool}: a block of the documentation")


def run_python(code, folder):
    """Run a Python program."""
    (folder / "example.py").write_text(code)
    return run([sys.executable, "example.py"], folder)


def run_cython(code, folder):
    """Build a Cython module by Extension(name, [source]) alone, and import it."""
    pytest.importorskip("Cython")
    (folder / "example.pyx").write_text(code)
    (folder / "setup.py").write_text(
        "from Cython.Build import cythonize\n"
        "from setuptools import Extension, setup\n"
        "setup(name='example', ext_modules=cythonize([Extension('example', ['example.pyx'])], language_level=3))\n"
    )
    quick = dict(os.environ, CFLAGS="-O0")
    run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder, env=quick)
    return run([sys.executable, "-c", "import example"], folder)


def run_c(code, folder):
    """Compile and run a C program with the header and the library of the installed package."""
    compiler = os.environ.get("CC", "cc")
    need(compiler)
    (folder / "example.c").write_text(code)
    library = shmkit.get_library_dir()
    how = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{shmkit.get_include()}"]
    link = [f"-L{library}", f"-Wl,-rpath,{library}", "-lshmkit"]
    run([compiler, *how, "-o", "example", "example.c", *link], folder)
    return run(["./example"], folder)


@pytest.fixture(scope="session")
def release():
    """Return the folder of the library as `cargo build --release` makes it."""
    need("cargo", "rustc")
    run(["cargo", "build", "--quiet", "--release", "--locked", "--lib"], ROOT)
    return TARGET / "release"


def run_rust(code, folder, release):
    """Compile and run a Rust program with the library."""
    (folder / "example.rs").write_text(code)
    find = [f"--extern=shmkit={release}/libshmkit.rlib", f"-Ldependency={release}/deps"]
    run(["rustc", "--edition=2024", *find, "example.rs"], folder)
    return run(["./example"], folder)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Return the prefix of `make install`."""
    need("make", "cargo", "cc", "pkg-config")
    if not (ROOT / "Makefile").exists():
        pytest.skip("NOT TESTED without Makefile: a script of the documentation")
    prefix = tmp_path_factory.mktemp("installed")
    run(["make", "-s", "install-strip", f"PREFIX={prefix}", "LIBDIR=lib", "DESTDIR="], ROOT)
    return prefix


def run_script(code, folder, prefix):
    """Run a script with a checkout at `../shmkit` and with the files that `make install` has written to a prefix."""
    beside = folder.parent / "shmkit"
    if not beside.exists():
        beside.symlink_to(ROOT)
    python = folder.parent / "bin"
    python.mkdir(exist_ok=True)
    for name in ("python", "python3"):
        if not (python / name).exists():
            (python / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            (python / name).chmod(0o755)
    path = os.pathsep.join([str(python), os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = dict(
        os.environ,
        PATH=path,
        PKG_CONFIG_PATH=f"{prefix}/lib/pkgconfig",
        CMAKE_PREFIX_PATH=str(prefix),
        CFLAGS="-O0",
        # With these options Cargo uses the dependencies that are already built.
        CARGO_TARGET_DIR=str(TARGET),
        CARGO_PROFILE_RELEASE_DEBUG="line-tables-only",
        CARGO_NET_OFFLINE="true",
    )
    out, _ = run(["sh", "-euc", code], folder, env=environment)
    return out, ""


def project_folder(tmp_path, rust):
    """Return an empty folder. For Rust it is always the same folder, so that Cargo uses its earlier build."""
    folder = TARGET / "docs" / "project" if rust else tmp_path / "project"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", UNITS)
def test_the_code_blocks_run_as_printed(name, request, tmp_path):
    """Each program prints nothing to stderr. The fixture nothing_left checks that it leaves nothing."""
    unit = UNITS[name]
    rust = any(file.language == "rust" for file in unit.files)
    folder = project_folder(tmp_path, rust)
    for file in unit.files:
        path = folder / file.title
        path.parent.mkdir(parents=True, exist_ok=True)
        # With another path Cargo would build the package again.
        path.write_text(file.code.replace('"../shmkit"', f'"{ROOT}"'))
    for block, expected in unit.steps:
        if block.language == "rust":
            out, errors = run_rust(block.code, folder, request.getfixturevalue("release"))
        elif block.language == "sh":
            if rust:
                need("cargo")
            out, errors = run_script(block.code, folder, request.getfixturevalue("installed"))
        else:
            out, errors = {"python": run_python, "cython": run_cython, "c": run_c}[block.language](block.code, folder)
        assert errors == "", name
        if expected is not None:
            assert markdown.matches(expected.code, out), f"{name} prints\n{out}\nand not\n{expected.code}"


@in_checkout
def test_the_readme_links_to_a_page_for_each_language():
    pages = {target for _, target in PAGES["README.md"].links}
    assert {f"docs/getting-started/{name}.md" for name in ("python", "c", "cython", "ctypes", "rust")} <= pages


@in_checkout
@pytest.mark.parametrize("name", PAGES)
def test_the_make_targets_exist(name):
    rules = re.findall(r"^([\w-]+(?: [\w-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {target for rule in rules for target in rule.split()}
    assert [
        f"{name}:{line}: make {target}" for line, target in markdown.make_targets(PAGES[name]) if target not in known
    ] == []


def dead_links(name):
    """Return the relative links of a page whose target does not exist."""
    dead = []
    for line, target in PAGES[name].links:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PATHS[name].parent / path).resolve() if path else PATHS[name]
        if not file.exists():
            dead.append(f"{name}:{line}: {target} does not exist")
        elif anchor and file.suffix == ".md" and anchor not in PAGES[str(file.relative_to(ROOT))].anchors:
            dead.append(f"{name}:{line}: {target}: no such heading")
    return dead


@in_checkout
@pytest.mark.parametrize("name", PAGES)
def test_targets_of_relative_links_exist(name):
    assert dead_links(name) == []


@in_checkout
def test_cited_decisions_exist():
    known = re.findall(r"^### (D-\d+)", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)
    assert len(known) == len(set(known)) > 70
    unknown = []
    for path in markdown.tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            cited = set(re.findall(r"\bD-\d{3}\b", line)) - set(known)
            unknown += [f"{path.relative_to(ROOT)}:{number}: {decision}" for decision in cited]
    assert unknown == []
