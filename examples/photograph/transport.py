"""Time the same work with the pixels sent through queues and with the pixels in shared memory."""

import contextlib
import importlib
import queue
import statistics
import time

import numpy
from story import MB, SPAWN, require, say


def time_transport(plan, shm, sheet, picture):
    """Time a cheap filter with its pixels sent through queues and with its pixels in shared memory."""
    plan.step("Do the same work with the pixels sent through queues")
    say(f"""This filter is cheap, so that transporting the pixels to the workers and back is most of the work. There
        are three ways. In each, tasks go through one multiprocessing.Queue and answers through another. The first way
        also sends the pixels, pickled. Median of {plan.repetitions} runs:""")
    tasks, answers, processes = start_toning(plan, shm)
    bands = [sheet.band(worker, plan.workers) for worker in range(plan.workers)]
    source, result = sheet.picture(shm, 0), sheet.picture(shm, 1)
    source[:] = picture
    own = numpy.empty_like(picture)

    def pickled():
        for first, last in bands:
            tasks.put((first, last, picture[first:last]))
        for _ in bands:
            first, last, pixels = answer_from(plan, answers)
            own[first:last] = pixels
        return own

    def left():
        for first, last in bands:
            tasks.put((first, last, None))
        for _ in bands:
            answer_from(plan, answers)
        return result

    def copied():
        source[:] = picture
        own[:] = left()
        return own

    ways = {
        "pickled, through two queues": pickled,
        "copied into shared memory and out again": copied,
        "left in shared memory, where they are": left,
    }
    measured = {name: measure(plan, way, (own, result)) for name, way in ways.items()}
    for _ in processes:
        tasks.put(None)
    for process in processes:
        process.join()
    print_table(picture.nbytes, {name: seconds for name, (seconds, _) in measured.items()})
    pictures = [toned for _, toned in measured.values()]
    require(all(numpy.array_equal(toned, pictures[0]) for toned in pictures), "the three ways give different pictures")
    say("All three ways gave the same picture. Each time includes the filter itself.")


def start_toning(plan, shm):
    """Start workers that wait for tasks; return the task queue, the answer queue and the processes."""
    workers = importlib.import_module("workers")
    with plan.ending.held():
        tasks, answers = SPAWN.Queue(), SPAWN.Queue()
        processes = [
            SPAWN.Process(target=workers.tone_bands, args=(shm.name, tasks, answers), name=f"worker {worker}")
            for worker in range(plan.workers)
        ]
        plan.removals.callback(close_queues, tasks, answers)
        plan.removals.callback(plan.ending.kill, processes)
        plan.ending.start(processes)
    for _ in processes:
        require(answer_from(plan, answers) == "ready", "a worker is not ready")
    return tasks, answers, processes


def measure(plan, way, results):
    """Return the median seconds of a way, and the picture that it computed."""
    seconds = []
    for _ in range(plan.repetitions):
        for result in results:
            result[:] = numpy.nan
        begin = time.perf_counter()
        made = way()
        seconds.append(time.perf_counter() - begin)
        plan.ending.check()
    return statistics.median(seconds), made.copy()


def answer_from(plan, answers):
    """Return the next answer; raise if a worker died."""
    while True:
        plan.ending.check()
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=0.5)


def close_queues(*queues):
    """Close queues and discard their unread messages."""
    for each in queues:
        each.cancel_join_thread()
        each.close()


def print_table(size, measured):
    """Print the times, and how many times as fast each is as the first."""
    head = f"{size / MB:.1f} MB of pixels, there and back"
    print(f"\n   {head:42}{'time':>10}{'times as fast':>16}")
    first = next(iter(measured.values()))
    for name, seconds in measured.items():
        print(f"   {name:42}{seconds * 1000:7.1f} ms{first / seconds:16.1f}")
    print(flush=True)
