"""Builds the Rust library and the Cython modules around it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import Cython
from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = pathlib.Path(__file__).resolve().parent
PACKAGE = ROOT / "cython" / "shmkit"
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
# As in build.rs: while the major version is 0, each minor version has a soname of its own.
SONAME = "libshmkit.so." + re.match(r"0\.\d+|\d+", VERSION)[0]
# The directory for temporary files of distutils and Cython.
WORK = ROOT / "target" / "python"


def build_library():
    """Build libshmkit with cargo and return the path of the shared library."""
    cargo = os.environ.get("CARGO", "cargo")
    if shutil.which(cargo) is None:
        sys.exit(f"shmkit is built with Rust: {cargo} was not found; install Rust 1.88 or later from https://rustup.rs")
    subprocess.run([cargo, "build", "--release", "--locked", "--lib"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "libshmkit.so"


class Build(build_ext):
    """Copies the library, its linker script and its header into the package, then builds the modules that use them."""

    def run(self):
        """Build everything."""
        package = pathlib.Path(self.get_ext_fullpath("shmkit._capsules")).parent
        (package / "include").mkdir(parents=True, exist_ok=True)
        # Each build creates a new file, because a running process may have mapped the old one.
        for old in package.glob("libshmkit.so*"):
            old.unlink()
        shutil.copy(build_library(), package / SONAME)
        shutil.copy(ROOT / "include" / "shmkit.h", package / "include")
        # A wheel cannot contain symbolic links, so a linker script takes the place of one.
        (package / "libshmkit.so").write_text(f"INPUT({SONAME})\n")
        self.library_dirs.append(str(package))
        super().run()
        if not self.inplace:
            # Most of the size is source lines. Backtraces keep the names of functions.
            strip = [os.environ.get("STRIP", "strip"), "--strip-debug"]
            subprocess.run([*strip, package / SONAME, *self.get_outputs()], check=True)
            self.remove_others(package)

    def remove_others(self, package):
        """Remove the files of earlier builds, because the wheel contains all files of the package."""
        built = [*self.get_outputs(), *self.get_finalized_command("build_py").get_outputs(include_bytecode=False)]
        expected = {package / SONAME, package / "libshmkit.so", package / "include/shmkit.h", *map(pathlib.Path, built)}
        for path in package.rglob("*"):
            if path.is_file() and path not in expected:
                path.unlink()


class Source(sdist):
    """Adds the sources that the build reads to the source distribution."""

    def make_distribution(self):
        """Add the sources of Rust and Cython to the files that setuptools has found."""
        for pattern in ("Cargo.*", "build.rs", "src/**/*", "include/*", "cython/shmkit/*.p*"):
            self.filelist.extend(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())
        self.filelist.sort()
        self.filelist.remove_duplicates()
        super().make_distribution()


def module(name):
    """Return the description of one Cython module; only `_capsules` links to the library."""
    how = {}
    if name == "_capsules":
        how = {
            "libraries": ["shmkit"],
            "include_dirs": ["include"],
            "runtime_library_dirs": ["$ORIGIN"],
            "depends": ["include/shmkit.h", "cython/shmkit/_capsules.pxi"],
        }
    return Extension(f"shmkit.{name}", [f"cython/shmkit/{name}.pyx"], **how)


WORK.mkdir(parents=True, exist_ok=True)
Options.warning_errors = True
MODULES = cythonize(
    [module(path.stem) for path in sorted(PACKAGE.glob("*.pyx"))],
    build_dir=str(WORK / f"cython-{Cython.__version__}"),
    include_path=["cython"],
    compiler_directives={
        "language_level": 3,
        "binding": False,
        "autotestdict": False,
        "embedsignature": True,
        # The format that inspect.signature reads. Docstrings of classes have their own first line: no format adds it.
        "embedsignature.format": "clinic",
        **Options.extra_warnings,
    },
    quiet=True,
)
setup(
    version=VERSION,
    ext_modules=MODULES,
    cmdclass={"build_ext": Build, "sdist": Source},
    options={"build": {"build_base": str(WORK)}, "egg_info": {"egg_base": str(WORK)}},
)
