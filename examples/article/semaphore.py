"""A Semaphore(3) admits three of eight processes at a time, and one process dies while it holds a permit.

    python examples/article/semaphore.py [--visits N]

Articles use multiprocessing.Semaphore(3). Each process that dies while it holds a permit takes that permit away
forever; after three deaths every acquire() hangs. With undo=True the permits of dead processes are reclaimed.
"""

import argparse
import multiprocessing
import os
import signal
import time

import shmkit

PERMITS = 3
VISITORS = 8


def visit(permits, lock, shm, visits, dies):
    """Enter and leave `visits` times, and record how many processes are inside."""
    inside = shm.view("Q")
    for _ in range(visits):
        with permits:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            with lock:
                inside[0] += 1
                inside[1] = max(inside[:])
            time.sleep(0.001)
            with lock:
                inside[0] -= 1


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=100, help="visits of each process (%(default)s)")
    visits = parser.parse_args().visits
    permits, lock = shmkit.Semaphore(PERMITS, undo=True), shmkit.Lock()
    with shmkit.SharedMemory(create=True, size=16, anonymous=True) as shm:
        visitors = [
            multiprocessing.Process(target=visit, args=(permits, lock, shm, visits, visitor == 0))
            for visitor in range(VISITORS)
        ]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        now, most = shm.view("Q")
    # A dead holder is noticed only by an acquire() that finds no permit, so acquire all three.
    with permits, permits, permits:
        pass
    print(f"{now} inside, {most} at most; {permits.stat().recoveries} permit reclaimed; {permits.get_value()} free")


if __name__ == "__main__":
    main()
