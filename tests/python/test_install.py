"""The files of an installed package, how it is built, and that a process runs one copy of the library."""

import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest
import shmkit
from conftest import COMPILER_SECONDS, DOWNSTREAM, ROOT

PACKAGE = pathlib.Path(shmkit.__file__).parent
SOURCES = ROOT / "cython" / "shmkit"
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
PARTS = ("MAJOR", "MINOR", "PATCH")
MAJOR, MINOR, _ = VERSION.split(".")
SONAME = f"libshmkit.so.0.{MINOR}" if MAJOR == "0" else f"libshmkit.so.{MAJOR}"
MODULES = sorted(path.stem for path in SOURCES.glob("*.pyx"))
BINARIES = [SONAME, *(module + sysconfig.get_config_var("EXT_SUFFIX") for module in MODULES)]
TEXTS = [path.name for pattern in ("*.py", "*.pyi", "*.pxd", "py.typed") for path in SOURCES.glob(pattern)]
FILES = {*BINARIES, *TEXTS, "libshmkit.so", "include/shmkit.h"}


def tool(name, *arguments):
    """Run a tool of binutils or the C library and return its output."""
    if shutil.which(name) is None:
        pytest.skip(f"NOT TESTED without {name}")
    return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_the_tests_import_the_installed_package_and_not_the_sources():
    assert "site-packages" in str(PACKAGE) or "dist-packages" in str(PACKAGE)


def test_the_lists_contain_known_files_of_the_sources():
    assert {"_capsules", "queue", "segment"} <= set(MODULES)
    assert {"__init__.py", "__init__.pyi", "__init__.pxd", "libshmkit.pxd", "queue.pxd", "queue.pyi"} <= set(TEXTS)


def test_the_package_contains_each_file_of_the_sources_and_no_other():
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if not path.is_dir()}
    assert {path for path in there if "__pycache__" not in path} == FILES
    assert not any(path.is_symlink() for path in PACKAGE.rglob("*"))


def test_the_distribution_contains_the_package_and_the_licence_alone():
    paths = [path for path in importlib.metadata.files("shmkit") if "__pycache__" not in path.parts]
    assert {str(path.relative_to("shmkit")) for path in paths if path.parts[0] == "shmkit"} == FILES
    others = {path for path in paths if path.parts[0] != "shmkit"}
    assert {path.parts[0] for path in others} == {f"shmkit-{VERSION}.dist-info"}
    assert {"LICENSE-APACHE", "LICENSE-MIT"} <= {path.name for path in others}


def test_the_package_reports_its_include_folder_and_its_library():
    assert shmkit.get_include() == str(PACKAGE / "include")
    assert shmkit.get_library_dir() == str(PACKAGE)
    assert shmkit.library_path() == str(PACKAGE / SONAME)


def test_the_linker_script_names_the_library():
    assert (PACKAGE / "libshmkit.so").read_text() == f"INPUT({SONAME})\n"


def test_the_soname_contains_the_version():
    dynamic = tool("readelf", "-d", shmkit.library_path())
    assert re.search(rf"SONAME.*\[{re.escape(SONAME)}\]", dynamic)


def test_the_library_needs_only_the_c_library():
    needed = re.findall(r"NEEDED.*\[(.*)\]", tool("readelf", "-d", shmkit.library_path()))
    allowed = r"lib(c|m|gcc_s|pthread|dl|rt)\.so\.\d|ld-linux.*"
    assert all(re.fullmatch(allowed, library) for library in needed), needed


def test_the_library_exports_what_the_header_declares():
    exported = set(re.findall(r" T (\w+)", tool("nm", "-D", "--defined-only", shmkit.library_path())))
    header = (PACKAGE / "include/shmkit.h").read_text()
    declared = set(re.findall(r"^[\w ]+?[ *](shmkit_\w+)\(", header, re.MULTILINE))
    assert exported == declared
    assert len(declared) > 20


@pytest.mark.parametrize("file", BINARIES)
def test_binaries_contain_symbols_for_backtraces_but_no_source_lines(file):
    sections = tool("readelf", "--sections", "--wide", PACKAGE / file)
    assert " .symtab " in sections
    assert ".debug" not in sections


def test_the_library_is_small():
    assert os.path.getsize(shmkit.library_path()) < 2_000_000


@pytest.mark.parametrize("module", MODULES)
def test_modules_find_the_library_beside_them(module):
    file = PACKAGE / (module + sysconfig.get_config_var("EXT_SUFFIX"))
    dynamic = tool("readelf", "-d", file)
    linked = SONAME in re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert linked == (module == "_capsules")
    # Some interpreters add another path.
    paths = [path for found in re.findall(r"R(?:UN)?PATH.*\[(.*)\]", dynamic) for path in found.split(":")]
    assert ("$ORIGIN" in paths) == linked
    if linked:
        found = re.search(rf"{re.escape(SONAME)} => (\S+)", tool("ldd", file)).group(1)
        assert os.path.samefile(found, shmkit.library_path())


def test_one_copy_of_the_library_runs_in_a_process(run):
    code = """
        import ctypes, shmkit
        ctypes.CDLL(shmkit.library_path())
        with open("/proc/self/maps") as maps:
            print({line.split()[5] for line in maps if "libshmkit" in line})
    """
    assert run(code).out == f"{ {os.path.realpath(shmkit.library_path())} }\n"


def test_the_version_is_the_same_everywhere(run):
    header = (PACKAGE / "include/shmkit.h").read_text()
    parts = [re.search(rf"^#define SHMKIT_VERSION_{part} (\d+)$", header, re.MULTILINE)[1] for part in PARTS]
    assert ".".join(parts) == VERSION
    assert shmkit.__version__ == VERSION
    assert importlib.metadata.version("shmkit") == VERSION
    code = """
        import ctypes, shmkit
        library = ctypes.CDLL(shmkit.library_path())
        library.shmkit_version_string.restype = ctypes.c_char_p
        print(library.shmkit_version_string().decode())
    """
    assert run(code).out == VERSION + "\n"


def test_the_package_may_be_moved(run, tmp_path):
    copy = tmp_path / "elsewhere" / "shmkit"
    shutil.copytree(PACKAGE, copy)
    code = """
        import shmkit
        print(shmkit.__file__)
        shmkit.SharedMemory(create=True, size=1, anonymous=True)
        with open("/proc/self/maps") as maps:
            print({line.split()[5] for line in maps if "libshmkit" in line})
    """
    out = run(code, env=dict(os.environ, PYTHONPATH=str(copy.parent))).out.splitlines()
    assert out == [str(copy / "__init__.py"), str({str(copy / SONAME)})]


def test_importing_prints_nothing_and_imports_no_optional_module(run):
    code = """
        import sys
        import shmkit
        print("numpy" in sys.modules, "Cython" in sys.modules, "ctypes" in sys.modules)
    """
    assert run(code).out == "False False False\n"


# --- the sources of the package, and its builds -----------------------------------------------------------------------


def call(*line, **how):
    """Run a command that must succeed, and return its stdout."""
    done = subprocess.run(
        list(map(str, line)), capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False, **how
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Return the folder of an unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    call(sys.executable, "-c", code, folder, cwd=ROOT)
    call("tar", "-xf", f"shmkit-{VERSION}.tar.gz", cwd=folder)
    return folder / f"shmkit-{VERSION}"


@pytest.fixture(scope="module")
def target():
    """Return the folder of the library that cargo has built from the sources."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    if not (target / "release/libshmkit.so").exists():
        pytest.skip("NOT TESTED without target/release/libshmkit.so: builds of the package")
    return target


@pytest.fixture(scope="module")
def quick(target):
    """Return the environment of a build of the package that uses the library of that folder."""
    return dict(os.environ, CARGO="true", CARGO_TARGET_DIR=str(target), CFLAGS="-O0 -g0")


def test_a_source_distribution_contains_each_source_of_the_library(unpacked, target):
    _, _, paths = (target / "release/libshmkit.d").read_text().partition(":")
    read = {pathlib.Path(path.replace("\\ ", " ")) for path in re.findall(r"(?:\\ |\S)+", paths)}
    read = {path for path in read if target not in path.parents}  # generated by build.rs
    assert {ROOT / "build.rs", ROOT / "src/lib.rs", ROOT / "src/capi/preface.h"} <= read
    assert [path for path in read if not (unpacked / path.relative_to(ROOT)).exists()] == []


def test_cargo_accepts_the_manifest_in_a_source_distribution(unpacked):
    if shutil.which("cargo") is None:
        pytest.skip("NOT TESTED without cargo: the manifest in a source distribution")
    call("cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version=1", cwd=unpacked)
    assert (unpacked / "Cargo.lock").is_file()


def test_a_wheel_of_a_source_distribution_contains_the_same_files(unpacked, quick, tmp_path):
    # The wheel must not contain a file that an earlier build made from sources that were removed.
    folder = f"target/python/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/shmkit"
    left = unpacked / folder / "left.pxd"
    left.parent.mkdir(parents=True)
    left.touch()
    line = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", tmp_path]
    call(*line, unpacked, env=quick)
    assert not left.exists()
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[2] for name in names if name.startswith("shmkit/")} == FILES
    about = f"shmkit-{VERSION}.dist-info/"
    files = {"METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE-APACHE", "licenses/LICENSE-MIT"}
    assert {name for name in names if not name.startswith("shmkit/")} == {about + name for name in files}


@pytest.fixture(scope="module")
def editable(unpacked, quick, tmp_path_factory):
    """Return the interpreter of a virtual environment with an editable install of the unpacked sources."""
    if shutil.which("git") is None:
        pytest.skip("NOT TESTED without git: an editable install")
    shutil.copy(ROOT / ".gitignore", unpacked)
    for line in ("init", "add --all", "-c user.name=t -c user.email=t@localhost commit --message=all"):
        call("git", *line.split(), cwd=unpacked)
    folder = tmp_path_factory.mktemp("editable")
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    # The build tools come from this environment, whose site-packages are searched after the editable package.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    line = ["pip", "--python", python, "install", "--no-build-isolation", "--no-deps", "--ignore-installed"]
    call(sys.executable, "-m", *line, "--editable", unpacked, env=quick)
    return python


def test_an_editable_install_leaves_the_sources_clean(unpacked, editable):
    assert (unpacked / "cython/shmkit" / SONAME).is_file()
    assert call("git", "status", "--porcelain", cwd=unpacked) == ""
    assert editable.exists()


def test_an_editable_install_is_imported_from_the_sources(unpacked, editable):
    code = """if True:
        import shmkit
        shmkit.SharedMemory(create=True, size=1, anonymous=True).close()
        print(shmkit.__file__, shmkit.get_include(), shmkit.get_library_dir(), shmkit.library_path())
    """
    package = unpacked / "cython/shmkit"
    expected = [package / "__init__.py", package / "include", package, package / SONAME]
    assert call(editable, "-c", code).split() == list(map(str, expected))
    assert (package / "include/shmkit.h").is_file()


@pytest.mark.parametrize("name", ["bare", "linked"])
def test_downstream_packages_are_built_with_an_editable_install(editable, quick, tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(DOWNSTREAM / name, folder)
    call(editable, "setup.py", "build_ext", "--inplace", cwd=folder, env=quick)
    call(editable, "-c", f"import {name}", cwd=folder)
