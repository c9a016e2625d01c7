"""The small examples, as a user runs them. (test_demo.py has the large one.)"""

import re
import subprocess
import sys

import pytest
from conftest import HUNG_COMPILER, ROOT

pytest.importorskip("Cython")
pytest.importorskip("setuptools")


def run(example, *options):
    """Run an example and return its exit status and what it printed."""
    command = [sys.executable, "-B", str(ROOT / "examples" / example / "run.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HUNG_COMPILER, check=False)
    return done.returncode, done.stdout + done.stderr


def test_accounts():
    status, printed = run("accounts", "--transfers", "5000")
    assert status == 0, printed
    assert printed.count("all transfers made") == 3
    assert sum(map(int, re.findall(r"(\d+) deaths seen", printed))) == 1
    assert re.search(r"1 after a death; 100000 in all accounts, 100000 at the beginning", printed), printed


def test_accounts_refuses_nonsense():
    status, printed = run("accounts", "--transfers", "0")
    assert status == 2 and "at least one" in printed
