"""What the worker processes run. They are given a name and a number; everything else they find in the segment."""

import contextlib
import multiprocessing
import time

import filter  # filter.pyx
import shmkit
from ledger import Ledger
from sheet import Sheet, counter_offset
from tiles import pixels_in, read, size_of, write_head

# Rows between two steps of the progress bar, and between two chances for a signal to be handled.
STEP = 16
# The filter looks at pixels this far apart: neighbours, where a picture is so wide, and further ones where it is wider.
WIDTH = 512


def do_round(source, result, rows, number, rounds):
    """Do one round of the filter for some rows, and yield how many are done after every few."""
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
    """Wait until every worker has counted as far as it stands in `counts`."""
    for worker, count in enumerate(counts):
        while filter.load(shm, counter_offset(worker)) < count:
            time.sleep(0.0005)


def filter_band(name, worker, workers, rounds):
    """Filter one band in all rounds: a round reads one picture of the segment and writes the other.

    A worker counts 1 when it has attached, then its rows. A round reads a few rows of the bands above and below, so it
    begins when every worker has finished the round before.
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
    """Tone bands until told to end: those that come through the queue, and those that lie in the segment."""
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
    """Tone bands as long as the ledger has one; the doomed worker never gets further than its second entry."""
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
    """Tone tiles until no more come; the doomed worker gets no further than its first."""
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
