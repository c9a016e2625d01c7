"""Tiles of the picture go through a queue to workers and back, and one worker is killed holding a lease."""

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

# A message: where the tile stands and how large it is, how often it was leased, and when it was last; then its pixels.
HEAD = struct.Struct("=6Q16x")
SIDE = 64
# How long the others are left waiting behind what the one that will be killed has reserved.
MOMENT = 0.1
# In nanoseconds.
MILLISECOND = 1e6


def tiles_of(sheet):
    """Return row, column, height and width of all tiles."""
    return [
        (row, column, min(SIDE, sheet.height - row), min(SIDE, sheet.width - column))
        for row in range(0, sheet.height, SIDE)
        for column in range(0, sheet.width, SIDE)
    ]


def size_of(tile):
    """Return how many bytes the message of a tile has."""
    return HEAD.size + tile[2] * tile[3] * 3 * 8


def pixels_in(message, tile):
    """Return the pixels in a message as an array: no copy."""
    return numpy.ndarray((*tile[2:], 3), numpy.float64, buffer=message, offset=HEAD.size)


def write_head(message, tile, attempts=0, leased=0):
    """Say in a message what it is."""
    HEAD.pack_into(message, 0, *tile, attempts, leased)


def read(message):
    """Return a message's tile, how often it was leased and when, and its pixels where they lie."""
    *tile, attempts, leased = HEAD.unpack_from(message)
    return tuple(tile), attempts, leased, pixels_in(message, tile)


def tiles_through_a_queue(plan, sheet, picture):
    """Send tiles to workers and back; kill one that has leased a tile and reserved the answer."""
    plan.step("Tiles of it go through a queue, and a worker is killed holding one of them")
    tiles = tiles_of(sheet)
    workers = importlib.import_module("workers")
    with plan.ending.held():
        tasks, answers = shmkit.Queue(), shmkit.Queue()
        plan.removals.callback(answers.close)
        plan.removals.callback(tasks.close)
    say(f"""{len(tiles)} tiles are written straight into a shmkit.Queue: reserve, fill in place, commit. A worker leases
        one, reads it where it lies, and writes what it makes of it straight into the room that it has reserved in
        another queue; only then is the lease acknowledged. One of {processes_in_words(plan)} and one more gets SIGKILL
        in between, with a tile leased and its answer half made. Answers behind that wait until it is dead.""")
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
    time.sleep(MOMENT)
    with plan.ending.held():
        plan.ending.expect_death(doomed)
        killed = time.monotonic_ns()
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.join()
    tasks.shutdown()
    toned, again = collect(plan, answers, len(tiles), picture)
    for worker in others:
        while worker.is_alive():
            worker.join(0.1)
            plan.ending.check()
    require(len(again) == 1, f"{len(again)} tiles were leased twice, not one")
    require(tasks.join(timeout=0), "something is left in the queue")
    expected = numpy.empty_like(picture)
    importlib.import_module("filter").tone(picture, expected, 0, sheet.height)
    require(numpy.array_equal(toned, expected), "the tiles do not give what one process gives")
    delay = (again[0] - killed) / MILLISECOND
    say(f"""Process {doomed.pid} was killed; {delay:.1f} ms later another worker had its tile, and was told that this
        was the second time. All {len(tiles)} tiles have come back, once each, and the picture is what one process
        makes. With multiprocessing.Queue the tile would be gone, or the queue locked for ever.""")


def collect(plan, answers, count, picture):
    """Put the tiles together; return the picture, and when each tile was leased that was leased once more."""
    toned, again = numpy.full_like(picture, numpy.nan), []
    done = set()
    while len(done) < count:
        plan.ending.check()
        with contextlib.suppress(queue.Empty), answers.lease(timeout=0.5) as answer:
            tile, attempts, leased, pixels = read(answer.data)
            require(tile not in done, f"tile {tile} has come twice")
            done.add(tile)
            row, column, height, width = tile
            toned[row : row + height, column : column + width] = pixels
            if attempts > 1:
                again.append(leased)
    return toned, again


def wait_until(plan, condition):
    """Wait until something is so; a signal or a death ends it."""
    while not condition():
        plan.ending.check()
        time.sleep(0.002)
