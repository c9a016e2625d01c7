"""Send tiles of the picture through a queue to workers and back; kill one worker that holds a lease."""

import contextlib
import importlib
import os
import queue
import signal
import struct
import time

import numpy
import shmkit
from story import SPAWN, processes_in_words, require, say

# The header of a message: row, column, height, width, number of leases, time of the last lease. The pixels follow.
HEAD = struct.Struct("=6Q16x")
SIDE = 64
# How long answers wait behind the open reservation before its process is killed.
WAIT_SECONDS = 0.1
NS_PER_MS = 1e6


def tiles_of(sheet):
    """Return row, column, height and width of all tiles."""
    return [
        (row, column, min(SIDE, sheet.height - row), min(SIDE, sheet.width - column))
        for row in range(0, sheet.height, SIDE)
        for column in range(0, sheet.width, SIDE)
    ]


def size_of(tile):
    """Return the size in bytes of the message for a tile."""
    return HEAD.size + tile[2] * tile[3] * 3 * 8


def pixels_in(message, tile):
    """Return the pixels in a message as an array, without a copy."""
    return numpy.ndarray((*tile[2:], 3), numpy.float64, buffer=message, offset=HEAD.size)


def write_head(message, tile, attempts=0, leased=0):
    """Write the header of a message."""
    HEAD.pack_into(message, 0, *tile, attempts, leased)


def read(message):
    """Return a message's tile, its number of leases, the time of the last lease, and its pixels in place."""
    *tile, attempts, leased = HEAD.unpack_from(message)
    return tuple(tile), attempts, leased, pixels_in(message, tile)


def tiles_through_a_queue(plan, sheet, picture):
    """Send tiles to workers and back; kill a worker that leased a tile and reserved its answer."""
    plan.step("Send tiles of it through a queue, and kill a worker that holds a lease")
    tiles = tiles_of(sheet)
    workers = importlib.import_module("workers")
    with plan.ending.held():
        tasks, answers = shmkit.Queue(), shmkit.Queue()
        plan.removals.callback(answers.close)
        plan.removals.callback(tasks.close)
    say(f"""{len(tiles)} tiles are written in place into a shmkit.Queue: reserve, fill, commit. A worker leases a tile,
        reads it in place, and writes its result into a reservation of another queue. Only then does it acknowledge the
        lease. One worker more than {processes_in_words(plan)} takes part. It gets SIGKILL while it holds a lease and an
        open reservation. Later answers wait until that process is dead.""")
    for tile in tiles:
        row, column, height, width = tile
        with tasks.reserve(size_of(tile)) as message:
            write_head(message, tile)
            pixels_in(message, tile)[:] = picture[row : row + height, column : column + width]
    doomed = SPAWN.Process(target=workers.tone_tiles, args=(tasks, answers, True), name="the doomed worker")
    others = [
        SPAWN.Process(target=workers.tone_tiles, args=(tasks, answers, False), name=f"worker {worker}")
        for worker in range(plan.workers)
    ]
    with plan.ending.held():
        plan.removals.callback(plan.ending.kill, [doomed, *others])
        plan.ending.start([doomed])
    wait_until(plan, lambda: answers.stat().held_up_by == doomed.pid)
    with plan.ending.held():
        plan.ending.start(others)
    wait_until(plan, lambda: answers.stat().puts > 1)
    time.sleep(WAIT_SECONDS)
    with plan.ending.held():
        plan.ending.expect_death(doomed)
        killed = time.monotonic_ns()
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.join()
    tasks.shutdown()
    toned, redelivered = collect(plan, answers, len(tiles), picture)
    for worker in others:
        while worker.is_alive():
            worker.join(0.1)
            plan.ending.check()
    require(len(redelivered) == 1, f"{len(redelivered)} tiles were redelivered, not one")
    require(tasks.join(timeout=0), "the queue still contains tasks")
    expected = numpy.empty_like(picture)
    importlib.import_module("filter").tone(picture, expected, 0, sheet.height)
    require(numpy.array_equal(toned, expected), "the tiles differ from the result of one process")
    delay = (redelivered[0] - killed) / NS_PER_MS
    say(f"""Process {doomed.pid} was killed. After {delay:.1f} ms another worker leased its tile, with attempts == 2.
        All {len(tiles)} tiles came back, once each. The picture equals the result of one process. With
        multiprocessing.Queue the tile would be lost, or the queue would stay locked forever.""")


def collect(plan, answers, count, picture):
    """Assemble the tiles; return the picture and the lease times of all redelivered tiles."""
    toned, redelivered = numpy.full_like(picture, numpy.nan), []
    done = set()
    while len(done) < count:
        plan.ending.check()
        with contextlib.suppress(queue.Empty), answers.lease(timeout=0.5) as answer:
            tile, attempts, leased, pixels = read(answer.data)
            require(tile not in done, f"tile {tile} came back twice")
            done.add(tile)
            row, column, height, width = tile
            toned[row : row + height, column : column + width] = pixels
            if attempts > 1:
                redelivered.append(leased)
    return toned, redelivered


def wait_until(plan, condition):
    """Wait until a condition holds; raise after a signal or the death of a worker."""
    while not condition():
        plan.ending.check()
        time.sleep(0.002)
