"""Ten threads share one Lock: a lock between processes is also a lock between threads.

python examples/article/threads.py [--times N]
"""

import argparse
import threading

import shmkit


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10_000, help="deposits of each thread (%(default)s)")
    times = parser.parse_args().times
    lock = shmkit.Lock()
    balance = [0]

    def deposit():
        for _ in range(times):
            with lock:
                seen = balance[0]
                balance[0] = seen + 1

    threads = [threading.Thread(target=deposit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stat = lock.stat()
    print(f"{balance[0]} of {10 * times}; {stat.acquisitions} acquisitions, {stat.contended} of them after waiting")


if __name__ == "__main__":
    main()
