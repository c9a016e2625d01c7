"""The checks of every test: a test that leaves a name, a descriptor or a mapping fails with an error that names it."""

import pathlib
import shutil
import subprocess
import sys

from conftest import HANG_SECONDS

LEAKY = '''
"""Each test leaves something, except the last."""

import os
import pytest
from shmkit import SharedMemory

kept = []

def test_name(name):
    SharedMemory(name, create=True, size=1).close()

def test_name_in_the_default_directory(name, default_directory):
    SharedMemory(name, create=True, size=1).close()

def test_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_mapping(name):
    shm = SharedMemory(name, create=True, size=1)
    shm.unlink()
    kept.append(shm.buf[:])
    shm.close()

def test_anonymous_mapping():
    kept.append(memoryview(SharedMemory(create=True, size=1, anonymous=True)))

def test_helper(run):
    run("import sys; print('printed', file=sys.stderr)")

def test_hangs(name):
    pytest.importorskip("pytest_timeout")
    import time
    time.sleep(1000)
test_hangs = pytest.mark.timeout(1)(test_hangs)

def test_nothing(name):
    with SharedMemory(name, create=True, size=1) as shm:
        shm.unlink()
'''


IGNORED = '''
"""Passes if programs begin with the default actions of SIGINT and SIGHUP, and SIGHUP does not end the tests."""

import os
import signal

def test_programs(run):
    code = "import signal; print(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGHUP).name)"
    assert run(code).out == "default_int_handler SIG_DFL\\n"

def test_hangup():
    os.kill(os.getpid(), signal.SIGHUP)
'''


def pytest_of(code, folder, *before):
    """Run a file of tests with the conftest.py of this folder, and return what pytest prints."""
    here = pathlib.Path(__file__).parent
    shutil.copy(here / "conftest.py", folder)
    shutil.copytree(here / "support", folder, dirs_exist_ok=True)
    (folder / "test_inner.py").write_text(code)
    line = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(folder), "."]
    done = subprocess.run(
        [*before, *line], cwd=folder, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    return done.stdout


def test_programs_have_default_signal_actions_if_the_tests_began_with_ignored_signals(tmp_path):
    report = pytest_of(IGNORED, tmp_path, "sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
    assert "2 passed" in report, report


def test_a_test_that_leaves_something_fails(tmp_path):
    report = pytest_of(LEAKY, tmp_path)
    for name in ("name", "name_in_the_default_directory", "descriptor", "mapping", "anonymous_mapping"):
        assert f"ERROR test_inner.py::test_{name} - " in report, report
    assert "FAILED test_inner.py::test_helper" in report
    assert "FAILED test_inner.py::test_hangs" in report or "SKIPPED" in report
    assert "ERROR test_inner.py::test_nothing" not in report
    assert "PASSED test_inner.py::test_nothing" in report
    for what in ("names are left", "descriptors are left"):
        assert what in report
