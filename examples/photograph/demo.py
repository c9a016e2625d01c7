"""A photograph in shared memory: four processes filter it, C looks at it, ctypes checks it, and one of them is killed.

`make demo` runs it. It tells what it does, leaves nothing in shared memory, and ends with 0 if all it checks is so.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until there is something to clean up, Ctrl-C just ends us: no traceback out of an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import gc
import importlib
import os
import pathlib
import re
import sys
import sysconfig
import time
from multiprocessing import connection, shared_memory

import numpy
import shmkit
from byte_for_byte import same_bytes
from ending import DemoError, Stopped
from recovery import survive_a_death
from sheet import MOST_WORKERS, Sheet, read_counter
from story import MB, SPAWN, Plan, processes_in_words, progress, require, say, show
from tiles import tiles_through_a_queue
from transport import time_transport

HERE = pathlib.Path(__file__).resolve().parent
# The standard library's segments stand here, wherever SHMKIT_DIR says that ours do.
DIRECTORY = "/dev/shm"


# --- the steps -----------------------------------------------------------------------------------------------------


def build_filter(plan):
    """Compile filter.pyx and make it importable, here and in the workers."""
    plan.step("The filter is compiled")
    begin = time.perf_counter()
    build = ["build_ext", "--build-lib", plan.build, "--build-temp", plan.build / "temp", "--cython-c-in-temp"]
    force = ["--force"] if older_than_package(plan.build / f"filter{sysconfig.get_config_var('EXT_SUFFIX')}") else []
    plan.ending.run([sys.executable, "setup.py", "-q", *build, *force], cwd=HERE)
    sys.path.insert(0, str(plan.build))
    say(f"""filter.pyx is Cython: loops over double[:, :, ::1], without the GIL. It says `from shmkit.segment cimport
        SharedMemory`, and its setup.py says Extension("filter", ["filter.pyx"]) and no more: no include directories,
        no libraries ({time.perf_counter() - begin:.1f} s).""")


def older_than_package(built):
    """Say whether the shmkit that is installed came after this was built, if it was."""
    installed = max(file.stat().st_ctime for file in pathlib.Path(shmkit.__file__).parent.iterdir())
    return not built.exists() or built.stat().st_mtime < installed


def read_photograph(plan):
    """Return the photograph as an array of doubles, as large as asked for and as shared memory has room."""
    plan.step("A photograph is read")
    pictures = importlib.import_module("pictures")
    image = pictures.photograph()
    room = shmkit.limits(DIRECTORY).largest_named
    times = plan.enlarge
    # Not more than half of the room: the standard library reserves nothing, and without memory a write is SIGBUS.
    while times > 1 and Sheet(image.height * times, image.width * times).size > room // 2:
        times -= 1
    picture = pictures.enlarged(image, times)
    height, width, _ = picture.shape
    size = f", enlarged {times} times: {width} x {height} pixels" if times > 1 else ""
    say(f"""{pictures.PHOTOGRAPH}, which comes with matplotlib, {image.width} x {image.height} pixels{size}. Three
        doubles from 0 to 1 for each make {picture.nbytes / MB:.1f} MB. Twice that will go into {DIRECTORY}, and
        shmkit.limits() says that it has room for {room / MB:,.0f} MB.""")
    require(Sheet(height, width).size <= room, f"{DIRECTORY} has no room for twice this picture: {room / MB:.1f} MB")
    return picture


def make_segment(plan, picture):
    """Copy the picture into a segment of Python's own making."""
    plan.step("Python's own SharedMemory takes it in")
    sheet = Sheet(*picture.shape[:2])
    with plan.ending.held():
        shm = shared_memory.SharedMemory(plan.name, create=True, size=sheet.size)
        plan.removals.callback(remove_segment, shm)
    sheet.write_head(shm, 0)
    sheet.picture(shm, 0)[:] = picture
    say(f"""multiprocessing.shared_memory.SharedMemory, unmodified, has made {DIRECTORY}/{shm.name}: {shm.size / MB:.1f}
        MB, room for a head, a counter for each worker and two pictures, of which the first is the photograph now.
        From here on everybody gets its name, and nobody a copy.""")
    return shm, sheet


def remove_segment(shm):
    """Take the name away and let go of the memory."""
    shm.unlink()
    gc.collect()  # frames that an exception went through may still hold arrays over it
    shm.close()


def filter_together(plan, shm, sheet):
    """Let the workers filter the picture; return which of the two pictures is the last one, and the time it took."""
    plan.step(f"Filtered by {processes_in_words(plan)}, a band of rows for each")
    say(f"""They attach it with shmkit.SharedMemory({shm.name!r}). {plan.rounds} rounds: in each a worker reads its band
        of one picture, and a few rows of its neighbours' bands, and writes the same rows of the other picture; then the
        pictures change places. The bar below is fed from the counters that the workers keep in the segment.""")
    workers = importlib.import_module("workers")
    processes = [
        SPAWN.Process(
            target=workers.filter_band, args=(shm.name, worker, plan.workers, plan.rounds), name=f"worker {worker}"
        )
        for worker in range(plan.workers)
    ]
    with plan.ending.held():
        plan.removals.callback(plan.ending.kill, processes)
        plan.ending.start(processes)
    seconds = watch(plan, shm, sheet, processes)
    last = plan.rounds % 2
    sheet.write_head(shm, last)
    say(f"""Done in {seconds:.2f} s from the moment when all had attached. {processes[0].name.capitalize()} was
        process {processes[0].pid}; all have ended, and the picture has not moved.""")
    return last, seconds


def watch(plan, shm, sheet, processes):
    """Show how far the workers are until all have ended; return the seconds that filtering took."""
    bands = [sheet.band(worker, plan.workers) for worker in range(plan.workers)]
    goals = [1 + plan.rounds * (last - first) for first, last in bands]
    attached = finished = None
    with progress(sum(goals) - plan.workers, "filtering") as bar:
        running = True
        while running:
            sentinels = [process.sentinel for process in processes if process.exitcode is None]
            running = bool(sentinels)
            connection.wait(sentinels, timeout=0.02)
            plan.ending.check()
            counts = [read_counter(shm, worker) for worker in range(plan.workers)]
            if attached is None and all(counts):
                attached = time.perf_counter()
            if finished is None and counts == goals:
                finished = time.perf_counter()
            bar.set_postfix_str(" ".join(f"{count / goal:4.0%}" for count, goal in zip(counts, goals)), refresh=False)
            bar.update(sum(max(count - 1, 0) for count in counts) - bar.n)
    require(counts == goals, f"the workers counted {counts} instead of {goals}")
    return finished - attached


def look_from_c(plan, shm, sheet, which):
    """Compile the C program, let it look, and compare its figures with NumPy's."""
    plan.step("A C program looks at it")
    program = plan.build / "look"
    include, library = shmkit.get_include(), shmkit.get_library_dir()
    command = [os.environ.get("CC", "cc"), "-std=c11", "-O2", "-o", str(program), str(HERE / "look.c")]
    command += ["-I", include, "-L", library, "-lshmkit", f"-Wl,-rpath,{library}"]
    say("Compiled against shmkit.get_include() and shmkit.get_library_dir():")
    show(" ".join(command))
    plan.ending.run(command)
    say("It opens the segment by its name, read-only, and reads the doubles where they lie:")
    output = plan.ending.run([program, shm.name])
    show(f"$ look {shm.name}\n{output}")
    picture = sheet.picture(shm, which)
    found = [[float(figure) for figure in re.findall(r"\d\.\d+", line)] for line in output.splitlines()[1:4]]
    expected = [[picture[..., i].mean(), picture[..., i].min(), picture[..., i].max()] for i in range(3)]
    difference = float(numpy.abs(numpy.array(found) - expected).max())
    require(difference < 2e-12, f"C and NumPy see different pictures: {found} and {expected}")
    say(f"NumPy's figures are the same: the largest difference is {difference:.0e}, from printing twelve places.")


def filter_alone(plan, picture, together):
    """Return the picture as one process filters it in memory of its own."""
    plan.step("One process does the same alone, in memory of its own")
    workers = importlib.import_module("workers")
    begin = time.perf_counter()
    source, result = picture.copy(), numpy.empty_like(picture)
    rows = (0, len(picture))
    with progress(plan.rounds * len(picture), "alone") as bar:
        for number in range(plan.rounds):
            for done in workers.do_round(source, result, rows, number, plan.rounds):
                bar.update(number * len(picture) + done - bar.n)
                plan.ending.check()
            source, result = result, source
    say(f"""It took {time.perf_counter() - begin:.2f} s; {plan.workers} processes took {together:.2f} s on
        {len(os.sched_getaffinity(0))} CPUs.""")
    return source


def check_with_ctypes(plan, shm, offset, alone):
    """Compare a picture in the segment with the one that one process has made."""
    plan.step("ctypes compares the two, byte for byte")
    require(same_bytes(shm.name, offset, alone), "the bands do not give what one process gives")
    say(f"""ctypes.CDLL(shmkit.library_path()) has opened the segment with shmkit_segment_open, and memcmp finds all
        {alone.nbytes:,} bytes equal to what one process made: no seam between bands.""")


def write_png(plan, before, after, sheet):
    """Write before and after side by side."""
    plan.step("Before and after are written side by side")
    pictures = importlib.import_module("pictures")
    borders = [sheet.band(worker, plan.workers)[0] for worker in range(1, plan.workers)]
    border = min(borders, key=lambda row: abs(row - sheet.height // 4), default=None)
    title = f"A photograph in shared memory, and what {processes_in_words(plan)} made of it"
    captions = (
        f"before: {sheet.width} x {sheet.height} pixels",
        f"after: {plan.rounds - 1} rounds of smoothing, one of drawing",
    )
    pictures.side_by_side(plan.output, title, (before, captions[0]), (after, captions[1]), border)
    say(str(plan.output))


# --- the story -----------------------------------------------------------------------------------------------------


def tell(plan):
    """Tell the story from beginning to end."""
    build_filter(plan)
    before = read_photograph(plan)
    shm, sheet = make_segment(plan, before)
    which, together = filter_together(plan, shm, sheet)
    look_from_c(plan, shm, sheet, which)
    after = filter_alone(plan, before, together)
    check_with_ctypes(plan, shm, sheet.offset(which), after)
    write_png(plan, before, after, sheet)
    time_transport(plan, shm, sheet, before)
    survive_a_death(plan, shm, sheet, before)
    tiles_through_a_queue(plan, sheet, before)


def tell_to_the_end(plan):
    """Tell the story as far as it goes; return the exit status and what there is to say of it."""
    try:
        plan.ending.listen()
        tell(plan)
        plan.ending.ignore()
    except Stopped:
        name = signal.Signals(plan.ending.asked).name
        return 128 + plan.ending.asked, f"Stopped by {name}: the workers are ended and the segment is removed."
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads what we print any more
        return 1, ""
    except (DemoError, OSError) as failure:
        return 1, f"Failed: {failure}"
    return 0, "Everything that was checked is so."


def left_over(plan):
    """Return what there is of this run in shared memory."""
    return [name for name in shmkit.SharedMemory.names(DIRECTORY) if plan.name in name]


def parse(arguments=None):
    """Read the command line."""
    target = HERE.parents[1] / "target" / "demo"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="processes that filter (default: 4)")
    parser.add_argument("--output", type=pathlib.Path, metavar="PATH", help="the PNG (default: BUILD/photograph.png)")
    parser.add_argument("--build", type=pathlib.Path, metavar="BUILD", default=target, help=f"default: {target}")
    parser.add_argument("--quick", action="store_true", help="a smaller picture, fewer rounds")
    found = parser.parse_args(arguments)
    if not 1 <= found.workers <= MOST_WORKERS:
        parser.error(f"--workers: 1 to {MOST_WORKERS}")
    return found


def main():
    """Run the demo and return its exit status."""
    begin = time.perf_counter()
    plan = Plan(parse())
    os.environ.pop("SHMKIT_DIR", None)  # the standard library's segments are always in DIRECTORY
    try:
        status, text = tell_to_the_end(plan)
    finally:
        plan.ending.ignore()
        plan.ending.kill_commands()
        plan.removals.close()
    left = left_over(plan)
    print(f"\n{text}")
    print(f"{time.perf_counter() - begin:.0f} s. Left in shared memory: {' '.join(left) or 'nothing'}.", flush=True)
    return status or int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
