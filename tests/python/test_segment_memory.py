"""The memory of a segment: allocated at once, prefaulted, sparse, in huge pages, locked, without a space check."""

import re
import resource

import pytest
from shmkit import SharedMemory

PAGE = resource.getpagesize()
MIB = 1 << 20


def resident(shm):
    """Return how many bytes of the segment are resident in this process (proc(5), smaps)."""
    with open("/proc/self/smaps") as smaps:
        blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read())[1:]
    own = [block for block in blocks if int(block.split()[4]) == shm.stat().inode]
    return sum(int(kib) * 1024 for block in own for kib in re.findall(r"(?m)^Rss: +(\d+) kB", block))


@pytest.mark.parametrize("anonymous", [False, True])
def test_memory_is_allocated_at_once_and_mapped_when_touched(name, anonymous):
    with SharedMemory(None if anonymous else name, create=True, size=4 * MIB, anonymous=anonymous) as shm:
        shm.unlink()
        assert shm.stat().allocated == 4 * MIB
        assert resident(shm) < 4 * MIB


@pytest.mark.parametrize("anonymous", [False, True])
def test_prefault_maps_every_page(name, anonymous):
    how = {"create": True, "size": 4 * MIB, "prefault": True, "anonymous": anonymous}
    with SharedMemory(None if anonymous else name, **how) as shm:
        shm.unlink()
        assert resident(shm) == 4 * MIB


def test_prefault_maps_every_page_after_attaching_and_growing(name):
    with SharedMemory(name, create=True, size=MIB) as made, SharedMemory(name, prefault=True, capacity=4 * MIB) as shm:
        made.unlink()
        assert resident(shm) == MIB
        shm.resize(4 * MIB)
        assert resident(shm) == 4 * MIB


def test_sparse_allocates_no_memory(name):
    with SharedMemory(name, create=True, size=1 << 40, sparse=True) as shm:
        shm.unlink()
        assert shm.stat().allocated == 0
        shm.buf[1 << 39] = 1
        assert 0 < shm.stat().allocated <= 2 * MIB


@pytest.mark.parametrize("other", ["prefault", "huge", "lock"])
def test_sparse_excludes_other_options(name, other):
    with pytest.raises(ValueError, match="sparse"):
        SharedMemory(name, create=True, size=1, sparse=True, **{other: True})


@pytest.mark.parametrize("anonymous", [False, True])
def test_huge_pages_are_used_where_available(name, anonymous):
    how = {"create": True, "size": 8 * MIB + 5, "huge": True, "anonymous": anonymous}
    with SharedMemory(None if anonymous else name, **how) as shm:
        shm.unlink()
        assert shm.huge_bytes in range(0, 8 * MIB + 1, 2 * MIB)
        assert shm.stat().allocated >= 8 * MIB + 5
        shm.buf[8 * MIB + 4] = 1
        assert bytes(shm.buf[:100]) == bytes(100)


def test_small_pages_are_the_default(name):
    with SharedMemory(name, create=True, size=PAGE, huge=True) as shm:
        shm.unlink()
        assert shm.huge_bytes == 0


def test_locked_memory_is_limited_for_users(name, as_other_user):
    code = """
        import resource, sys
        from shmkit import SharedMemory
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        become_other_user()
        with SharedMemory(create=True, size=65536, anonymous=True, lock=True):
            print(open("/proc/self/status").read().split("VmLck:")[1].split()[0])
        try:
            SharedMemory(sys.argv[1], create=True, size=1 << 20, lock=True)
        except MemoryError as error:
            print(error.status, "RLIMIT_MEMLOCK is 65536 bytes" in str(error))
        print(SharedMemory.names())
    """
    assert as_other_user(code, name).out == "64\n-9 True\n[]\n"


def test_lock_locks_the_memory(name):
    with open("/proc/self/status") as status:
        before = int(status.read().split("VmLck:")[1].split()[0])
    with SharedMemory(name, create=True, size=16 * PAGE, lock=True) as shm:
        shm.unlink()
        with open("/proc/self/status") as status:
            locked = int(status.read().split("VmLck:")[1].split()[0])
        assert (locked - before) * 1024 == 16 * PAGE


def test_without_the_space_check_the_kernel_reports_the_error(name, on_small_file_system):
    code = """
        import sys
        from shmkit import SharedMemory
        for how in ({}, {"no_space_check": True}):
            try:
                SharedMemory(sys.argv[1], create=True, size=2 << 20, **how)
            except OSError as error:
                print(error.errno, str(error).split("] ")[1])
        print(SharedMemory.names())
    """
    first, second, names = on_small_file_system(code, name).out.splitlines()
    assert first.startswith("28 asked for 2097152 bytes, 1048576 bytes are free in ")
    assert second.startswith("28 asked for 2097152 bytes, ")
    assert names == "[]"
