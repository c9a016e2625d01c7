"""Compare locks with their peers: pthread, sem_t and Boost from C, multiprocessing and posix_ipc from Python."""

import contextlib
import mmap
import multiprocessing
import os
import threading
import time

import increment as compiled  # increment.pyx
import pairs
import posix_ipc
import shmkit

ALONE = "C: acquire and release, uncontended"
CONTENDED = "C: one acquisition, contended by two processes"
CROWDED = "C: one acquisition, 64 processes"
RUNNING = "C: hand-over to a process that spins"
ASLEEP = "C: hand-over to a process that sleeps"
MANY = "C: 10,000 locks in one segment, in turn"
CLAIM = "C: become a participant, by the number of others"
PROBE = "C: check whether an owner lives, by the number of participants"
PY_ALONE = "Python: acquire(); release()"
PY_WITH = "Python: with lock"
PY_RLOCK = "Python: RLock"
PY_CONTENDED = "Python: one acquisition, contended by two processes"
PY_NOGIL = "Cython: one increment without the GIL, two processes"

COMPARISONS = [
    pairs.Comparison("alone", "shmkit", "exchanges, inlined", 1.7, ALONE),
    pairs.Comparison("alone", "shmkit", "exchanges, in a library", None, ALONE),
    pairs.Comparison("alone", "shmkit", "pthread", 1.1, ALONE),
    pairs.Comparison("alone", "shmkit", "pthread robust", 0.65, ALONE),
    pairs.Comparison("alone", "shmkit", "sem_t", None, ALONE),
    pairs.Comparison("alone", "shmkit", "Boost", None, ALONE),
    pairs.Comparison("alone", "shmkit RLock", "pthread robust", None, ALONE),
    pairs.Comparison("contended", "shmkit", "pthread robust", 1 / 1.5, CONTENDED),
    pairs.Comparison("contended", "shmkit", "pthread", None, CONTENDED),
    pairs.Comparison("contended", "shmkit", "sem_t", None, CONTENDED),
    pairs.Comparison("contended", "shmkit", "Boost", None, CONTENDED),
    pairs.Comparison("crowded", "shmkit, 64 processes", "shmkit, 2 processes", 2, CROWDED),
    pairs.Comparison("crowded", "shmkit, 64 processes", "pthread, 64 processes", None, CROWDED),
    pairs.Comparison("crowded", "shmkit, 64 processes", "pthread robust, 64 processes", None, CROWDED),
    pairs.Comparison("handoff, running", "shmkit", "spins forever", None, RUNNING),
    pairs.Comparison("handoff, running", "shmkit", "pthread", None, RUNNING),
    pairs.Comparison("handoff, running", "shmkit", "pthread robust", None, RUNNING),
    pairs.Comparison("handoff, asleep", "shmkit", "raw futex", 1, ASLEEP),
    pairs.Comparison("handoff, asleep", "shmkit", "raw futex, deadline", None, ASLEEP),
    pairs.Comparison("handoff, asleep", "shmkit", "pthread robust", None, ASLEEP),
    pairs.Comparison("many", "10,000 locks", "one lock", None, MANY),
    pairs.Comparison("many", "10,000 words", "one word", None, MANY),
    pairs.Comparison("many", "10,000 locks", "10,000 words", 1.7, MANY),
    pairs.Comparison("claim", "64", "1", None, CLAIM),
    pairs.Comparison("claim", "1,000", "1", None, CLAIM),
    pairs.Comparison("poll", "1,000", "1", None, PROBE + ", polled"),
    pairs.Comparison("probe, living", "64", "1", None, PROBE + ", it lives"),
    pairs.Comparison("probe, living", "1,000", "1", None, PROBE + ", it lives"),
    pairs.Comparison("probe, dead", "64", "1", None, PROBE + ", it is dead"),
    pairs.Comparison("probe, dead", "1,000", "1", None, PROBE + ", it is dead"),
    pairs.Comparison("python alone", "shmkit", "multiprocessing", 1, PY_ALONE),
    pairs.Comparison("python alone", "shmkit", "posix_ipc", None, PY_ALONE),
    pairs.Comparison("python with", "shmkit", "multiprocessing", 0.35, PY_WITH),
    pairs.Comparison("python with", "shmkit", "posix_ipc", None, PY_WITH),
    pairs.Comparison("python with", "shmkit", "nothing", None, PY_WITH),
    pairs.Comparison("python RLock", "shmkit", "multiprocessing", None, PY_RLOCK),
    pairs.Comparison("python contended", "shmkit", "multiprocessing", 1 / 3, PY_CONTENDED),
    pairs.Comparison("python contended", "shmkit", "posix_ipc", None, PY_CONTENDED),
    pairs.Comparison("python nogil", "busy thread", "busy process", 1.1, PY_NOGIL),
    pairs.Comparison("python nogil", "busy thread", "nothing else", None, PY_NOGIL),
    pairs.Comparison("python nogil", "busy thread", "multiprocessing, busy thread", None, PY_NOGIL),
]

SHARE = "C: smaller share of two processes in all acquisitions"
LEAST = "C: smallest share of 64 processes, relative to an even share"
CHANGES = "C: rate at which the lock changes its owner"
KILLED = "C: from the kill until the waiter owns the lock"

FIGURES = [
    *(
        pairs.Figure("contended", f"{name}: lesser share", "%", 0.35 if name == "shmkit" else None, SHARE, least=True)
        for name in ("shmkit", "pthread", "pthread robust", "sem_t", "Boost")
    ),
    *(
        pairs.Figure("contended", f"{name}: changes", "/s", None, CHANGES)
        for name in ("shmkit", "pthread", "pthread robust", "sem_t", "Boost")
    ),
    *(
        pairs.Figure("crowded", f"{name}: of an even share", "%", None, LEAST)
        for name in ("shmkit", "pthread", "pthread robust")
    ),
    pairs.Figure("handoff", "shmkit", "s", 1e-6, RUNNING),
    *(
        pairs.Figure("killed", f"shmkit, after {after}", "s", 0.02, KILLED, worst=True)
        for after in ("0.01 s", "0.1 s", "1 s", "3 s")
    ),
    pairs.Figure("killed", "shmkit, 256 MiB touched", "s", None, KILLED, worst=True),
    pairs.Figure("killed", "pthread robust, after 0.1 s", "s", None, KILLED, worst=True),
    pairs.Figure("waiter", "shmkit", "%", 0.005, "C: share of a processor that a blocked waiter uses", worst=True),
    pairs.Figure("many", "made", "", None, "C: creating 10,000 locks, per lock, relative to the first 1,000"),
    *(
        pairs.Figure("python contended", f"{name}: lesser share", "%", None, "Python: smaller share of two processes")
        for name in ("shmkit", "multiprocessing", "posix_ipc")
    ),
]

# The seconds that helpers work in a turn, and the number of rounds to which its time is scaled.
WORK = 0.1
ROUNDS = 100_000


def semaphore():
    """Return a posix_ipc semaphore of value 1 whose name is removed."""
    made = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    made.unlink()
    return made


def bench_alone(count, samples):
    """Measure an uncontended lock."""
    locks = {"shmkit": shmkit.Lock(), "multiprocessing": multiprocessing.Lock(), "posix_ipc": semaphore()}
    recursive = {"shmkit": shmkit.RLock(), "multiprocessing": multiprocessing.RLock()}
    for bench, contender, made in (
        ("python alone", pairs.acquire_release, locks),
        ("python with", pairs.enter_exit, {**locks, "nothing": compiled.Nothing()}),
        ("python RLock", pairs.acquire_release, recursive),
    ):
        samples.measure(bench, {name: contender(lock) for name, lock in made.items()}, count)


# --- two processes ----------------------------------------------------------------------------------------------------


def contend(lock, shared):
    """Acquire and release the lock until the first byte is set; return the number of acquisitions."""
    count = 0
    while not shared[0]:
        with lock:
            count += 1
    return count


def increment(lock, shared):
    """Acquire, increment and release without the GIL until the first byte is set; return the count."""
    view = memoryview(shared)
    return compiled.until_stopped(lock, view[:1], view[64:72].cast("l"))


def idle(shared):
    """Keep a processor and the GIL of this process busy until the first byte is set."""
    while not shared[0]:
        pass


def with_busy_thread(work):
    """Return `work` with a second thread that runs Python in the same process."""

    def both(lock, shared):
        thread = threading.Thread(target=idle, args=(shared,))
        thread.start()
        try:
            return work(lock, shared)
        finally:
            thread.join()

    return both


def only_busy(_lock, shared):
    """Keep a processor busy without a lock."""
    idle(shared)
    return 0


class Helpers:
    """Processes that run jobs at the same time; each is bound to a processor."""

    def __init__(self, jobs):
        """Fork one process for each of `jobs`: a dict of contender to function of the shared bytes, or None."""
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.ends = []
        context = multiprocessing.get_context("fork")
        processors = sorted(os.sched_getaffinity(0))
        for number, job in enumerate(jobs):
            here, there = context.Pipe()
            arguments = (there, job, processors[number % len(processors)])
            process = context.Process(target=self.serve, args=arguments, daemon=True)
            process.start()
            there.close()
            self.ends.append((here, process))

    def serve(self, channel, job, processor):
        """Run the job of each contender that the channel names."""
        os.sched_setaffinity(0, {processor})
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            while True:
                work = job.get(channel.recv())
                channel.send("ready")
                if channel.recv() == "go":
                    channel.send(work(self.shared) if work else None)

    def counts(self, contender):
        """Run the jobs of a contender for WORK seconds; return the seconds, and the count of each process."""
        self.shared[0] = 0
        for word in (contender, "go"):
            for channel, _ in self.ends:
                channel.send(word)
            if word != "go":
                for channel, _ in self.ends:
                    channel.recv()
        begin = time.perf_counter()
        time.sleep(WORK)
        took = time.perf_counter() - begin
        self.shared[0] = 1
        return took, [count for count in (channel.recv() for channel, _ in self.ends) if count is not None]

    def contender(self, name, note=None):
        """Return a contender; `note` is called with the counts of the helpers."""

        def turn(rounds):
            took, counts = self.counts(name)
            if note:
                note(counts)
            return took * rounds / max(sum(counts), 1)

        return turn

    def close(self):
        """Kill the processes."""
        for channel, process in self.ends:
            channel.close()
            process.kill()
            process.join()


def bind(work, lock):
    """Return `work` with its lock bound."""
    return lambda shared: work(lock, shared)


def bench_contended(count, samples):
    """Measure a lock under contention of two processes."""
    locks = {"shmkit": shmkit.Lock(), "multiprocessing": multiprocessing.Lock(), "posix_ipc": semaphore()}
    job = {name: bind(contend, lock) for name, lock in locks.items()}
    helpers = Helpers([job, job])

    def note(name):
        def share(counts):
            figure = {f"{name}: lesser share": min(counts) / max(sum(counts), 1)}
            samples.add_figure("python contended", figure)

        return share

    try:
        contenders = {name: helpers.contender(name, note(name)) for name in job}
        samples.measure("python contended", contenders, count, ROUNDS)
    finally:
        helpers.close()


def bench_nogil(count, samples):
    """Measure increments without the GIL, with and without a thread of the same process that runs Python."""
    lock, other = shmkit.Lock(), multiprocessing.Lock()
    job = {
        "busy thread": bind(with_busy_thread(increment), lock),
        "busy process": bind(increment, lock),
        "nothing else": bind(increment, lock),
        "multiprocessing, busy thread": bind(with_busy_thread(contend), other),
    }
    busy = {"busy process": bind(only_busy, None)}
    # The third and fourth helper use as much processor time as the busy threads, but in processes of their own.
    helpers = Helpers([job, job, busy, busy])
    try:
        contenders = {name: helpers.contender(name) for name in job}
        samples.measure("python nogil", contenders, count, ROUNDS)
    finally:
        helpers.close()


FROM_PYTHON = {"python alone": bench_alone, "python contended": bench_contended, "python nogil": bench_nogil}

if __name__ == "__main__":
    pairs.main(__doc__, "locks", from_python=FROM_PYTHON, comparisons=COMPARISONS, wanted=FIGURES)
