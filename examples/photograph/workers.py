"""The functions of the worker processes. They read the layout of the picture from the segment."""

import contextlib
import multiprocessing
import time

import filter  # filter.pyx
import shmkit
from ledger import Ledger
from sheet import Sheet, counter_offset
from tiles import pixels_in, read, size_of, write_head

# Rows between two updates of the progress bar, and between two points where Python handles signals.
STEP = 16
# A picture of this width is filtered with adjacent pixels; a wider one with pixels further apart.
WIDTH = 512


def do_round(source, result, rows, number, rounds):
    """Filter some rows for one round, and yield the number of completed rows after each STEP."""
    first, last = rows
    spacing = max(source.shape[1] // WIDTH, 1)
    for start in range(first, last, STEP):
        end = min(start + STEP, last)
        if number < rounds - 1:
            filter.smooth(source, result, start, end, 1 + number % spacing)
        else:
            filter.draw(source, result, start, end, spacing)
        yield end - first


def wait_for_all(shm, counts):
    """Wait until the counter of every worker reaches its value in `counts`."""
    for worker, count in enumerate(counts):
        while filter.load(shm, counter_offset(worker)) < count:
            time.sleep(0.0005)


def filter_band(name, worker, workers, rounds):
    """Filter one band in all rounds; each round reads one picture of the segment and writes the other.

    A worker sets its counter to 1 after it opened the segment, then adds its rows. A round also reads rows of the
    neighbouring bands, so it begins after every worker has finished the round before.
    """
    filter.end_with_parent(multiprocessing.parent_process().pid)
    with shmkit.SharedMemory(name) as shm:
        sheet = Sheet.read_head(shm)
        pictures = [shm.view("d", sheet.shape, sheet.offset(which)) for which in range(2)]
        bands = [sheet.band(other, workers) for other in range(workers)]
        height = bands[worker][1] - bands[worker][0]
        filter.store(shm, counter_offset(worker), 1)
        for number in range(rounds):
            wait_for_all(shm, [1 + number * (last - first) for first, last in bands])
            source, result = pictures[number % 2], pictures[1 - number % 2]
            for done in do_round(source, result, bands[worker], number, rounds):
                filter.store(shm, counter_offset(worker), 1 + number * height + done)


def tone_bands(name, tasks, answers):
    """Tone bands until a task is None; the pixels come with the task or are those of the segment."""
    filter.end_with_parent(multiprocessing.parent_process().pid)
    with shmkit.SharedMemory(name) as shm:
        sheet = Sheet.read_head(shm)
        source, result = (sheet.picture(shm, which) for which in range(2))
        answers.put("ready")
        while (task := tasks.get()) is not None:
            first, last, pixels = task
            if pixels is None:
                filter.tone(source, result, first, last)
            else:
                filter.tone(pixels, pixels, 0, last - first)
            answers.put((first, last, pixels))


def tone_by_ledger(name, ledger_name, bands, doomed):
    """Tone bands while the ledger has a free one; the doomed worker stops inside its second entry."""
    filter.end_with_parent(multiprocessing.parent_process().pid)
    with shmkit.SharedMemory(name) as shm, shmkit.SharedMemory(ledger_name) as segment:
        sheet = Sheet.read_head(shm)
        source, result = (sheet.picture(shm, which) for which in range(2))
        ledger = Ledger(segment, bands)
        count = 0
        while (band := ledger.take(stay=doomed and count == 1)) is not None:
            filter.tone(source, result, *sheet.band(band, bands))
            ledger.done(band)
            count += 1


def tone_tiles(tasks, answers, doomed):
    """Tone tiles until the queue shuts down; the doomed worker stops inside its first tile."""
    filter.end_with_parent(multiprocessing.parent_process().pid)
    with contextlib.suppress(shmkit.ShutDown):
        while True:
            with tasks.lease() as task:
                leased = time.monotonic_ns()
                tile, _, _, pixels = read(task.data)
                with answers.reserve(size_of(tile)) as answer:
                    while doomed:
                        time.sleep(1)
                    write_head(answer, tile, task.attempts, leased)
                    filter.tone(pixels, pixels_in(answer, tile), 0, tile[2])
