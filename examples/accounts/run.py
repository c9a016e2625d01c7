"""Four processes transfer money in one typed memoryview, under one lock, and one is killed inside a transfer.

    python examples/accounts/run.py [--transfers N]

It needs shmkit, Cython and setuptools. It exits with 0 if the total of all accounts is unchanged. It removes its files.
"""

import argparse
import importlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import shmkit

HERE = pathlib.Path(__file__).resolve().parent
WORKERS = 4
ACCOUNTS = 1000
START = 100.0
SPAWN = multiprocessing.get_context("spawn")
WATCHDOG = 60.0


def build(folder):
    """Compile accounts.pyx into a folder and make it importable."""
    how = ["--build-lib", folder, "--build-temp", folder, "--cython-c-in-temp"]
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", *how], cwd=HERE, check=True)
    sys.path.insert(0, str(folder))


def work(folder, shm, lock, orders):
    """Make transfers in a segment and under a lock that were both pickled for this process."""
    sys.path.insert(0, str(folder))
    accounts = importlib.import_module("accounts")
    deaths = accounts.make_transfers(lock, shm.view("d", (2, ACCOUNTS)), *orders)
    print(f"process {os.getpid()}: all transfers made, took over from {deaths} dead owners", flush=True)


def wait_until(condition, what):
    """Wait until a condition holds."""
    end = time.monotonic() + WATCHDOG
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"timed out after {WATCHDOG:.0f} s: {what}")
        time.sleep(0.001)


def run(folder, transfers):
    """Run all processes, kill one, and return whether the balances are right."""
    accounts = importlib.import_module("accounts")
    with shmkit.SharedMemory(create=True, size=2 * ACCOUNTS * 8, anonymous=True, managed=True) as shm:
        table = shm.view("d", (2, ACCOUNTS))
        for account in range(ACCOUNTS):
            table[0, account] = START
        # A built-in, a placed or an unnamed lock would all do here.
        lock = shmkit.Lock()
        workers = [
            SPAWN.Process(target=work, args=(folder, shm, lock, (transfers, seed))) for seed in range(1, WORKERS)
        ]
        doomed = SPAWN.Process(target=work, args=(folder, shm, lock, (transfers, WORKERS, transfers // 2)))
        try:
            doomed.start()
            wait_until(lambda: lock.owner == doomed.pid and accounts.is_half_done(table), "the transfer is half done")
            # The others start only now: started earlier, they could finish before the doomed process arrives.
            for worker in workers:
                worker.start()
            wait_until(lambda: lock.stat().contended_since is not None, "a process waits for the lock")
            os.kill(doomed.pid, signal.SIGKILL)
            print(f"process {doomed.pid}: killed between the two halves of a transfer", flush=True)
            for worker in [doomed, *workers]:
                worker.join(WATCHDOG)
            ended_well = all(worker.exitcode == 0 for worker in workers)
        finally:
            for worker in [doomed, *workers]:
                if worker.is_alive():
                    worker.kill()
                    worker.join()
        with lock:
            total = sum(table[0, account] for account in range(ACCOUNTS))
        stat = lock.stat()
        begun = START * ACCOUNTS
        print(
            f"{stat.acquisitions} acquisitions, {stat.contended} after waiting, {stat.recoveries} after a death; "
            f"{total:.0f} in all accounts, {begun:.0f} at the start"
        )
        return ended_well and stat.recoveries == 1 and total == begun


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transfers", type=int, default=200_000, help="transfers of each process (%(default)s)")
    arguments = parser.parse_args()
    if arguments.transfers < 1:
        parser.error(f"--transfers must be at least one, not {arguments.transfers}")
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        sys.exit(0 if run(folder, arguments.transfers) else "the total of the accounts changed, or a process failed")


if __name__ == "__main__":
    main()
