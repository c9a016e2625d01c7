"""Producers and consumers: a ring of numbers in a segment, and two Conditions that say when to look again.

    python examples/article/producers.py [--numbers N]

This is what a bounded queue does inside. shmkit's own Queue will stand here in its place once there is one; until then,
and for whoever has another order in mind than a queue's, this is the pattern.
"""

import argparse
import multiprocessing

import shmkit

ROOM = 16
PRODUCERS = 3
CONSUMERS = 2
# Where things stand in the segment, in words of eight bytes: the ring comes behind them.
TAKEN, PUT, SUM, RING = range(4)
END = 2**64 - 1


def produce(shm, not_full, not_empty, numbers):
    """Put the numbers from 1 on into the ring."""
    words = shm.view("Q")
    for number in numbers:
        with not_full:
            not_full.wait_for(lambda: words[PUT] - words[TAKEN] < ROOM)
            words[RING + words[PUT] % ROOM] = number
            words[PUT] += 1
            not_empty.notify()


def consume(shm, not_full, not_empty):
    """Take numbers out of the ring and add them up, until the end comes."""
    words = shm.view("Q")
    while True:
        with not_empty:
            not_empty.wait_for(lambda: words[PUT] > words[TAKEN])
            number = words[RING + words[TAKEN] % ROOM]
            words[TAKEN] += 1
            not_full.notify()
            if number == END:
                return
            words[SUM] += number


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=5_000, help="how many each producer makes (%(default)s)")
    numbers = range(1, parser.parse_args().numbers + 1)
    # Both share one lock, which guards the words.
    lock = shmkit.Lock()
    not_full, not_empty = shmkit.Condition(lock), shmkit.Condition(lock)
    with shmkit.SharedMemory(create=True, size=8 * (RING + ROOM), anonymous=True) as shm:
        consumers = [multiprocessing.Process(target=consume, args=(shm, not_full, not_empty)) for _ in range(CONSUMERS)]
        producers = [
            multiprocessing.Process(target=produce, args=(shm, not_full, not_empty, numbers)) for _ in range(PRODUCERS)
        ]
        for process in [*consumers, *producers]:
            process.start()
        for process in producers:
            process.join()
        produce(shm, not_full, not_empty, [END] * CONSUMERS)
        for process in consumers:
            process.join()
        total = shm.view("Q")[SUM]
    print(f"{total} taken out, {PRODUCERS * sum(numbers)} put in")


if __name__ == "__main__":
    main()
