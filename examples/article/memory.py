"""How much shared memory this process and this machine use, and what the figures of others mean.

    python examples/article/memory.py [--size MIB]

It needs psutil. The articles print psutil's memory_info().shared and take it for the shared memory of the program. It
is something else: the pages of files, the program and its libraries among them, that this process has touched.
"""

import argparse

import psutil
import shmkit

MIB = 1 << 20


def mapped():
    """Return how many bytes of segments this process has mapped, and how many of them it has touched."""
    maps = [
        entry
        for entry in psutil.Process().memory_maps(grouped=False)
        if entry.path.startswith(("/dev/shm/", "/memfd:"))
    ]
    return sum(entry.size for entry in maps), sum(entry.rss for entry in maps)


def show(when):
    """Print the figures that change."""
    limits = shmkit.limits()
    size, touched = mapped()
    shared = psutil.Process().memory_info().shared
    print(
        f"{when:26} {size / MIB:10.1f} {touched / MIB:10.1f} {shared / MIB:10.1f} "
        f"{psutil.virtual_memory().shared / MIB:10.1f} {limits.memory_available / MIB:12.1f}"
    )
    return shared


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="MiB of the segment it makes (%(default)s)")
    size = parser.parse_args().size * MIB
    print(shmkit.limits())
    print(f"{'MiB':26} {'mapped':>10} {'touched':>10} {'psutil':>10} {'machine':>10} {'available':>12}")
    before = show("before")
    with shmkit.SharedMemory(create=True, size=size) as shm:
        made = show("made, not touched")
        shm.buf[:] = bytes(size)
        touched = show("touched")
        shm.unlink()
    show("closed and unlinked")
    print(f"""
Making it took {size / MIB:.0f} MiB from the machine at once: shmkit sets memory aside before anybody can touch it.
psutil's figure of this process grew by {(made - before) / MIB:.1f} MiB then, and by {(touched - made) / MIB:.1f} MiB
when it was touched: it counts what is mapped from files and has been touched, in each process anew.
{before / MIB:.1f} MiB of it were there before: the program and its libraries. So it says neither what a program shares
nor what is left.
machine: psutil.virtual_memory().shared, all of /dev/shm and all memory files, whoever made them.
available: shmkit.limits().memory_available. What the next segment can have is the first line above.""")


if __name__ == "__main__":
    main()
