"""Show how much shared memory this process and this machine use, and what psutil's figures mean.

    python examples/article/memory.py [--size MIB]

It needs psutil. Articles print psutil's memory_info().shared as the shared memory of the program. That figure counts
the pages of files that this process has touched, including the program and its libraries.
"""

import argparse

import psutil
import shmkit

MIB = 1 << 20


def mapped():
    """Return how many bytes of segments this process has mapped, and how many of these it has touched."""
    maps = [
        entry
        for entry in psutil.Process().memory_maps(grouped=False)
        if entry.path.startswith(("/dev/shm/", "/memfd:"))
    ]
    return sum(entry.size for entry in maps), sum(entry.rss for entry in maps)


def show(when):
    """Print one row of the table and return psutil's figure for this process."""
    limits = shmkit.limits()
    size, touched = mapped()
    shared = psutil.Process().memory_info().shared
    print(
        f"{when:26} {size / MIB:10.1f} {touched / MIB:10.1f} {shared / MIB:10.1f} "
        f"{psutil.virtual_memory().shared / MIB:10.1f} {limits.memory_available / MIB:12.1f}"
    )
    return shared


def main():
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="size of the segment in MiB (%(default)s)")
    size = parser.parse_args().size * MIB
    print(shmkit.limits())
    print(f"{'MiB':26} {'mapped':>10} {'touched':>10} {'psutil':>10} {'machine':>10} {'available':>12}")
    before = show("before")
    with shmkit.SharedMemory(create=True, size=size) as shm:
        created = show("created, not touched")
        shm.buf[:] = bytes(size)
        touched = show("touched")
        shm.unlink()
    show("closed and unlinked")
    print(f"""
Creating the segment took {size / MIB:.0f} MiB from the machine at once: shmkit reserves the memory of a segment.
psutil's figure for this process grew by {(created - before) / MIB:.1f} MiB at the creation, and by
{(touched - created) / MIB:.1f} MiB when the segment was touched. Each process counts the file pages that it touched.
{before / MIB:.1f} MiB were counted before the creation: the program and its libraries. The figure therefore shows
neither what a program shares nor what is left.
machine: psutil.virtual_memory().shared, all of /dev/shm and all memory files of every process.
available: shmkit.limits().memory_available. The first line above shows how large the next segment can be.""")


if __name__ == "__main__":
    main()
