"""The small examples as a user runs them. The demo: test_demo.py."""

import re
import subprocess
import sys

import pytest
from conftest import COMPILER_SECONDS, ROOT

pytest.importorskip("Cython")
pytest.importorskip("setuptools")


def run(example, *options):
    """Run an example; return its exit status and its output."""
    command = [sys.executable, "-B", str(ROOT / "examples" / example / "run.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


def test_accounts_survive_a_killed_process():
    status, printed = run("accounts", "--transfers", "5000")
    assert status == 0, printed
    assert printed.count("all transfers made") == 3
    assert sum(map(int, re.findall(r"took over from (\d+) dead owners", printed))) == 1
    assert re.search(r"1 after a death; 100000 in all accounts, 100000 at the start", printed), printed


def test_accounts_refuse_zero_transfers():
    status, printed = run("accounts", "--transfers", "0")
    assert status == 2 and "at least one" in printed


ARTICLE = ROOT / "examples" / "article"


def article(program, *options):
    """Run one of the programs that articles about shared memory show, and return its output."""
    command = [sys.executable, "-B", str(ARTICLE / program), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def test_article_counter():
    assert article("counter.py", "--times", "2000") == "6001 of 6001; 1 owner died\n"


def test_article_threads():
    printed = article("threads.py", "--times", "1000")
    assert printed.startswith("10000 of 10000; 10000 acquisitions, "), printed


def test_article_semaphore():
    printed = article("semaphore.py", "--visits", "20")
    found = re.fullmatch(r"0 inside, (\d) at most; 1 permit reclaimed; 3 free\n", printed)
    assert found and 1 <= int(found[1]) <= 3, printed


def test_article_producers():
    printed = article("producers.py", "--numbers", "300")
    assert printed == "135450 received, 135450 sent; 1 redelivered\n"


def test_article_memory():
    printed = article("memory.py", "--size", "16")
    rows = {line[:26].strip(): line[26:].split() for line in printed.splitlines() if re.search(r"\d$", line)}
    assert {"before", "created, not touched", "touched", "closed and unlinked"} <= rows.keys(), printed
    mapped = {when: float(figures[0]) for when, figures in rows.items() if len(figures) == 5}
    assert mapped["touched"] >= mapped["before"] + 16, printed
    assert mapped["closed and unlinked"] == mapped["before"], printed


def test_every_article_has_a_test():
    tests = {name.removeprefix("test_article_") for name in globals() if name.startswith("test_article_")}
    assert {path.stem for path in ARTICLE.glob("*.py")} == tests
