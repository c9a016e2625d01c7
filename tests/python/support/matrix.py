"""Tests shmkit with every CPython from 3.9 to 3.13 and every Cython from 3.0 to 3.3: `make test-matrix`.

Each interpreter gets a virtual environment with the newest Cython, the package and pytest. Each Cython then builds the
packages in downstream/ and runs their tests (`pytest -m cython`) twice: against a shmkit that the newest Cython built,
and against a shmkit that it built itself. The table lists what could not be tested. All files are below target/matrix.

Options: --python 3.9 and --cython 3.0 choose a version (repeatable; `none` chooses no version). --keep uses the
existing virtual environments.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "matrix"
# The files that the package is built from and tested with. They are copied, so that no build uses files of another.
SOURCES = [
    *("Cargo.toml", "Cargo.lock", "build.rs", "src", "include", "cython"),
    *("setup.py", "pyproject.toml", "LICENSE-APACHE", "LICENSE-MIT"),
]
BESIDE = [".gitignore", "README.md", "examples", "tests/python", "tests/assets"]
PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]
CYTHONS = ["3.0", "3.1", "3.2", "3.3"]
# Packages that the tests require. Tests that need another package skip if it is missing.
NEEDED = ["pytest", "pytest-timeout", "pytest-xdist", "psutil"]
WANTED = ["numpy", "hypothesis", "mypy"]
# As in the Makefile.
SIDE_BY_SIDE = ["-n", "3", "--dist", "loadfile"]


class Row(NamedTuple):
    """A line of the table."""

    what: str
    result: str
    seconds: float
    detail: str


class Failed(Exception):  # noqa: N818
    """A step failed; its output has been printed."""


def show_progress(text):
    """Print a line of progress at once."""
    print(f"-- {text}", flush=True)


def run(line, log, cwd=None, env=None, show=False):
    """Run a command, write its output to the log, print it with `show`, and return it."""
    log.write(f"$ {' '.join(map(str, line))}\n")
    log.flush()
    lines = []
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen([str(word) for word in line], cwd=cwd, env=env, **pipe) as process:
        for text in process.stdout:
            lines.append(text)
            log.write(text)
            if show:
                print("   " + text, end="", flush=True)
    log.flush()
    if process.returncode != 0:
        if not show:
            print("".join("   " + text for text in lines[-30:]), flush=True)
        raise Failed(f"{pathlib.Path(str(line[0])).name} ended with {process.returncode}")
    return "".join(lines)


def version_of(python):
    """Return the version of an interpreter as "3.9.18", or None if it is no working CPython."""
    code = "import platform, sys; print(platform.python_implementation(), '%d.%d.%d' % sys.version_info[:3])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    kind, _, version = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and kind == "CPython" else None


def has_headers(python):
    """Return whether an interpreter can build extension modules and create virtual environments."""
    code = "import ensurepip, os, sysconfig, venv; assert os.path.exists(sysconfig.get_path('include') + '/Python.h')"
    return subprocess.run([python, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def interpreters(wanted):
    """Return an interpreter for each wanted version, or None: the newest one of pyenv, else the one on PATH."""
    found = {}
    for version in wanted:
        candidates = []
        pyenv = os.environ.get("PYENV_ROOT")
        if pyenv:
            folders = pathlib.Path(pyenv, "versions").glob(f"{version}.*")
            candidates += sorted(folders, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.name)])[::-1]
            candidates = [folder / "bin" / f"python{version}" for folder in candidates]
        candidates.append(shutil.which(f"python{version}"))
        works = [
            str(python)
            for python in candidates
            if python and (version_of(str(python)) or "").startswith(version + ".") and has_headers(str(python))
        ]
        found[version] = works[0] if works else None
    return found


def copy_sources():
    """Return a folder that contains only the sources."""
    source = WORK / "source"
    shutil.rmtree(source, ignore_errors=True)
    for name in SOURCES + BESIDE:
        original, copy = ROOT / name, source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        elif original.exists():
            shutil.copy(original, copy)
    return source


class Environment:
    """A virtual environment and the log of its commands."""

    def __init__(self, name, python, log, keep):
        self.folder, self.log = WORK / name, log
        self.python = self.folder / "bin/python"
        if not (keep and self.python.exists()):
            shutil.rmtree(self.folder, ignore_errors=True)
            run([python, "-m", "venv", self.folder], log)
        self.pip("--upgrade", "pip", "setuptools>=77", "wheel")

    def pip(self, *what):
        """Install packages."""
        run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what], self.log)

    def version(self, package):
        """Return the version of an installed package."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return run([self.python, "-c", code], self.log).strip()

    def install_shmkit(self, source):
        """Build shmkit from scratch with the installed Cython, and install it."""
        shutil.rmtree(source / "target", ignore_errors=True)
        environment = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "cargo"))
        build = ["--no-build-isolation", "--no-deps", "--force-reinstall", source]
        run([self.python, "-m", "pip", "install", "--quiet", *build], self.log, env=environment)

    def pytest(self, source, *arguments):
        """Run tests of the copied sources, print their progress, and return the last line."""
        environment = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "cargo"))
        line = [self.python, "-m", "pytest", "-p", "no:cacheprovider", *SIDE_BY_SIDE, *arguments]
        return run(line, self.log, cwd=source, env=environment, show=True).strip().splitlines()[-1]


def try_python(environment, source):
    """Test everything with one interpreter and the newest Cython."""
    environment.pip("--upgrade", "Cython", *NEEDED)
    lacking = []
    for package in WANTED:
        try:
            environment.pip("--prefer-binary", package)
        except Failed:
            lacking.append(package)
    environment.install_shmkit(source)
    last = environment.pytest(source, "tests/python")
    return f"Cython {environment.version('Cython')}: {last}" + (f" (without {', '.join(lacking)})" if lacking else "")


def try_cython(environment, source, version, newest):
    """Test the downstream packages with one Cython, against a shmkit built by the newest Cython and by the same one."""
    environment.pip(*NEEDED, "numpy", "hypothesis")
    detail = []
    for builder in ("newest", "same"):
        wanted = newest if builder == "newest" else f"Cython=={version}.*"
        environment.pip("--upgrade", wanted)
        built_by = environment.version("Cython")
        environment.install_shmkit(source)
        environment.pip("--upgrade", f"Cython=={version}.*")
        used = environment.version("Cython")
        last = environment.pytest(source, "-m", "cython", "tests/python")
        detail.append(f"{used} on a shmkit by {built_by}: {last}")
    return "; ".join(detail)


def attempt(what, python, keep, work):
    """Run one line of the table."""
    show_progress(what)
    began = time.monotonic()
    name = re.sub(r"[^\w.]+", "-", what)
    with open(WORK / f"{name}.log", "w") as log:
        try:
            detail, result = work(Environment(name, python, log, keep)), "passed"
        except Failed as error:
            detail, result = f"{error}: see {log.name}", "FAILED"
    show_progress(f"{what}: {result}")
    return Row(what, result, time.monotonic() - began, detail)


def main():
    """Run the matrix and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", metavar="VERSION")
    parser.add_argument("--cython", action="append", metavar="VERSION")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    pythons = [version for version in options.python or PYTHONS if version != "none"]
    cythons = [version for version in options.cython or CYTHONS if version != "none"]
    WORK.mkdir(parents=True, exist_ok=True)
    source = copy_sources()
    rows = []
    for version, python in interpreters(pythons).items():
        what = f"CPython {version}"
        if python is None:
            rows.append(Row(what, "not found", 0, "no interpreter with headers on PATH, nor below PYENV_ROOT/versions"))
            show_progress(f"{what}: not found")
            continue
        row = attempt(what, python, options.keep, lambda environment: try_python(environment, source))
        rows.append(row._replace(what=f"CPython {version_of(python)}"))
    for version in cythons:

        def work(environment, version=version):
            return try_cython(environment, source, version, "Cython")

        rows.append(attempt(f"Cython {version}", sys.executable, options.keep, work))
    width = max(len(row.what) for row in rows)
    print()
    for row in rows:
        print(f"{row.what:{width}}  {row.result:9}  {row.seconds:5.0f} s  {row.detail}")
    if any(row.result == "FAILED" for row in rows) or all(row.result == "not found" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
