"""What an installed package consists of, and that one copy of the library runs in a process."""

import os
import pathlib
import re
import shutil
import subprocess
import sysconfig

import pytest
import shmkit

PACKAGE = pathlib.Path(shmkit.__file__).parent
SONAME = "libshmkit.so.0"
MODULES = ["_capsules", "_mutex", "_object", "_status", "condition", "_limits", "lock", "rlock", "segment"]


def tool(name, *arguments):
    """Run a tool of binutils or the C library and return what it prints."""
    if shutil.which(name) is None:
        pytest.skip(f"NOT TESTED without {name}")
    return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_the_installed_package_is_tested_and_not_the_sources():
    # (An editable install would need build artifacts in the sources.)
    assert "site-packages" in str(PACKAGE) or "dist-packages" in str(PACKAGE)


@pytest.mark.parametrize(
    "file",
    [
        "__init__.py",
        "__init__.pyi",
        "__init__.pxd",
        "libshmkit.pxd",
        "_mutex.pxd",
        "_mutex.pyi",
        "_object.pxd",
        "_object.pyi",
        "_status.pxd",
        "_status.pyi",
        "condition.pxd",
        "condition.pyi",
        "_limits.pyi",
        "lock.pxd",
        "lock.pyi",
        "rlock.pxd",
        "rlock.pyi",
        "segment.pxd",
        "segment.pyi",
        "_handover.py",
        "py.typed",
        SONAME,
        "libshmkit.so",
        "include/shmkit.h",
    ],
)
def test_the_file_is_installed(file):
    assert (PACKAGE / file).is_file()
    assert not (PACKAGE / file).is_symlink()


def test_nothing_else_is_installed():
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    others = {
        path.name
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyi", ".pxd", ".pyc") and not path.name.endswith(suffix)
    }
    assert others == {SONAME, "libshmkit.so", "shmkit.h", "py.typed"}


def test_the_three_places():
    assert shmkit.get_include() == str(PACKAGE / "include")
    assert shmkit.get_library_dir() == str(PACKAGE)
    assert shmkit.library_path() == str(PACKAGE / SONAME)


def test_the_linker_script_names_the_library():
    assert (PACKAGE / "libshmkit.so").read_text() == f"INPUT({SONAME})\n"


def test_the_soname():
    dynamic = tool("readelf", "-d", shmkit.library_path())
    assert re.search(rf"SONAME.*\[{re.escape(SONAME)}\]", dynamic)


def test_the_library_needs_nothing_but_the_c_library():
    needed = re.findall(r"NEEDED.*\[(.*)\]", tool("readelf", "-d", shmkit.library_path()))
    allowed = r"lib(c|m|gcc_s|pthread|dl|rt)\.so\.\d|ld-linux.*"
    assert all(re.fullmatch(allowed, library) for library in needed), needed


def test_the_library_exports_what_the_header_declares():
    exported = set(re.findall(r" T (\w+)", tool("nm", "-D", "--defined-only", shmkit.library_path())))
    header = (PACKAGE / "include/shmkit.h").read_text()
    declared = set(re.findall(r"^[\w ]+?[ *](shmkit_\w+)\(", header, re.MULTILINE))
    assert exported == declared
    assert len(declared) > 20


@pytest.mark.parametrize("module", MODULES)
def test_modules_find_the_library_beside_them(module):
    file = PACKAGE / (module + sysconfig.get_config_var("EXT_SUFFIX"))
    dynamic = tool("readelf", "-d", file)
    linked = SONAME in re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert linked == (module == "_capsules")
    if linked:
        # Some interpreters add a path of their own.
        assert "$ORIGIN" in re.search(r"R(?:UN)?PATH.*\[(.*)\]", dynamic).group(1).split(":")
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


def test_the_versions_are_one(run):
    import importlib.metadata  # noqa: PLC0415

    assert shmkit.__version__ == importlib.metadata.version("shmkit")
    code = """
        import ctypes, shmkit
        library = ctypes.CDLL(shmkit.library_path())
        library.shmkit_version_string.restype = ctypes.c_char_p
        print(library.shmkit_version_string().decode())
    """
    assert run(code).out == shmkit.__version__ + "\n"


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


def test_importing_is_quiet_and_starts_nothing(run):
    code = """
        import sys
        import shmkit
        print("numpy" in sys.modules, "Cython" in sys.modules, "ctypes" in sys.modules)
    """
    assert run(code).out == "False False False\n"
