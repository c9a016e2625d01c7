"""SharedMemory and the standard class open each other's segments; ours starts no helper process and prints nothing.

The standard class runs in other processes: up to Python 3.12, its resource tracker removes at exit a segment that the
process has only attached. SharedMemory does not.
"""

import os

import psutil
import pytest
from shmkit import SharedMemory

# Attaches with the standard class, and prevents its resource tracker from removing the segment.
STANDARD = """
import sys
from multiprocessing import resource_tracker, shared_memory
def attach(name):
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name, track=False)
    shm = shared_memory.SharedMemory(name)
    resource_tracker.unregister(shm._name, "shared_memory")
    return shm
"""

pytestmark = pytest.mark.usefixtures("default_directory")


def test_the_standard_class_attaches_our_segment(run, name):
    with SharedMemory(name, create=True, size=5000) as shm:
        shm.buf[:5] = b"howdy"
        code = """
shm = attach(sys.argv[1])
print(bytes(shm.buf[:5]), shm.size)
shm.buf[4999] = 9
shm.close()
"""
        assert run(STANDARD + code, name).out == "b'howdy' 5000\n"
        assert shm.buf[4999] == 9
        shm.unlink()


def test_our_class_attaches_a_segment_of_the_standard_class(run, name):
    code = """
        import sys
        from multiprocessing import shared_memory
        shm = shared_memory.SharedMemory(sys.argv[1], create=True, size=5000)
        shm.buf[:5] = b"howdy"
        print("made", flush=True)
        sys.stdin.read(1)
        print(shm.buf[4999])
        shm.close()
        shm.unlink()
    """
    with run.start(code, name) as process:
        assert process.stdout.readline() == "made\n"
        with SharedMemory(name) as shm:
            assert bytes(shm.buf[:5]) == b"howdy"
            assert shm.size == 5000
            shm.buf[4999] = 9
        assert process.communicate("x") == ("9\n", "")
        assert process.returncode == 0


def test_attaching_with_our_class_does_not_remove_the_segment(run, name):
    with SharedMemory(name, create=True, size=10) as shm:
        run("import sys, shmkit; shmkit.SharedMemory(sys.argv[1])", name)
        with SharedMemory(name):
            pass
        shm.unlink()


def test_our_class_may_unlink_a_segment_of_the_standard_class(run, name):
    code = """
        import sys
        from multiprocessing import resource_tracker, shared_memory
        shm = shared_memory.SharedMemory(sys.argv[1], create=True, size=10)
        resource_tracker.unregister(shm._name, "shared_memory")
    """
    run(code, name)
    SharedMemory(name).unlink()
    assert not os.path.exists("/dev/shm/" + name)


def test_our_class_attaches_the_segment_of_a_shareable_list(run, name):
    code = """
        import sys
        from multiprocessing import shared_memory
        numbers = shared_memory.ShareableList([1, 2.5, "three", b"four", None, True], name=sys.argv[1])
        print(numbers.shm.size, flush=True)
        sys.stdin.read(1)
        print(list(numbers))
        numbers.shm.close()
        numbers.shm.unlink()
    """
    with run.start(code, name) as process:
        size = int(process.stdout.readline())
        with SharedMemory(name) as shm:
            assert shm.size == size
            assert shm.view("q", 1)[0] == 6  # the first word is the length
            at = bytes(shm.buf).index(b"three")
            shm.buf[at : at + 5] = b"THREE"
        assert process.communicate("x") == ("[1, 2.5, 'THREE', b'four', None, True]\n", "")


def test_our_class_attaches_a_segment_of_a_shared_memory_manager(run):
    code = """
        import sys
        from multiprocessing.managers import SharedMemoryManager
        if __name__ == "__main__":
            with SharedMemoryManager() as manager:
                shm = manager.SharedMemory(100)
                print(shm.name, flush=True)
                sys.stdin.read(1)
                print(shm.buf[99])
    """
    with run.start(code) as process:
        name = process.stdout.readline().strip()
        with SharedMemory(name) as shm:
            assert shm.size >= 100
            shm.buf[99] = 5
        assert process.communicate("x") == ("5\n", "")
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


# --- no helper process, no output -------------------------------------------------------------------------------------


def test_no_helper_process_runs_and_nothing_is_printed(run, name):
    code = """
        import sys
        from shmkit import SharedMemory
        shm = SharedMemory(sys.argv[1], create=True, size=1 << 20)
        same = SharedMemory(sys.argv[1])
        anonymous = SharedMemory(create=True, size=1 << 20, anonymous=True)
        print(*sys.modules, flush=True)
        sys.stdin.read(1)
        for segment in (same, shm, anonymous):
            segment.close()
        shm.unlink()
    """
    with run.start(code, name) as process:
        modules = process.stdout.readline().split()
        assert psutil.Process(process.pid).children() == []
        assert psutil.Process(process.pid).num_threads() == 1
        assert "shmkit.segment" in modules
        assert "multiprocessing.resource_tracker" not in modules
        assert process.communicate("x") == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    "forgotten",
    [
        "shm = SharedMemory(sys.argv[1], create=True, size=10)",
        "shm = SharedMemory(sys.argv[1], create=True, size=10); view = shm.buf[3:]",
        "shm = SharedMemory(sys.argv[1], create=True, size=10); shm.close()",
        "shm = [SharedMemory(sys.argv[1], create=True, size=10)]; shm.append(shm)",
        "shm = SharedMemory(sys.argv[1], create=True, size=10); sys.modules['kept'] = shm",
        "shm = SharedMemory(sys.argv[1], create=True, size=10); os._exit(0)",
        "shm = SharedMemory(sys.argv[1], create=True, size=10); os.kill(os.getpid(), 9)",
    ],
)
def test_a_segment_left_at_exit_prints_nothing_and_keeps_its_name(run, name, forgotten):
    killed = -9 if "kill" in forgotten else 0
    done = run(f"import os, sys\nfrom shmkit import SharedMemory\n{forgotten}\n", name, status=killed)
    assert (done.out, done.err) == ("", "")
    with SharedMemory(name) as shm:
        assert shm.size == 10
        shm.unlink()


def test_no_warning_is_raised(run, name):
    code = """
        import sys, warnings
        warnings.simplefilter("error")
        from shmkit import SharedMemory
        shm = SharedMemory(sys.argv[1], create=True, size=10)
        shm.unlink()
        del shm
    """
    run(code, name)
