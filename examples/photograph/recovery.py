"""Kill a worker while it owns the lock of a shared ledger; the others recover and complete the work."""

import importlib
import os
import signal
import time

import numpy
import shmkit
from ledger import BANDS, OWNER, RECOVERED, Ledger
from story import SPAWN, processes_in_words, require, say

# Rows of a band. A small picture has bands of fewer rows, so that each worker gets several.
ROWS = 16
# How long the other workers wait for the lock before its owner is killed.
WAIT_SECONDS = 0.1
NS_PER_MS = 1e6


def survive_a_death(plan, shm, sheet, picture):
    """Tone the picture band by band; kill a worker between the two stores of a ledger entry."""
    plan.step("Kill a worker while it owns the lock that all workers need")
    bands = max(sheet.height // ROWS, 4 * plan.workers)
    say(f"""A ledger assigns {bands} bands to workers. It is stored in a managed segment and guarded by that segment's
        lock. Two figures of the ledger must agree. One worker more than {processes_in_words(plan)} takes part; under
        the lock it writes only the first figure. It then gets SIGKILL, while the others wait for the lock.""")
    workers = importlib.import_module("workers")
    sheet.picture(shm, 0)[:] = picture
    sheet.picture(shm, 1)[:] = numpy.nan
    with plan.ending.held():
        segment = shmkit.SharedMemory(f"{plan.name}-ledger", create=True, size=Ledger.size(bands), managed=True)
        plan.removals.callback(segment.close)
        plan.removals.callback(segment.unlink)
    ledger = Ledger(segment, bands)
    arguments = (shm.name, segment.name, bands)
    doomed = SPAWN.Process(target=workers.tone_by_ledger, args=(*arguments, True), name="the doomed worker")
    others = [
        SPAWN.Process(target=workers.tone_by_ledger, args=(*arguments, False), name=f"worker {worker}")
        for worker in range(plan.workers)
    ]
    with plan.ending.held():
        plan.removals.callback(plan.ending.kill, [doomed, *others])
        plan.ending.start([doomed])
    wait_until(plan, lambda: ledger.lock.owner == doomed.pid and ledger.words[OWNER] == doomed.pid)
    wait_until(plan, lambda: any(ledger.words[BANDS + band] == doomed.pid for band in range(bands)))
    with plan.ending.held():
        plan.ending.start(others)
    wait_until(plan, lambda: ledger.lock.stat().contended_since)
    time.sleep(WAIT_SECONDS)
    with plan.ending.held():
        plan.ending.expect_death(doomed)
        killed = time.monotonic_ns()
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.join()
    for worker in others:
        while worker.is_alive():
            worker.join(0.1)
            plan.ending.check()
    plan.ending.check()
    stat = ledger.lock.stat()
    require(stat.recoveries == 1, f"the lock was recovered {stat.recoveries} times, not once")
    require(ledger.is_complete(), "the ledger is incomplete or inconsistent")
    expected = numpy.empty_like(picture)
    importlib.import_module("filter").tone(picture, expected, 0, sheet.height)
    require(numpy.array_equal(sheet.picture(shm, 1), expected), "the bands differ from the result of one process")
    delay = (ledger.words[RECOVERED] - killed) / NS_PER_MS
    say(f"""Process {doomed.pid} was killed. After {delay:.1f} ms another worker acquired the lock with OwnerDied,
        repaired the ledger and freed the band of the dead process. All {bands} bands are done, once each. The picture
        equals the result of one process. With multiprocessing.Lock all workers would hang forever.""")


def wait_until(plan, condition):
    """Wait until a condition holds; raise after a signal or the death of a worker."""
    while not condition():
        plan.ending.check()
        time.sleep(0.002)
