"""What the documentation shows works: docstrings of Python and Cython, and every program in README.md."""

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from typing import NamedTuple

import pytest
import shmkit
from conftest import HUNG_COMPILER, ROOT


def public_objects():
    """Return every public object of the package by its dotted name: modules' names, their methods and properties."""
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


# A field of a tuple is explained by the docstring of its class.
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


# Exceptions take what Exception takes; Lease and Reservation are made by a queue.
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
        text += prose(shmkit.SharedMemory)  # what means the same everywhere is said once
    for parameter in parameters:
        assert re.search(rf"\b{parameter}\b", text), f"{name} does not say what {parameter!r} is"


EXAMPLES = {name: value for name, value in PUBLIC.items() if ">>>" in (inspect.getdoc(value) or "")}


def test_there_are_examples():
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


# --- README.md --------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block of a Markdown file."""

    section: str
    language: str
    line: int
    code: str


def blocks(markdown):
    """Return the fenced blocks of a text, each with the heading it stands under."""
    found, section, fence, start, code = [], "", None, 0, []
    for number, line in enumerate(markdown.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)\s*([\w,+-]*)", line)
        if fence is None and mark:
            fence, start, code = mark, number, []
        elif fence is not None and line.strip() == fence.group(1):
            found.append(Block(section, fence.group(2).lower(), start, textwrap.dedent("\n".join(code)) + "\n"))
            fence = None
        elif fence is not None:
            code.append(line)
        elif re.match(r"#+ ", line):
            section = line.lstrip("# ")
    return found


def test_the_extractor_itself():
    text = "# One\n```python\nx = 1\n```\ntext\n## Two\n  ```c\n  int y;\n\n  ```\n```\n# no heading\n```\n"
    assert blocks(text) == [
        Block("One", "python", 2, "x = 1\n"),
        Block("Two", "c", 7, "int y;\n\n"),
        Block("Two", "", 11, "# no heading\n"),
    ]


README = ROOT / "README.md"
BLOCKS = blocks(README.read_text()) if README.exists() else []
RUN = [block for block in BLOCKS if block.language in ("python", "ctypes", "cython", "c", "rust")]


def command(line, folder, **how):
    """Run a command in a folder and return what it printed; nothing may go to stderr."""
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=HUNG_COMPILER, check=False, **how)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done


def run_python(code, folder):
    """Run a Python program."""
    (folder / "example.py").write_text(code)
    return command([sys.executable, "example.py"], folder)


def run_cython(code, folder):
    """Build a Cython module with nothing but Extension(name, [source]), and import it."""
    pytest.importorskip("Cython")
    (folder / "example.pyx").write_text(code)
    (folder / "setup.py").write_text(
        "from Cython.Build import cythonize\n"
        "from setuptools import Extension, setup\n"
        "setup(name='example', ext_modules=cythonize([Extension('example', ['example.pyx'])], language_level=3))\n"
    )
    quick = dict(os.environ, CFLAGS="-O0")
    command([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], folder, env=quick)
    return command([sys.executable, "-c", "import example"], folder)


def run_c(code, folder):
    """Compile and run a C program with the header and the library of the installed package."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("NOT TESTED without a C compiler: C in README.md")
    (folder / "example.c").write_text(code)
    library = shmkit.get_library_dir()
    how = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{shmkit.get_include()}"]
    link = [f"-L{library}", f"-Wl,-rpath,{library}", "-lshmkit"]
    command([compiler, *how, "-o", "example", "example.c", *link], folder)
    return command(["./example"], folder)


def run_rust(code, folder):
    """Compile and run a Rust program with the library as `cargo build --release` makes it."""
    if shutil.which("cargo") is None or shutil.which("rustc") is None:
        pytest.skip("NOT TESTED without cargo and rustc: Rust in README.md")
    command(["cargo", "build", "--quiet", "--release", "--locked", "--lib"], ROOT)
    release = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    (folder / "example.rs").write_text(code)
    find = [f"--extern=shmkit={release}/libshmkit.rlib", f"-Ldependency={release}/deps"]
    command(["rustc", "--edition=2024", *find, "example.rs"], folder)
    return command(["./example"], folder)


RUNNERS = {"python": run_python, "ctypes": run_python, "cython": run_cython, "c": run_c, "rust": run_rust}


@pytest.mark.skipif(not BLOCKS, reason="NOT TESTED: there is no README.md here")
def test_the_readme_has_each_language():
    assert {block.language for block in RUN if "ten lines" in block.section} == {"python", "cython", "c", "rust"}
    assert any("ctypes.CDLL" in block.code for block in RUN)


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"line {block.line} {block.language}")
def test_the_readme_runs_as_printed(block, tmp_path, default_directory):
    """Each program prints the answer and leaves nothing; /dev/shm is where a reader's would stand."""
    before = set(os.listdir("/dev/shm"))
    done = RUNNERS[block.language](block.code, tmp_path)
    assert done.stderr == ""
    if "ten lines" in block.section:
        assert float(done.stdout) == 499500
    left = set(os.listdir("/dev/shm")) - before
    named = {name for name in left if name in block.code}
    for name in named:
        os.unlink("/dev/shm/" + name)
    assert named == set()
