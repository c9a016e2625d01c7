"""A ledger of bands that workers share under a lock, and what to do when one is killed while it writes in it.

    0          8       16          64
    | in charge | taken | recovered | band 0 | band 1 | ...        64-bit numbers in the data of a managed segment

A band is 0 while nobody has it, the number of the process that works on it, or DONE. `taken` says how many are not 0:
whoever takes one writes both, and a process that dies in between leaves them contradicting each other.
"""

import os
import time

import shmkit

IN_CHARGE, TAKEN, RECOVERED, BANDS = 0, 1, 2, 8
DONE = -1


class Ledger:
    """The ledger in a segment, and the segment's own lock."""

    def __init__(self, segment, bands):
        self.lock = segment.lock
        self.words = segment.view("q", (BANDS + bands,))
        self.bands = range(BANDS, BANDS + bands)

    @staticmethod
    def size(bands):
        """Return how many bytes a ledger of so many bands needs."""
        return 8 * (BANDS + bands)

    def enter(self):
        """Take the lock; where its last owner was killed, put the ledger right first."""
        while True:
            try:
                self.lock.acquire()
                break
            except shmkit.OwnerDied:
                with self.lock.recover():
                    self.put_right()
        self.words[IN_CHARGE] = os.getpid()

    def put_right(self):
        """Give back what the dead process was working on, and count anew."""
        dead = self.words[IN_CHARGE]
        for band in self.bands:
            if self.words[band] == dead:
                self.words[band] = 0
        self.words[TAKEN] = sum(self.words[band] != 0 for band in self.bands)
        self.words[RECOVERED] = time.monotonic_ns()

    def take(self, stay=False):
        """Take a band that nobody has and return its number; None where there is none. With `stay`, never come back."""
        self.enter()
        found = next((band for band in self.bands if self.words[band] == 0), None)
        if found is not None:
            self.words[found] = os.getpid()
            while stay:
                time.sleep(1)  # killed here: `taken` does not know of the band yet
            self.words[TAKEN] += 1
        self.lock.release()
        return None if found is None else found - BANDS

    def done(self, band):
        """Say that a band is done."""
        self.enter()
        self.words[BANDS + band] = DONE
        self.lock.release()

    def is_right(self):
        """Say whether all bands are done and the ledger does not contradict itself."""
        return all(self.words[band] == DONE for band in self.bands) and self.words[TAKEN] == len(self.bands)
