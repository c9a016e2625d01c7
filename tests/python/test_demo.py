"""The demo as a user runs it: to the end, interrupted, and with a killed worker. It leaves no segment or process."""

import importlib.util
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "photograph"
NEEDED = ("Cython", "matplotlib", "numpy", "PIL", "setuptools", "tqdm")
WATCHDOG = 300

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in NEEDED), reason="needs the packages of the extra 'demo'"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return the build folder of the demo, which the tests share so that the demo compiles once."""
    return tmp_path_factory.mktemp("demo")


def command(compiled, *options):
    """Return the command line of a quick run of the demo."""
    return [sys.executable, "-B", "-u", str(FOLDER / "demo.py"), "--quick", "--build", str(compiled), *options]


class Run:
    """A running demo and its output so far."""

    def __init__(self, compiled, *options):
        self.process = subprocess.Popen(
            command(compiled, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.printed = b""

    def read_until(self, text):
        """Read the output until it contains a text, or to its end."""
        while text not in self.printed:
            assert select.select([self.process.stdout], [], [], WATCHDOG)[0], self.printed
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                break
            self.printed += more

    def finish(self):
        """Wait for the end; return the exit status and the whole output."""
        try:
            rest, _ = self.process.communicate(timeout=WATCHDOG)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return self.process.returncode, (self.printed + rest).decode()

    def leftovers(self):
        """Return the segments and processes of the demo that exist after a grace period."""
        for _ in range(100):
            found = segments(self.process.pid) + session(self.process.pid)
            if not found:
                break
            time.sleep(0.1)
        return found


def segments(pid):
    """Return the names of the segments of a demo."""
    return [name for name in os.listdir("/dev/shm") if f"photograph-{pid}" in name]


def session(leader):
    """Return the process numbers of a session."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def find_worker(pid):
    """Wait until a demo has a worker, and return its process number."""
    end = time.monotonic() + WATCHDOG
    while time.monotonic() < end:
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError(f"process {pid} has no worker")


def check_tidy(run, printed):
    """Check that a run reported that it left nothing, left nothing, and printed no traceback and no warning."""
    assert "Left in shared memory: nothing." in printed
    assert "Traceback" not in printed
    assert "leaked" not in printed
    assert run.leftovers() == []


def test_the_demo_runs_to_its_end(compiled, tmp_path):
    output = tmp_path / "deep" / "before and after.png"
    run = Run(compiled, "--output", str(output))
    status, printed = run.finish()
    assert status == 0, printed
    check_tidy(run, printed)
    assert "Every check passed." in printed
    assert output.read_bytes().startswith(b"\x89PNG")
    assert str(output) in "".join(printed.split("\n"))


@pytest.mark.parametrize("workers", [1, 7])
def test_any_number_of_workers_gives_the_same_picture(compiled, workers):
    run = Run(compiled, "--workers", str(workers))
    status, printed = run.finish()
    assert status == 0, printed
    check_tidy(run, printed)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        (1, signal.SIGTERM),
        (3, signal.SIGINT),
        (4, signal.SIGTERM),
        (5, signal.SIGINT),
        (7, signal.SIGHUP),
        (9, signal.SIGINT),
        (10, signal.SIGTERM),
        (11, signal.SIGINT),
    ],
)
def test_a_signal_in_any_step_leaves_nothing(compiled, step, number):
    run = Run(compiled)
    run.read_until(f"\n{step}. ".encode())
    run.process.send_signal(number)
    status, printed = run.finish()
    assert status == 128 + number, printed
    assert f"Stopped by {number.name}" in printed
    check_tidy(run, printed)


@pytest.mark.parametrize("moment", [0.5, 1, 2, 3])
def test_ctrl_c_at_any_time_leaves_nothing(compiled, moment):
    run = Run(compiled)
    time.sleep(moment)
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: the workers also get the signal
    _, printed = run.finish()
    assert "Traceback" not in printed
    assert "leaked" not in printed
    assert run.leftovers() == []


@pytest.mark.parametrize("moment", [b"filtering: ", b"Median of"], ids=["filtering", "queues"])
def test_a_killed_worker_ends_the_demo(compiled, moment):
    run = Run(compiled)
    run.read_until(moment)
    os.kill(find_worker(run.process.pid), signal.SIGKILL)
    status, printed = run.finish()
    assert status == 1, printed
    assert "has ended with signal 9" in printed
    check_tidy(run, printed)


def test_a_killed_demo_leaves_no_process_and_no_segment(compiled):
    run = Run(compiled)
    run.read_until(b"filtering: ")
    assert segments(run.process.pid)
    run.process.kill()
    run.finish()
    assert run.leftovers() == []


@pytest.mark.parametrize("options", [["--workers", "0"], ["--workers", "64"], ["--workers", "four"], ["--no-such"]])
def test_bad_options_are_refused(compiled, options):
    done = subprocess.run(command(compiled, *options), capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr
