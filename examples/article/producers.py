"""Producers and consumers share a Queue, and one consumer is killed while it holds a lease.

    python examples/article/producers.py [--numbers N]

put() and get() replace the lock, the list and the two Conditions of the articles. If a consumer dies while it leases
a message, another consumer receives that message again, and `attempts` is then 2.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal

import shmkit

PRODUCERS = 3
CONSUMERS = 2
CAPACITY = 16


def produce(queue, numbers):
    """Put the numbers into the queue."""
    for number in numbers:
        queue.put(number)


def consume(queue, sums, dies):
    """Lease numbers and add them up until the queue shuts down; with `dies`, die while holding the first lease."""
    total = redelivered = 0
    with contextlib.suppress(shmkit.ShutDown):
        while True:
            with queue.lease() as message:
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)
                total += message.get()
                redelivered += message.attempts > 1
    sums.put((total, redelivered))


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=5_000, help="numbers of each producer (%(default)s)")
    numbers = range(1, parser.parse_args().numbers + 1)
    queue, sums = shmkit.Queue(maxsize=CAPACITY), shmkit.Queue()
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
    total, redelivered = map(sum, zip(*found))
    print(f"{total} received, {PRODUCERS * sum(numbers)} sent; {redelivered} redelivered")


if __name__ == "__main__":
    main()
