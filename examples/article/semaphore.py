"""A Semaphore(3) that limits who is inside: eight processes, three places, and one process that dies in there.

    python examples/article/semaphore.py [--visits N]

The articles have multiprocessing.Semaphore(3): each process that is killed inside takes its place with it for ever,
after three of them nobody gets in. With undo=True the dead's places come back.
"""

import argparse
import multiprocessing
import os
import signal
import time

import shmkit

PLACES = 3
GUESTS = 8


def visit(places, lock, shm, visits, dies):
    """Go in and out, and note how many are inside."""
    inside = shm.view("Q")
    for _ in range(visits):
        with places:
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            with lock:
                inside[0] += 1
                inside[1] = max(inside[:])
            time.sleep(0.001)
            with lock:
                inside[0] -= 1


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=100, help="how often each process goes in (%(default)s)")
    visits = parser.parse_args().visits
    places, lock = shmkit.Semaphore(PLACES, undo=True), shmkit.Lock()
    with shmkit.SharedMemory(create=True, size=16, anonymous=True) as shm:
        guests = [
            multiprocessing.Process(target=visit, args=(places, lock, shm, visits, guest == 0))
            for guest in range(GUESTS)
        ]
        for guest in guests:
            guest.start()
        for guest in guests:
            guest.join()
        now, most = shm.view("Q")
    # Somebody must ask before it is known that one has died: whoever finds no place does.
    with places, places, places:
        pass
    print(f"{now} inside, {most} at the most; {places.stat().recoveries} place came back; {places.get_value()} free")


if __name__ == "__main__":
    main()
