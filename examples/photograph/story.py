"""The options of the demo and its output functions, which every step uses."""

import contextlib
import multiprocessing
import os
import sys
import textwrap

from ending import DemoError, Ending
from tqdm import tqdm

SPAWN = multiprocessing.get_context("spawn")
MB = 1e6


class Plan:
    """The options of a run, and the state that its steps share."""

    def __init__(self, arguments):
        self.name = f"photograph-{os.getpid()}"
        self.workers = arguments.workers
        self.build = arguments.build.resolve()
        self.output = (arguments.output or self.build / "photograph.png").resolve()
        self.enlarge = 1 if arguments.quick else 3
        self.rounds = 3 if arguments.quick else 8
        self.repetitions = 3 if arguments.quick else 7
        self.ending = Ending()
        self.removals = contextlib.ExitStack()
        self.steps = 0

    def step(self, title):
        """Begin the next step and print its title."""
        self.ending.check()
        self.steps += 1
        print(f"\n{self.steps}. {title}", flush=True)


def say(text):
    """Print a paragraph."""
    print(textwrap.fill(" ".join(text.split()), 100, initial_indent="   ", subsequent_indent="   "), flush=True)


def show(text):
    """Print lines unchanged, after a margin."""
    print(textwrap.indent(text.rstrip(), "   | "), flush=True)


def require(condition, text):
    """Raise DemoError unless a condition holds."""
    if not condition:
        raise DemoError(text)


def progress(total, what):
    """Return a progress bar that counts rows; it updates once a minute if stdout is no terminal."""
    interval = 0.1 if sys.stdout.isatty() else 60
    return tqdm(total=total, desc=f"   {what}", unit=" rows", file=sys.stdout, ncols=100, mininterval=interval)


def processes_in_words(plan):
    """Return the number of processes in words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
    count = words[plan.workers] if plan.workers < len(words) else str(plan.workers)
    return f"{count} process{'' if plan.workers == 1 else 'es'}"
