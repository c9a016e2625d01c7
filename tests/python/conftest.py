"""What every test has: names of its own, a check that nothing is left, and fresh interpreters to run things in.

All segments of the tests stand in one directory of /dev/shm that is made for the session and named by SHMKIT_DIR, so
that what others do on the machine meanwhile is not taken for a leak. pytest-timeout is the watchdog.
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
OTHER_USER = 65534
# How many seconds a compiler may take before it is taken for hung.
COMPILER_SECONDS = 140
# How many seconds threads have to end after the test they were started by.
SOON = 5


def heed_signals():
    """Undo what a shell does to a command in the background, and nohup: programs inherit signals that are ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # The tests go on after a hangup. A program that they start does not inherit a handler.
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_configure(config):
    """Make the directory of this session before any test module is imported."""
    del config
    heed_signals()
    os.environ["SHMKIT_DIR"] = tempfile.mkdtemp(prefix=PREFIX, dir="/dev/shm")
    os.environ["PYTHONFAULTHANDLER"] = "1"
    # For the interpreters that tests start: they import what the tests do.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")]))
    # The arena of this process, which stays: no test has left it.
    shmkit.Lock()


def pytest_collection_modifyitems(items):
    """Mark the tests of what stands in downstream/."""
    for item in items:
        if "build" in item.fixturenames:
            item.add_marker("cython")


def pytest_collection_finish(session):
    """Spare the tests' garbage collections the many objects that are there before the first test."""
    del session
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    """Remove it."""
    del config
    shutil.rmtree(os.environ.pop("SHMKIT_DIR"), ignore_errors=True)


def pytest_report_header(config):
    """Say what is tested: the installed package, not the sources."""
    del config
    return f"shmkit {shmkit.__version__} from {os.path.dirname(shmkit.__file__)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Let fixtures know whether their test has passed."""
    outcome = yield
    if call.when == "call":
        item.passed = outcome.get_result().passed


def descriptors():
    """Return what each open descriptor of this process stands for."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that listed them
    return found


class Mapping(NamedTuple):
    """A line of /proc/self/maps."""

    device: int
    inode: int
    path: str


def mappings():
    """Return the mappings of this process that are of segments: of files in /dev/shm, or anonymous."""
    device = os.stat("/dev/shm").st_dev
    with open("/proc/self/maps") as lines:
        fields = [line.split(maxsplit=5) for line in lines]
    maps = []
    for _, _, _, numbers, inode, *path in fields:
        major, minor = (int(number, 16) for number in numbers.split(":"))
        maps.append(Mapping(os.makedev(major, minor), int(inode), "".join(path).strip()))
    # A file made without a name shows no name here, even when it has got one.
    return [entry for entry in maps if entry.device == device or entry.path.startswith("/memfd:shmkit")]


def refused(kind, status, call, *arguments, match=None, number=None, **how):
    """Assert that the call raises exactly this class with this status, and this errno where it is an OSError."""
    with pytest.raises(kind, match=match) as caught:
        call(*arguments, **how)
    assert type(caught.value) is kind
    assert caught.value.status == status
    if number is not None:
        assert caught.value.errno == number
    assert str(caught.value)


def standing():
    """Return the paths of all files that tests have made in /dev/shm, by either way."""
    own = [entry.path for entry in os.scandir(os.environ["SHMKIT_DIR"])]
    return own + [entry.path for entry in os.scandir("/dev/shm") if entry.name.startswith(PREFIX) and entry.is_file()]


def threads():
    """Return how many threads this process has, those included of which Python knows nothing."""
    return len(os.listdir("/proc/self/task"))


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Fail a test that leaves a name, a descriptor or a mapping behind."""
    directory = os.environ["SHMKIT_DIR"]
    before, mapped, running = descriptors(), mappings(), threads()
    yield
    os.environ["SHMKIT_DIR"] = directory
    request.node.funcargs.clear()  # pytest would keep the test's arguments until later
    gc.collect()
    # A thread that gives notice of messages has its queue's memory until it ends, soon after the queue is closed.
    patience = time.monotonic() + SOON
    while threads() > running and time.monotonic() < patience:
        time.sleep(0.001)
    names, maps = standing(), mappings()
    leaked = {fd: target for fd, target in descriptors().items() if before.get(fd) != target}
    for path in names:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    # A test that has failed has said so, and its traceback keeps what it held.
    if getattr(request.node, "passed", False):
        assert names == [], "names are left"
        assert leaked == {}, "descriptors are left"
        assert [entry for entry in maps if entry not in mapped] == [], "mappings are left"


_numbers = itertools.count()


@pytest.fixture
def name():
    """Return a name that nobody else uses; what stands under it after the test is a leak."""
    return f"{PREFIX}{next(_numbers)}"


@pytest.fixture
def path(name):
    """Return the path of the segment called `name`."""
    return pathlib.Path(os.environ["SHMKIT_DIR"], name)


@pytest.fixture
def default_directory(monkeypatch):
    """Have segments stand in /dev/shm itself, as the standard class' do."""
    monkeypatch.delenv("SHMKIT_DIR")


class Finished(NamedTuple):
    """What a process that has ended leaves: `status` is negative where a signal killed it."""

    status: int
    out: str
    err: str


class Interpreter:
    """Runs code in fresh interpreters, each of which must end well and print nothing to stderr."""

    def __init__(self, folder):
        self._folder = folder
        self._numbers = itertools.count()

    def write(self, code):
        """Write `code` into a file of its own, as the spawn method of multiprocessing needs, and return its path."""
        script = self._folder / f"snippet_{next(self._numbers)}.py"
        script.write_text(textwrap.dedent(code))
        return script

    def start(self, code, *arguments, before=(), **how):
        """Start an interpreter with pipes to its stdin, stdout and stderr."""
        command = [*before, sys.executable, str(self.write(code)), *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **how)

    def __call__(self, code, *arguments, status=0, err="", before=(), **how):
        """Run it to its end; `status` None: any, `err` None: whatever it prints there."""
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
    """Runs code that gives up its privileges where it says `become_other_user()`, after its imports."""

    # What is imported on the way may lie where only this user may read.
    PREFACE = f"""
import hmac, linecache, multiprocessing.connection, multiprocessing.popen_fork, multiprocessing.queues, traceback
import multiprocessing.reduction, multiprocessing.resource_sharer, os, shutil, struct, tempfile
def become_other_user():
    os.setgroups([])
    os.setresgid({OTHER_USER}, {OTHER_USER}, {OTHER_USER})
    os.setresuid({OTHER_USER}, {OTHER_USER}, {OTHER_USER})
"""

    def write(self, code):
        """Write the code behind the definition of become_other_user."""
        return super().write(self.PREFACE + textwrap.dedent(code))


@pytest.fixture
def as_other_user(tmp_path):
    """Return an Interpreter for code that wants to be another user, without privileges, for a part of its time."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED without root: what another user is refused")
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
    """Return a function that has a child take a lock, and returns the child, which holds it until go()."""

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
    """Have a child be killed while it holds the lock, and return the process number it had."""
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
    """Return a full segment in which objects of any class fit."""
    with shmkit.SharedMemory(name, create=True, size=1 << 18, managed=True) as shm:
        yield shm
        shm.unlink()


@contextlib.contextmanager
def arguments_at(place, name):
    """Yield the arguments that make or open an object at a place."""
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
    """Return the arguments that make or open an object at each place."""
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
    """Return a function that makes a lock of a class: `place` is unnamed, named, placed or built-in."""
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
    """Return a full segment of a page."""
    with shmkit.SharedMemory(name, create=True, size=4096, managed=True) as shm:
        shm.unlink()
        yield shm


# Each class of locks in each place that it can stand in.
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
    """Return a lock of each class in each place."""
    kind, _, place = request.param.partition("-")
    return make(getattr(shmkit, kind), place)


def small_file_system(mebibytes=1):
    """Return a command prefix that runs a program with a full-size tmpfs of its own at the folder in $SMALL."""
    command = ["unshare", "-Urm", "--", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={mebibytes}m,mode=700 small "$SMALL" && exec "$0" "$@"'
    return [*command, mount]


@pytest.fixture
def on_small_file_system(run, tmp_path):
    """Run code in a mount namespace where SHMKIT_DIR is a tmpfs of 1 MiB."""
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
    """Return the file that takes a process into a cgroup with 256 MiB of memory; version 1 or 2, whichever is there."""
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
    pytest.skip("NOT TESTED where no memory cgroup can be made: a full one")


DOWNSTREAM = pathlib.Path(__file__).parent / "downstream"


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Return a function that builds a package of downstream/, once for all workers, and imports its module."""
    base, modules = tmp_path_factory.getbasetemp(), {}
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "downstream"
    shared.mkdir(exist_ok=True)

    def compile_(name, folder):
        shutil.copytree(DOWNSTREAM / name, folder)
        line = [sys.executable, "setup.py", "build_ext", "--inplace"]
        # Quick to build; and without the variables by which it could find what is not installed.
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
