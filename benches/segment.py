"""Compare segments with bare system calls from C, and with the standard library and posix_ipc from Python."""

import contextlib
import mmap
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from multiprocessing import resource_tracker, shared_memory

import numpy as np
import pairs
import posix_ipc
import shmkit

SMALL = 4096
DOUBLES = 8 << 20

COMPARISONS = [
    pairs.Comparison("create", "shmkit", "bare", 1.1, "C: create, unlink, close 4 KiB"),
    pairs.Comparison("create", "shmkit", "minimal", None, "C: create, unlink, close 4 KiB"),
    pairs.Comparison("create", "bare", "minimal", None, "C: create, unlink, close 4 KiB"),
    pairs.Comparison("attach", "shmkit", "bare", 1.3, "C: attach, read a byte, detach"),
    pairs.Comparison("attach", "shmkit", "minimal", None, "C: attach, read a byte, detach"),
    pairs.Comparison("python create", "shmkit", "standard", 0.6, "Python: create, close, unlink 4 KiB"),
    pairs.Comparison("python create", "shmkit", "standard, untracked", None, "Python: create, close, unlink 4 KiB"),
    pairs.Comparison("python create", "shmkit", "posix_ipc", None, "Python: create, close, unlink 4 KiB"),
    pairs.Comparison("python attach", "shmkit", "standard", 0.6, "Python: attach, read a byte, close"),
    pairs.Comparison("python attach", "shmkit", "standard, untracked", None, "Python: attach, read a byte, close"),
    pairs.Comparison("python attach", "shmkit", "posix_ipc", None, "Python: attach, read a byte, close"),
    pairs.Comparison("populate", "huge+prefault", "memset", 3, "C: populate 1 GiB, beside a warm memset"),
    pairs.Comparison("populate", "new private, huge", "memset", None, "C: populate 1 GiB, beside a warm memset"),
    pairs.Comparison("populate, others", "huge, touched", "memset", None, "C: the same, other ways"),
    pairs.Comparison("populate, others", "prefault", "memset", None, "C: the same, other ways"),
    pairs.Comparison("populate, others", "plain, touched", "memset", None, "C: the same, other ways"),
    pairs.Comparison("populate, others", "minimal, touched", "memset", None, "C: the same, other ways"),
    pairs.Comparison("populate, others", "new private, small", "memset", None, "C: the same, other ways"),
    pairs.Comparison("handover", "huge+prefault", "copy", 1.15, "C: hand over 64 MiB, new segment"),
    pairs.Comparison("handover", "huge+prefault", "huge copy", 1.15, "C: hand over 64 MiB, new segment"),
    pairs.Comparison("handover", "prefault", "copy", 1.15, "C: hand over 64 MiB, new segment"),
    pairs.Comparison("handover", "plain", "copy", 1.15, "C: hand over 64 MiB, new segment"),
    pairs.Comparison("handover", "huge", "copy", None, "C: hand over 64 MiB, new segment"),
    pairs.Comparison("handover, kept, huge", "kept", "warm copy", 1.15, "C: the same, segment kept, huge+prefault"),
    pairs.Comparison("handover, kept", "kept", "warm copy", 1.15, "C: the same, segment kept, plain"),
    pairs.Comparison("python handover", "huge+prefault", "copy", 1.15, "Python: hand over 64 MiB, new segment"),
    pairs.Comparison("python handover", "plain", "copy", 1.15, "Python: hand over 64 MiB, new segment"),
    pairs.Comparison("python handover", "standard", "copy", None, "Python: hand over 64 MiB, new segment"),
    pairs.Comparison("python handover", "pickled", "copy", None, "Python: hand over 64 MiB, new segment"),
    pairs.Comparison("python handover, kept", "huge+prefault", "warm copy", 1.15, "Python: the same, segment kept"),
]
HUGE = {"huge": True, "prefault": True}


# --- C ----------------------------------------------------------------------------------------------------------------


def note_huge(record, samples):
    """Note the huge pages that the C program reports."""
    samples.notes.append(f"huge+prefault got {record['huge_bytes'] / 2**20:.0f} of 1024 MiB in huge pages.")


def calls(program, which):
    """Return the system calls that a contender makes in one round, or None if strace fails."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.NamedTemporaryFile("r") as log:
        done = subprocess.run([strace, "-o", log.name, program, "--once", which], capture_output=True, check=False)
        # The round lies between two calls of getppid, which the round itself does not make.
        between = re.split(r"^getppid\(\).*\n", log.read(), flags=re.MULTILINE)
    if done.returncode or len(between) != 3:
        return None
    # Addresses and process ids differ from run to run.
    return re.sub(r"0x[0-9a-f]+|(?<=shmkit-bench-)\d+", "N", between[1]).splitlines()


def count_calls(program, names, samples):
    """Note the number of system calls of each contender, and whether bare makes the same calls as shmkit."""
    for bench in (name for name in ("create", "attach") if name in names):
        ours, bare, minimal = (calls(program, f"{bench} {which}") for which in ("shmkit", "bare", "minimal"))
        if None in (ours, bare, minimal):
            samples.notes.append(f"{bench}: system calls were not counted (strace is missing or not permitted).")
            continue
        samples.notes.append(
            f"{bench}: shmkit makes {len(ours)} system calls, bare {'the same' if ours == bare else len(bare)}, "
            f"minimal {len(minimal)}."
        )
        for mine, theirs in zip(ours, bare):
            if mine != theirs:
                samples.notes.append(f"  benches/segment.c must match shmkit here: {mine} / {theirs}")


# --- Python: create and attach ----------------------------------------------------------------------------------------


def create(kind):
    """Return a contender that creates, closes and unlinks a segment of a class."""

    def once():
        made = kind(create=True, size=SMALL)
        made.close()
        made.unlink()

    return pairs.repeat(once)


def attach(kind, name):
    """Return a contender that attaches, reads a byte and closes a segment of a class."""

    def once():
        made = kind(name)
        byte = made.buf[0]
        made.close()
        return byte

    return pairs.repeat(once)


def create_posix_ipc():
    """Create, map, close and unlink with posix_ipc."""
    made = posix_ipc.SharedMemory(None, posix_ipc.O_CREX, size=SMALL)
    mapped = mmap.mmap(made.fd, SMALL)
    mapped.close()
    made.close_fd()
    made.unlink()


def attach_posix_ipc(name):
    """Return a contender that attaches, reads a byte and closes with posix_ipc."""

    def once():
        made = posix_ipc.SharedMemory(name)
        mapped = mmap.mmap(made.fd, made.size)
        byte = mapped[0]
        mapped.close()
        made.close_fd()
        return byte

    return pairs.repeat(once)


@contextlib.contextmanager
def untracked():
    """Disable the resource tracker of the standard class, like its track=False from Python 3.13 on."""
    kept = resource_tracker.register, resource_tracker.unregister
    resource_tracker.register = resource_tracker.unregister = lambda name, kind: None
    try:
        yield
    finally:
        resource_tracker.register, resource_tracker.unregister = kept


def without_tracker(turn):
    """Return a contender that runs without the resource tracker."""

    def quiet(rounds):
        with untracked():
            return turn(rounds)

    return quiet


def bench_create(count, samples):
    """Measure create, close, unlink."""
    standard = create(shared_memory.SharedMemory)
    contenders = {
        "shmkit": create(shmkit.SharedMemory),
        "standard": standard,
        "standard, untracked": without_tracker(standard),
        "posix_ipc": pairs.repeat(create_posix_ipc),
    }
    samples.measure("python create", contenders, count)


def bench_attach(count, samples):
    """Measure attach, read a byte, close."""
    with shmkit.SharedMemory(f"{pairs.PREFIX}{os.getpid()}", create=True, size=SMALL) as made:
        try:
            standard = attach(shared_memory.SharedMemory, made.name)
            contenders = {
                "shmkit": attach(shmkit.SharedMemory, made.name),
                "standard": standard,
                "standard, untracked": without_tracker(standard),
                "posix_ipc": attach_posix_ipc("/" + made.name),
            }
            samples.measure("python attach", contenders, count)
        finally:
            made.unlink()
            # The tracker would remove the segment again and print a warning.
            with contextlib.suppress(KeyError, ValueError):
                resource_tracker.unregister("/" + made.name, "shared_memory")


# --- Python: hand over 64 MiB -----------------------------------------------------------------------------------------


def receiver(channel):
    """Send back the sum of each received array or segment; end at None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (received := channel.recv()) is not None:
        if isinstance(received, np.ndarray):
            channel.send(float(received.sum()))
        else:
            kind, name, how = received
            with untracked():
                made = kind(name, **how)
            values = np.ndarray(DOUBLES, buffer=made.buf)
            channel.send(float(values.sum()))
            del values
            made.close()
        channel.send("closed")


class Handover:
    """A running receiver process, and a source array in warm memory."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.channel, other = context.Pipe()
        self.process = context.Process(target=receiver, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.source = np.arange(DOUBLES, dtype=np.float64) % 1000
        self.target = self.source.copy()
        self.wanted = float(self.source.sum())

    def close(self):
        """End the receiver."""
        with contextlib.suppress(OSError):
            self.channel.send(None)
        self.process.join()

    def ask(self, what):
        """Send a request and check the answer."""
        self.channel.send(what)
        if self.channel.recv() != self.wanted:
            raise RuntimeError("the receiver computed another sum")

    def through(self, kind, **how):
        """Return a contender that fills a new segment in place and hands it over."""
        attached = {key: value for key, value in how.items() if kind is shmkit.SharedMemory}

        def turn(_rounds):
            begin = time.perf_counter()
            made = kind(create=True, size=DOUBLES * 8, **how)
            try:
                values = np.ndarray(DOUBLES, buffer=made.buf)
                np.copyto(values, self.source)
                self.ask((kind, made.name, attached))
                took = time.perf_counter() - begin
                self.channel.recv()
                del values
            finally:
                made.unlink()
            made.close()
            return took

        return turn

    def kept(self, made, how):
        """Return a contender that fills a kept segment in place and hands it over."""
        values = np.ndarray(DOUBLES, buffer=made.buf)

        def turn(_rounds):
            begin = time.perf_counter()
            np.copyto(values, self.source)
            self.ask((shmkit.SharedMemory, made.name, how))
            took = time.perf_counter() - begin
            self.channel.recv()
            return took

        return turn

    def pickled(self, _rounds):
        """Send the array through the pipe."""
        begin = time.perf_counter()
        self.ask(self.source)
        took = time.perf_counter() - begin
        self.channel.recv()
        return took

    def copy(self, _rounds):
        """Copy to new memory and sum, in this process."""
        begin = time.perf_counter()
        if float(self.source.copy().sum()) != self.wanted:
            raise RuntimeError("the copy has another sum")
        return time.perf_counter() - begin

    def warm_copy(self, _rounds):
        """Copy to warm memory and sum, in this process."""
        begin = time.perf_counter()
        np.copyto(self.target, self.source)
        if float(self.target.sum()) != self.wanted:
            raise RuntimeError("the copy has another sum")
        return time.perf_counter() - begin


def bench_handover(count, samples):
    """Measure the hand-over of 64 MiB."""
    handover = Handover()
    try:
        name = f"{pairs.PREFIX}{os.getpid()}"
        with shmkit.SharedMemory(name, create=True, size=DOUBLES * 8, **HUGE) as made:
            try:
                contenders = {"huge+prefault": handover.kept(made, HUGE), "warm copy": handover.warm_copy}
                samples.measure("python handover, kept", contenders, count, rounds=1)
            finally:
                made.unlink()
        contenders = {
            "huge+prefault": handover.through(shmkit.SharedMemory, **HUGE),
            "plain": handover.through(shmkit.SharedMemory),
            "standard": handover.through(shared_memory.SharedMemory),
            "pickled": handover.pickled,
            "copy": handover.copy,
        }
        samples.measure("python handover", contenders, count, rounds=1)
    finally:
        handover.close()


FROM_PYTHON = {"python create": bench_create, "python attach": bench_attach, "python handover": bench_handover}


if __name__ == "__main__":
    pairs.main(
        __doc__, "segments", from_python=FROM_PYTHON, comparisons=COMPARISONS, from_c=count_calls, other=note_huge
    )
