"""Fixtures of all tests: unused names, a check for leaks, and fresh interpreters.

The tests create their segments in a directory of /dev/shm that SHMKIT_DIR names. It belongs to the session, so files of
other programs are not reported as leaks. pytest-timeout ends tests that hang.
"""

import contextlib
import fcntl
import gc
import importlib.util
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from typing import NamedTuple

import nouns
import pytest
import shmkit
from child import HANG_SECONDS, Child
from nouns import CASES, PLACES, ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUPPORT = os.path.dirname(nouns.__file__)
PREFIX = f"shmkit-test-{os.getpid()}-"
# The user and group of a process without privileges.
OTHER_USER = 65534
# A compiler that runs for more seconds than this counts as hung.
COMPILER_SECONDS = 140
# How many seconds threads may run after the test that started them.
THREAD_END_SECONDS = 5


def heed_signals():
    """Handle SIGINT and SIGHUP again if a shell or nohup has ignored them: programs inherit ignored signals."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # The tests go on after a hangup. A program that they start does not inherit a handler.
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_configure(config):
    """Create the directory of this session before pytest imports any test module."""
    del config
    heed_signals()
    os.environ["SHMKIT_DIR"] = tempfile.mkdtemp(prefix=PREFIX, dir="/dev/shm")
    os.environ["PYTHONFAULTHANDLER"] = "1"
    # The interpreters that tests start import the same helper modules.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")]))
    # Create the arena of this process here. It stays, so it would count as a leak of the first test that uses it.
    shmkit.Lock()


def pytest_collection_modifyitems(items):
    """Mark the tests that build packages of downstream/."""
    for item in items:
        if "build" in item.fixturenames:
            item.add_marker("cython")


def pytest_collection_finish(session):
    """Exclude the objects that exist before the first test from garbage collections, which the tests run often."""
    del session
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    """Remove the directory of this session."""
    del config
    shutil.rmtree(os.environ.pop("SHMKIT_DIR"), ignore_errors=True)


def pytest_report_header(config):
    """Report which package is tested: the installed one, not the sources."""
    del config
    return f"shmkit {shmkit.__version__} from {os.path.dirname(shmkit.__file__)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Record in the item whether its test has passed, for the fixtures."""
    outcome = yield
    if call.when == "call":
        item.passed = outcome.get_result().passed


def descriptors():
    """Return the target of each open descriptor of this process."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


class Mapping(NamedTuple):
    """A line of /proc/self/maps."""

    device: int
    inode: int
    path: str


def mappings():
    """Return the mappings of segments in this process: of files in /dev/shm and of memory files."""
    device = os.stat("/dev/shm").st_dev
    with open("/proc/self/maps") as lines:
        fields = [line.split(maxsplit=5) for line in lines]
    maps = []
    for _, _, _, numbers, inode, *path in fields:
        major, minor = (int(number, 16) for number in numbers.split(":"))
        maps.append(Mapping(os.makedev(major, minor), int(inode), "".join(path).strip()))
    # A file that was created without a name shows no path here, even after it has been linked to one.
    return [entry for entry in maps if entry.device == device or entry.path.startswith("/memfd:shmkit")]


def refused(kind, status, call, *arguments, match=None, number=None, **how):
    """Assert that the call raises exactly this class with this status, and with this errno if one is given."""
    with pytest.raises(kind, match=match) as caught:
        call(*arguments, **how)
    assert type(caught.value) is kind
    assert caught.value.status == status
    if number is not None:
        assert caught.value.errno == number
    assert str(caught.value)


def left_files():
    """Return the paths of all files that tests have created in /dev/shm: below SHMKIT_DIR, or in /dev/shm itself."""
    own = [entry.path for entry in os.scandir(os.environ["SHMKIT_DIR"])]
    return own + [entry.path for entry in os.scandir("/dev/shm") if entry.name.startswith(PREFIX) and entry.is_file()]


def threads():
    """Return how many threads this process has, including those that Python did not start."""
    return len(os.listdir("/proc/self/task"))


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Fail a test that leaves a name, a descriptor or a mapping."""
    directory = os.environ["SHMKIT_DIR"]
    before, mapped, running = descriptors(), mappings(), threads()
    yield
    os.environ["SHMKIT_DIR"] = directory
    request.node.funcargs.clear()  # pytest would keep the arguments of the test until later
    gc.collect()
    # A thread that watches a queue for messages keeps its memory mapped. It ends soon after the queue is closed.
    deadline = time.monotonic() + THREAD_END_SECONDS
    while threads() > running and time.monotonic() < deadline:
        time.sleep(0.001)
    names, maps = left_files(), mappings()
    leaked = {fd: target for fd, target in descriptors().items() if before.get(fd) != target}
    for path in names:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    # The traceback of a failed test keeps its objects alive: they are no leak.
    if getattr(request.node, "passed", False):
        assert names == [], "names are left"
        assert leaked == {}, "descriptors are left"
        assert [entry for entry in maps if entry not in mapped] == [], "mappings are left"


_numbers = itertools.count()


@pytest.fixture
def name():
    """Return an unused name; a file of this name after the test is a leak."""
    return f"{PREFIX}{next(_numbers)}"


@pytest.fixture
def path(name):
    """Return the path of the segment called `name`."""
    return pathlib.Path(os.environ["SHMKIT_DIR"], name)


@pytest.fixture
def default_directory(monkeypatch):
    """Create segments in /dev/shm itself, as the standard class does."""
    monkeypatch.delenv("SHMKIT_DIR")


class Finished(NamedTuple):
    """The exit status and the output of a process; `status` is negative if a signal killed it."""

    status: int
    out: str
    err: str


class Interpreter:
    """Runs code in fresh interpreters, which must exit with status 0 and print nothing to stderr by default."""

    def __init__(self, folder):
        self._folder = folder
        self._numbers = itertools.count()

    def write(self, code):
        """Write `code` into a new file, which the spawn method of multiprocessing needs, and return its path."""
        script = self._folder / f"snippet_{next(self._numbers)}.py"
        script.write_text(textwrap.dedent(code))
        return script

    def start(self, code, *arguments, before=(), **how):
        """Start an interpreter with pipes to its stdin, stdout and stderr."""
        command = [*before, sys.executable, str(self.write(code)), *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **how)

    def __call__(self, code, *arguments, status=0, err="", before=(), **how):
        """Run the code to its end. With `status` None any exit status passes, with `err` None any output to stderr."""
        with self.start(code, *arguments, before=before, **how) as process:
            try:
                out, errors = process.communicate(timeout=HANG_SECONDS)
            except BaseException:
                process.kill()
                raise
        done = Finished(process.returncode, out, errors)
        assert status is None or done.status == status, done
        assert err is None or done.err == err, done
        return done


@pytest.fixture
def run(tmp_path):
    """Return an Interpreter."""
    return Interpreter(tmp_path)


class AsOtherUser(Interpreter):
    """Runs code that calls `become_other_user()` after its imports and has no privileges from then on."""

    # These modules are imported while this user can still read them.
    PREFACE = f"""
import hmac, linecache, multiprocessing.connection, multiprocessing.popen_fork, multiprocessing.queues, traceback
import multiprocessing.reduction, multiprocessing.resource_sharer, os, shutil, struct, tempfile
def become_other_user():
    os.setgroups([])
    os.setresgid({OTHER_USER}, {OTHER_USER}, {OTHER_USER})
    os.setresuid({OTHER_USER}, {OTHER_USER}, {OTHER_USER})
"""

    def write(self, code):
        """Write the definition of become_other_user and then the code."""
        return super().write(self.PREFACE + textwrap.dedent(code))


@pytest.fixture
def as_other_user(tmp_path):
    """Return an Interpreter for code that becomes another user, without privileges."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED without root: access by another user")
    os.chmod(os.environ["SHMKIT_DIR"], 0o1777)
    yield AsOtherUser(tmp_path)
    os.chmod(os.environ["SHMKIT_DIR"], 0o700)


@pytest.fixture
def fork():
    """Return a function that runs `work(child)` in a forked child and returns a Child."""
    children = []

    def fork(work):
        children.append(Child(work))
        return children[-1]

    yield fork
    for child in children:
        child.close()


@pytest.fixture
def held(fork):
    """Return a function that forks a child, which acquires a lock and holds it until go(), and returns the child."""

    def held(lock, times=1):
        def work(child):
            for _ in range(times):
                lock.acquire()
            child.send("held")
            child.pause()
            for _ in range(times):
                lock.release()

        child = fork(work)
        assert child.receive() == "held"
        return child

    return held


def leave_dead(lock, held):
    """Kill a child while it holds the lock, and return the process number it had."""
    child = held(lock)
    pid = child.pid
    child.kill()
    return pid


@pytest.fixture(params=PLACES)
def place(request):
    """Return where an object is stored."""
    return request.param


@pytest.fixture(params=ROWS, ids=lambda row: row.kind.__name__)
def noun(request):
    """Return a row of the table of classes."""
    return request.param


@pytest.fixture
def shm(name):
    """Return a managed segment in which objects of any class fit."""
    with shmkit.SharedMemory(name, create=True, size=1 << 18, managed=True) as shm:
        yield shm
        shm.unlink()


@contextlib.contextmanager
def arguments_at(place, name):
    """Yield the arguments that create or open an object at a place."""
    if place == "unnamed":
        yield {}
    elif place == "named":
        yield {"name": name}
        with contextlib.suppress(FileNotFoundError):
            shmkit.SharedMemory.unlink_name(name)
    else:
        with shmkit.SharedMemory(name, create=True, size=1 << 18, managed=True) as shm:
            yield {"segment": shm, "offset": 128 if place == "placed" else None}
            shm.unlink()


@pytest.fixture
def where(place, name):
    """Return the arguments that create or open an object at each place."""
    with arguments_at(place, name) as how:
        yield how


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].kind.__name__}-{case[1]}")
def one(request, name):
    """Return an object of each class at each place."""
    noun, place = request.param
    with arguments_at(place, name) as how, contextlib.closing(noun.make(**how)) as one:
        yield one


@pytest.fixture(params=[shmkit.Lock, shmkit.RLock], ids=["Lock", "RLock"])
def kind(request):
    """Return a class of locks."""
    return request.param


@pytest.fixture
def make(name):
    """Return a function that creates a lock of a class; `place` is unnamed, named, placed or built-in."""
    made = []

    def make(kind, place="unnamed", **how):
        if place in ("placed", "built-in"):
            shm = shmkit.SharedMemory(name, create=True, size=4096, managed=True)
            made.append(shm)
            how.update(segment=shm, offset=None if place == "built-in" else 128)
        lock = kind(name if place == "named" else None, **how)
        made.append(lock)
        return lock

    yield make
    for thing in reversed(made):
        if thing.name in shmkit.SharedMemory.names():
            thing.unlink()
        thing.close()


@pytest.fixture
def managed(name):
    """Return a managed segment of one page."""
    with shmkit.SharedMemory(name, create=True, size=4096, managed=True) as shm:
        shm.unlink()
        yield shm


# Each class of locks at each place where it can be stored.
LOCKS = [
    "Lock-unnamed",
    "Lock-named",
    "Lock-placed",
    "Lock-built-in",
    "RLock-unnamed",
    "RLock-named",
    "RLock-placed",
]


@pytest.fixture(params=LOCKS)
def lock(request, make):
    """Return a lock of each class at each place."""
    kind, _, place = request.param.partition("-")
    return make(getattr(shmkit, kind), place)


def small_file_system(mebibytes=1):
    """Return a command prefix that mounts a small tmpfs at the folder in $SMALL and runs a program."""
    command = ["unshare", "-Urm", "--", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={mebibytes}m,mode=700 small "$SMALL" && exec "$0" "$@"'
    return [*command, mount]


@pytest.fixture
def on_small_file_system(run, tmp_path):
    """Return a function that runs code in a mount namespace where SHMKIT_DIR is a tmpfs of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    environment = dict(os.environ, SMALL=str(folder), SHMKIT_DIR=str(folder))
    probe = subprocess.run([*small_file_system(), "true"], env=environment, capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"NOT TESTED without user namespaces: a full file system ({probe.stderr.strip()})")

    def on_small(code, *arguments, **how):
        return run(code, *arguments, before=small_file_system(), env=environment, **how)

    return on_small


@pytest.fixture
def small_cgroup():
    """Return the file that moves a process into a cgroup (version 1 or 2) with 256 MiB of memory."""
    name = PREFIX + "cgroup"
    for parent, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        folder = pathlib.Path(parent, name)
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(256 << 20))
        except OSError:
            folder.rmdir()
            continue
        yield folder / "cgroup.procs"
        folder.rmdir()
        return
    pytest.skip("NOT TESTED where no memory cgroup can be created: a full one")


DOWNSTREAM = pathlib.Path(__file__).parent / "downstream"


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Return a function that builds a package of downstream/, once for all test workers, and imports its module."""
    base, modules = tmp_path_factory.getbasetemp(), {}
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "downstream"
    shared.mkdir(exist_ok=True)

    def compile_(name, folder):
        shutil.copytree(DOWNSTREAM / name, folder)
        line = [sys.executable, "setup.py", "build_ext", "--inplace"]
        # The build must not find headers and libraries that are not installed; -O1 makes it quick.
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LD_LIBRARY_PATH", "CPATH")}
        environment["CFLAGS"] = "-O1"
        done = subprocess.run(
            line, cwd=folder, env=environment, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr

    def build(name):
        if name not in modules:
            folder = shared / name
            file = folder / (name + sysconfig.get_config_var("EXT_SUFFIX"))
            with open(shared / f"{name}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not file.exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    compile_(name, folder)
            spec = importlib.util.spec_from_file_location(name, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            modules[name] = module
        return modules[name]

    return build
