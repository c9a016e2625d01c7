"""Builds the Rust library and the Cython modules around it."""

import os
import pathlib
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
SONAME = "libshmkit.so.0"
# What distutils and Cython make on the way goes where everything else that is made goes.
WORK = ROOT / "target" / "python"


def build_library():
    """Build libshmkit with cargo and return the path of the shared library."""
    if shutil.which("cargo") is None:
        sys.exit("shmkit is built with Rust: cargo was not found (see https://rustup.rs)")
    subprocess.run(["cargo", "build", "--release", "--locked", "--lib"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "libshmkit.so"


class Build(build_ext):
    """Puts the library, its linker script and its header into the package, then builds the modules that use them."""

    def run(self):
        """Build everything."""
        package = pathlib.Path(self.get_ext_fullpath("shmkit._capsules")).parent
        (package / "include").mkdir(parents=True, exist_ok=True)
        # A new file for each build: a process that has the old one mapped must not see it change.
        (package / SONAME).unlink(missing_ok=True)
        shutil.copy(build_library(), package / SONAME)
        shutil.copy(ROOT / "include" / "shmkit.h", package / "include")
        # A wheel holds no symbolic links; a linker takes this for one.
        (package / "libshmkit.so").write_text(f"INPUT({SONAME})\n")
        self.library_dirs.append(str(package))
        super().run()


class Source(sdist):
    """Puts into the source distribution what the build reads."""

    def make_distribution(self):
        """Add the sources of Rust and Cython to what setuptools has found."""
        for pattern in ("Cargo.*", "build.rs", "src/**/*", "include/*", "cython/shmkit/*.p*"):
            self.filelist.extend(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file())
        self.filelist.sort()
        self.filelist.remove_duplicates()
        super().make_distribution()


def module(name, **how):
    """Describe one Cython module of the package."""
    return Extension(f"shmkit.{name}", [f"cython/shmkit/{name}.pyx"], **how)


WORK.mkdir(parents=True, exist_ok=True)
Options.warning_errors = True
MODULES = cythonize(
    [
        module(
            "_capsules",
            libraries=["shmkit"],
            include_dirs=["include"],
            runtime_library_dirs=["$ORIGIN"],
            depends=["include/shmkit.h", "cython/shmkit/_capsules.pxi"],
        ),
        module("_status"),
        module("_limits"),
        module("segment"),
        module("_object"),
        module("_mutex"),
        module("lock"),
        module("rlock"),
        module("rwlock"),
        module("semaphore"),
        module("condition"),
        module("event"),
        module("barrier"),
        module("once"),
        module("_message"),
        module("_place"),
        module("queue"),
    ],
    build_dir=str(WORK / f"cython-{Cython.__version__}"),
    include_path=["cython"],
    compiler_directives={
        "language_level": 3,
        "binding": False,
        "autotestdict": False,
        "embedsignature": True,
        # What inspect.signature reads. Classes begin their docstrings with their own: no format embeds those.
        "embedsignature.format": "clinic",
        **Options.extra_warnings,
    },
    quiet=True,
)
setup(
    ext_modules=MODULES,
    cmdclass={"build_ext": Build, "sdist": Source},
    options={"build": {"build_base": str(WORK)}, "egg_info": {"egg_base": str(WORK)}},
)
