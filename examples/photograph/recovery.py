"""Workers share a ledger under a lock, and one is killed while it holds it: the others go on, nothing is missing."""

import importlib
import os
import signal
import time

import numpy
import shmkit
from ledger import BANDS, IN_CHARGE, RECOVERED, Ledger
from story import SPAWN, processes_in_words, require, say

# Rows of a band, or fewer where that makes too few of them to share.
ROWS = 16
# How long the others are left waiting for the one that will be killed.
MOMENT = 0.1
# In nanoseconds.
MILLISECOND = 1e6


def survive_a_death(plan, shm, sheet, picture):
    """Tone the picture band by band; kill a worker that has just written half an entry in the ledger."""
    plan.step("One of the workers is killed while it holds the lock that all of them need")
    bands = max(sheet.height // ROWS, 4 * plan.workers)
    say(f"""{bands} bands, and a ledger that says who does which, in a segment of its own with a lock in it. Two figures
        of the ledger must agree; one of {processes_in_words(plan)} and one more writes the first of them, under the
        lock, and not the second. There it gets SIGKILL, and the others are waiting for its lock.""")
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
    wait_until(plan, lambda: ledger.lock.owner == doomed.pid and ledger.words[IN_CHARGE] == doomed.pid)
    wait_until(plan, lambda: any(ledger.words[BANDS + band] == doomed.pid for band in range(bands)))
    with plan.ending.held():
        plan.ending.start(others)
    wait_until(plan, lambda: ledger.lock.stat().contended_since)
    time.sleep(MOMENT)
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
    require(stat.recoveries == 1, f"the lock was taken over {stat.recoveries} times, not once")
    require(ledger.is_right(), "the ledger contradicts itself")
    expected = numpy.empty_like(picture)
    importlib.import_module("filter").tone(picture, expected, 0, sheet.height)
    require(numpy.array_equal(sheet.picture(shm, 1), expected), "the bands do not give what one process gives")
    delay = (ledger.words[RECOVERED] - killed) / MILLISECOND
    say(f"""Process {doomed.pid} was killed; {delay:.1f} ms later another had its lock, was told that the owner had
        died, put the ledger right and gave the dead one's band to somebody else. All {bands} bands are done, once each,
        and the picture is what one process makes. With multiprocessing.Lock all of them would wait for ever.""")


def wait_until(plan, condition):
    """Wait until something is so; a signal or a death ends it."""
    while not condition():
        plan.ending.check()
        time.sleep(0.002)
