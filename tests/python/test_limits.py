"""limits() returns how large a segment may be, from what the kernel reports."""

import itertools
import os
import pickle
import resource

import pytest
import shmkit
from shmkit import SharedMemory

PAGE = resource.getpagesize()


def meminfo():
    """Return /proc/meminfo in bytes."""
    with open("/proc/meminfo") as lines:
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB\n")}


def test_constant_fields_agree_with_the_kernel():
    now, memory = shmkit.limits(), meminfo()
    assert now.in_memory is True
    assert now.memory_total == memory["MemTotal"]
    assert now.swap_total == memory["SwapTotal"]
    assert now.page_size == PAGE
    assert now.huge_page_size == memory["Hugepagesize"]
    file_system = os.statvfs("/dev/shm")
    assert now.directory_total in (None, file_system.f_blocks * file_system.f_frsize)
    with open("/proc/sys/vm/overcommit_memory") as policy:
        assert now.overcommit_policy == int(policy.read())


def test_varying_fields_are_within_their_bounds():
    now = shmkit.limits()
    assert 0 < now.memory_available <= now.memory_total
    assert 0 <= now.swap_free <= now.swap_total
    assert now.directory_free is None or 0 < now.directory_free <= now.directory_total
    for largest in (now.largest_named, now.largest_anonymous):
        assert largest % PAGE == 0
        assert 0 < largest <= now.memory_available + now.swap_free
    assert now.directory_free is None or now.largest_named <= now.directory_free
    if now.cgroup_limit is None:
        assert now.cgroup_free is None
    else:
        assert now.largest_named <= now.cgroup_free <= now.cgroup_limit


def test_the_line_describes_the_limits():
    now = shmkit.limits()
    assert str(now) == now.line
    assert "\n" not in now.line
    assert now.line.startswith("largest segment now: ")
    assert os.environ["SHMKIT_DIR"] in now.line
    for word in (" anonymous ", "bounded by", " memory ", "cgroup", "lockable", "pages of 4.0 KiB"):
        assert word in now.line
    assert repr(now).startswith("Limits(largest_named=")


def test_limits_are_a_tuple_that_can_be_pickled():
    now = shmkit.limits()
    assert isinstance(now, tuple)
    again = pickle.loads(pickle.dumps(now))
    assert again == now
    assert type(again) is shmkit.Limits
    assert str(again) == now.line


def test_segment_info_can_be_pickled(name):
    with SharedMemory(name, create=True, size=1) as shm:
        shm.unlink()
        info = shm.stat()
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert type(again) is shmkit.SegmentInfo


@pytest.mark.parametrize("kind", [str, os.fsencode])
def test_limits_take_another_directory(tmp_path, kind):
    now = shmkit.limits(kind(tmp_path))
    assert str(tmp_path) in now.line
    assert shmkit.limits(tmp_path).directory_total == now.directory_total
    file_system = os.statvfs(tmp_path)
    assert now.directory_total == file_system.f_blocks * file_system.f_bsize


def test_the_variable_names_the_default_directory(default_directory, monkeypatch, tmp_path):
    assert " /dev/shm " in shmkit.limits().line
    monkeypatch.setenv("SHMKIT_DIR", str(tmp_path))
    assert str(tmp_path) in shmkit.limits().line


def test_a_file_system_that_is_not_in_memory_is_reported():
    assert shmkit.limits("/proc").in_memory is False


def test_an_impossible_directory_is_an_error():
    with pytest.raises(FileNotFoundError):
        shmkit.limits("/none")
    with pytest.raises(TypeError):
        shmkit.limits(7)
    with pytest.raises(ValueError, match="NUL"):
        shmkit.limits("a\0b")


def test_resource_limits_of_this_process_are_reported(run):
    limits = {
        "file_size_limit": ("RLIMIT_FSIZE", 1 << 30),
        "locked_memory_limit": ("RLIMIT_MEMLOCK", 1 << 16),
        "address_space_limit": ("RLIMIT_AS", 1 << 33),
        "open_files_limit": ("RLIMIT_NOFILE", 77),
    }
    code = f"""
        import resource, shmkit
        for name, (which, value) in {limits}.items():
            hard = resource.getrlimit(getattr(resource, which))[1]
            resource.setrlimit(getattr(resource, which), (value, hard))
        now = shmkit.limits()
        print([getattr(now, name) for name in {list(limits)}])
        print(now.largest_named <= 1 << 30, now.largest_anonymous <= 1 << 30, "RLIMIT_FSIZE" in now.line)
    """
    out = run(code).out.splitlines()
    assert out == [str([value for _, value in limits.values()]), "True True True"]


def test_an_unlimited_resource_is_none(run):
    code = """
        import resource, shmkit
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        print(shmkit.limits().address_space_limit)
    """
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("NOT TESTED under a hard limit of the address space: None for no limit")
    assert run(code).out == "None\n"


def test_a_small_file_system_bounds_the_largest_segment(on_small_file_system):
    code = """
        import shmkit
        now = shmkit.limits()
        print(now.directory_total, now.directory_free, now.largest_named, now.in_memory)
        shmkit.SharedMemory("largest", create=True, size=now.largest_named).close()
        print(shmkit.limits().largest_named)
    """
    assert on_small_file_system(code).out == f"{1 << 20} {1 << 20} {1 << 20} True\n0\n"


def test_the_free_memory_of_a_cgroup_is_reported(run, small_cgroup):
    code = """
        import os, sys, shmkit
        with open(sys.argv[1], "w") as tasks:
            tasks.write(str(os.getpid()))
        before = shmkit.limits()
        with shmkit.SharedMemory(create=True, size=64 << 20, anonymous=True, prefault=True):
            after = shmkit.limits()
        print(before.cgroup_limit, "cgroup" in before.line)
        print(before.cgroup_free - after.cgroup_free >= 60 << 20)
    """
    assert run(code, small_cgroup).out == f"{256 << 20} True\nTrue\n"


def test_the_largest_segment_can_be_created(name):
    for attempt in itertools.count():
        largest = shmkit.limits().largest_named
        try:
            shm = SharedMemory(name, create=True, size=largest, sparse=True)
        except OSError as error:
            # Another process has allocated memory in between.
            assert "bytes are free" in str(error) and attempt < 100
        else:
            break
    with shm:
        shm.unlink()
        assert shm.size == largest
    with pytest.raises(OSError, match="bytes are free"):
        SharedMemory(name, create=True, size=largest + (1 << 40))
