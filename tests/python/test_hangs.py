"""The script that shows that shmkit continues where multiprocessing hangs."""

import subprocess
import sys

from conftest import COMPILER_SECONDS, ROOT

HANGS = ROOT / "examples" / "hangs.py"


def test_shmkit_continues_where_multiprocessing_hangs():
    command = [sys.executable, "-B", str(HANGS), "--timeout", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()[1:]
    assert len(lines) == 15, done.stdout
    for line in lines:
        standard, own = line[36:64], line[64:]
        assert standard.startswith("hangs"), line
        assert own.endswith(" ms)"), line
    reported = [line for line in lines if line[64:].startswith(("owner died", "broken"))]
    assert {line[:36].strip() for line in reported} >= {
        "holder of a Lock",
        "holder of an RLock",
        "waiter of a Barrier",
        "writer, then a reader",
        "writer, then a writer",
    }


def test_a_timeout_of_zero_is_refused():
    done = subprocess.run([sys.executable, str(HANGS), "--timeout", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--timeout must be positive" in done.stderr
