"""The checks that every test gets: one that leaves something fails, by name of what it leaves."""

import pathlib
import shutil
import subprocess
import sys

from conftest import HUNG

LEAKY = '''
"""Each of these leaves something; the last leaves nothing."""

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
    run("import sys; print('said', file=sys.stderr)")

def test_hangs(name):
    pytest.importorskip("pytest_timeout")
    import time
    time.sleep(1000)
test_hangs = pytest.mark.timeout(1)(test_hangs)

def test_nothing(name):
    with SharedMemory(name, create=True, size=1) as shm:
        shm.unlink()
'''


def test_what_a_test_leaves_fails_it(tmp_path):
    here = pathlib.Path(__file__).parent
    shutil.copy(here / "conftest.py", tmp_path)
    shutil.copytree(here / "support", tmp_path, dirs_exist_ok=True)
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    line = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG, check=False)
    told = done.stdout
    for name in ("name", "name_in_the_default_directory", "descriptor", "mapping", "anonymous_mapping"):
        assert f"ERROR test_leaky.py::test_{name} - " in told, told
    assert "FAILED test_leaky.py::test_helper" in told
    assert "FAILED test_leaky.py::test_hangs" in told or "SKIPPED" in told
    assert "ERROR test_leaky.py::test_nothing" not in told
    assert "PASSED test_leaky.py::test_nothing" in told
    for what in ("names are left", "descriptors are left"):
        assert what in told
