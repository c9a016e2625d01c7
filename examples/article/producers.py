"""Producers and consumers: a Queue between them, and a consumer that is killed with a number in its hands.

    python examples/article/producers.py [--numbers N]

What articles write with a lock, a list and two Conditions is put and get. Who leases a number, instead of getting it,
may die: another consumer gets it, and is told that this is the second time.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal

import shmkit

PRODUCERS = 3
CONSUMERS = 2
ROOM = 16


def produce(queue, numbers):
    """Put the numbers into the queue."""
    for number in numbers:
        queue.put(number)


def consume(queue, sums, dies):
    """Take numbers out of the queue and add them up, until no more come; perhaps be killed over the first."""
    total = again = 0
    with contextlib.suppress(shmkit.ShutDown):
        while True:
            with queue.lease() as message:
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                total += message.get()
                again += message.attempts > 1
    sums.put((total, again))


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=5_000, help="how many each producer makes (%(default)s)")
    numbers = range(1, parser.parse_args().numbers + 1)
    queue, sums = shmkit.Queue(maxsize=ROOM), shmkit.Queue()
    doomed = multiprocessing.Process(target=consume, args=(queue, sums, True))
    consumers = [multiprocessing.Process(target=consume, args=(queue, sums, False)) for _ in range(CONSUMERS)]
    producers = [multiprocessing.Process(target=produce, args=(queue, numbers)) for _ in range(PRODUCERS)]
    for process in [doomed, *producers]:
        process.start()
    doomed.join()
    for process in consumers:
        process.start()
    for process in producers:
        process.join()
    queue.shutdown()
    found = [sums.get() for _ in consumers]
    for process in consumers:
        process.join()
    total, again = map(sum, zip(*found))
    print(f"{total} taken out, {PRODUCERS * sum(numbers)} put in; {again} for the second time")


if __name__ == "__main__":
    main()
