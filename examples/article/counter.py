"""A shared counter: four processes increment it under one lock, and one of them is killed.

    python examples/article/counter.py [--times N]

Articles use a Value and its get_lock(). If a process dies while it holds that lock, all others hang forever.
"""

import argparse
import multiprocessing
import os
import signal

import shmkit


def count(shm, lock, times):
    """Increment the counter `times` times."""
    counter = shm.view("Q")
    for _ in range(times):
        with lock:
            counter[0] += 1


def count_until_killed(shm, lock):
    """Increment the counter once, then die while holding the lock."""
    with lock:
        shm.view("Q")[0] += 1
        os.kill(os.getpid(), signal.SIGKILL)


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50_000, help="increments of each process (%(default)s)")
    times = parser.parse_args().times
    # Each increment leaves the counter consistent, so the next owner has nothing to repair.
    lock = shmkit.Lock(on_owner_death="recover")
    with shmkit.SharedMemory(create=True, size=8, anonymous=True) as shm:
        workers = [multiprocessing.Process(target=count, args=(shm, lock, times)) for _ in range(3)]
        workers.append(multiprocessing.Process(target=count_until_killed, args=(shm, lock)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with lock:
            total = shm.view("Q")[0]
    print(f"{total} of {3 * times + 1}; {lock.stat().recoveries} owner died")


if __name__ == "__main__":
    main()
