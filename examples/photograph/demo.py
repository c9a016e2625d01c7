"""Filter a photograph in shared memory with four processes, read it from C and ctypes, and kill two workers.

`make demo` runs it. It prints each step, removes its segments, and exits with 0 if every check passed.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until there is something to clean up, Ctrl-C ends the demo without a traceback from an import.
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
from sheet import MAX_WORKERS, Sheet, read_counter
from story import MB, SPAWN, Plan, processes_in_words, progress, require, say, show
from tiles import tiles_through_a_queue
from transport import time_transport

HERE = pathlib.Path(__file__).resolve().parent
# The directory of the standard library's segments. It does not depend on SHMKIT_DIR.
DIRECTORY = "/dev/shm"


# --- the steps -----------------------------------------------------------------------------------------------------


def build_filter(plan):
    """Compile filter.pyx and make it importable, here and in the workers."""
    plan.step("Compile the filter")
    begin = time.perf_counter()
    build = ["build_ext", "--build-lib", plan.build, "--build-temp", plan.build / "temp", "--cython-c-in-temp"]
    force = ["--force"] if older_than_package(plan.build / f"filter{sysconfig.get_config_var('EXT_SUFFIX')}") else []
    plan.ending.run([sys.executable, "setup.py", "-q", *build, *force], cwd=HERE)
    sys.path.insert(0, str(plan.build))
    say(f"""filter.pyx is Cython: loops over double[:, :, ::1], without the GIL. It has `from shmkit.segment cimport
        SharedMemory`. Its setup.py needs only Extension("filter", ["filter.pyx"]): no include directories and no
        libraries ({time.perf_counter() - begin:.1f} s).""")


def older_than_package(built):
    """Return whether a file is missing or older than the installed shmkit."""
    installed = max(file.stat().st_ctime for file in pathlib.Path(shmkit.__file__).parent.iterdir())
    return not built.exists() or built.stat().st_mtime < installed


def read_photograph(plan):
    """Return the photograph as an array of doubles, enlarged as far as shared memory has room for it."""
    plan.step("Read a photograph")
    pictures = importlib.import_module("pictures")
    image = pictures.photograph()
    room = shmkit.limits(DIRECTORY).largest_named
    times = plan.enlarge
    # Use at most half of the room: the standard library reserves no memory, and a write without memory is a SIGBUS.
    while times > 1 and Sheet(image.height * times, image.width * times).size > room // 2:
        times -= 1
    picture = pictures.enlarged(image, times)
    height, width, _ = picture.shape
    size = f", enlarged {times} times: {width} x {height} pixels" if times > 1 else ""
    say(f"""{pictures.PHOTOGRAPH} of matplotlib, {image.width} x {image.height} pixels{size}. Three doubles from 0 to 1
        for each pixel make {picture.nbytes / MB:.1f} MB. Twice that size goes into {DIRECTORY}; shmkit.limits() reports
        room for {room / MB:,.0f} MB there.""")
    require(Sheet(height, width).size <= room, f"{DIRECTORY} has only {room / MB:.1f} MB for two pictures")
    return picture


def make_segment(plan, picture):
    """Copy the picture into a segment that the standard library creates."""
    plan.step("Copy it into a segment of Python's own SharedMemory")
    sheet = Sheet(*picture.shape[:2])
    with plan.ending.held():
        shm = shared_memory.SharedMemory(plan.name, create=True, size=sheet.size)
        plan.removals.callback(remove_segment, shm)
    sheet.write_head(shm, 0)
    sheet.picture(shm, 0)[:] = picture
    say(f"""The unmodified multiprocessing.shared_memory.SharedMemory created {DIRECTORY}/{shm.name}:
        {shm.size / MB:.1f} MB for a header, a counter for each worker, and two pictures. The first picture now
        contains the photograph. All other processes receive the name of the segment, not a copy.""")
    return shm, sheet


def remove_segment(shm):
    """Remove the name and close the segment."""
    shm.unlink()
    gc.collect()  # frames of an exception may still hold arrays over the segment
    shm.close()


def filter_together(plan, shm, sheet):
    """Filter the picture with the workers; return the index of the final picture and the seconds it took."""
    plan.step(f"Filter it with {processes_in_words(plan)}, a band of rows for each")
    say(f"""Each worker opens the segment with shmkit.SharedMemory({shm.name!r}). There are {plan.rounds} rounds. In
        each round a worker reads its band of one picture, and a few rows of the neighbouring bands. It writes its band
        of the other picture; then the pictures change places. The bar below shows the workers' counters in the
        segment.""")
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
    say(f"""Done {seconds:.2f} s after all workers had opened the segment. {processes[0].name.capitalize()} was
        process {processes[0].pid}. All workers have ended; the picture stayed in the segment.""")
    return last, seconds


def watch(plan, shm, sheet, processes):
    """Show the progress of the workers until all have ended; return the seconds that filtering took."""
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
    """Compile and run the C program, and compare its figures with NumPy's."""
    plan.step("Read it from a C program")
    program = plan.build / "look"
    include, library = shmkit.get_include(), shmkit.get_library_dir()
    command = [os.environ.get("CC", "cc"), "-std=c11", "-O2", "-o", str(program), str(HERE / "look.c")]
    command += ["-I", include, "-L", library, "-lshmkit", f"-Wl,-rpath,{library}"]
    say("Compiled against shmkit.get_include() and shmkit.get_library_dir():")
    show(" ".join(command))
    plan.ending.run(command)
    say("It opens the segment by name, read-only, and reads the doubles in place:")
    output = plan.ending.run([program, shm.name])
    show(f"$ look {shm.name}\n{output}")
    picture = sheet.picture(shm, which)
    found = [[float(figure) for figure in re.findall(r"\d\.\d+", line)] for line in output.splitlines()[1:4]]
    expected = [[picture[..., i].mean(), picture[..., i].min(), picture[..., i].max()] for i in range(3)]
    difference = float(numpy.abs(numpy.array(found) - expected).max())
    require(difference < 2e-12, f"C and NumPy see different pictures: {found} and {expected}")
    say(f"NumPy computes the same figures: the largest difference is {difference:.0e}, from printing twelve places.")


def filter_alone(plan, picture, together):
    """Return the picture that one process computes in private memory."""
    plan.step("Filter it with one process, in private memory")
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
    """Compare a picture in the segment with the result of one process."""
    plan.step("Compare the two through ctypes, byte for byte")
    require(same_bytes(shm.name, offset, alone), "the bands differ from the result of one process")
    say(f"""ctypes.CDLL(shmkit.library_path()) opened the segment with shmkit_segment_open. memcmp found all
        {alone.nbytes:,} bytes equal to the result of one process: there is no seam between bands.""")


def write_png(plan, before, after, sheet):
    """Write a PNG of the picture before and after."""
    plan.step("Write before and after side by side")
    pictures = importlib.import_module("pictures")
    borders = [sheet.band(worker, plan.workers)[0] for worker in range(1, plan.workers)]
    border = min(borders, key=lambda row: abs(row - sheet.height // 4), default=None)
    title = f"A photograph in shared memory, filtered by {processes_in_words(plan)}"
    captions = (
        f"before: {sheet.width} x {sheet.height} pixels",
        f"after: {plan.rounds - 1} rounds of smoothing, one of drawing",
    )
    pictures.side_by_side(plan.output, title, (before, captions[0]), (after, captions[1]), border)
    say(str(plan.output))


# --- the run -------------------------------------------------------------------------------------------------------


def run_steps(plan):
    """Run all steps."""
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


def run_demo(plan):
    """Run the steps until all are done or one fails; return the exit status and the last line to print."""
    try:
        plan.ending.listen()
        run_steps(plan)
        plan.ending.ignore()
    except Stopped:
        name = signal.Signals(plan.ending.asked).name
        return 128 + plan.ending.asked, f"Stopped by {name}: the workers were killed and the segment was removed."
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no process reads the output any more
        return 1, ""
    except (DemoError, OSError) as failure:
        return 1, f"Failed: {failure}"
    return 0, "Every check passed."


def left_over(plan):
    """Return the names that this run left in shared memory."""
    return [name for name in shmkit.SharedMemory.names(DIRECTORY) if plan.name in name]


def parse(arguments=None):
    """Read the command line."""
    target = HERE.parents[1] / "target" / "demo"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="processes that filter (default: 4)")
    parser.add_argument("--output", type=pathlib.Path, metavar="PATH", help="the PNG (default: BUILD/photograph.png)")
    parser.add_argument("--build", type=pathlib.Path, metavar="BUILD", default=target, help=f"default: {target}")
    parser.add_argument("--quick", action="store_true", help="use a smaller picture and fewer rounds")
    found = parser.parse_args(arguments)
    if not 1 <= found.workers <= MAX_WORKERS:
        parser.error(f"--workers must be from 1 to {MAX_WORKERS}, not {found.workers}")
    return found


def main():
    """Run the demo and return its exit status."""
    begin = time.perf_counter()
    plan = Plan(parse())
    os.environ.pop("SHMKIT_DIR", None)  # the standard library's segments are always in DIRECTORY
    try:
        status, text = run_demo(plan)
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
