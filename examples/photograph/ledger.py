"""A ledger of bands that workers share under a lock, and its repair after an owner died.

    0          8       16          64
    | owner     | taken | recovered | band 0 | band 1 | ...        64-bit numbers in the data of a managed segment

A band is 0 (free), the id of the process that works on it, or DONE. `taken` is the number of bands other than 0. A
worker that takes a band writes both. If it dies between the two stores, they disagree until repair() corrects `taken`.
"""

import os
import time

import shmkit

OWNER, TAKEN, RECOVERED, BANDS = 0, 1, 2, 8
DONE = -1


class Ledger:
    """The ledger in a segment, and the built-in lock of the segment."""

    def __init__(self, segment, bands):
        self.lock = segment.lock
        self.words = segment.view("q", (BANDS + bands,))
        self.bands = range(BANDS, BANDS + bands)

    @staticmethod
    def size(bands):
        """Return the size in bytes of a ledger with this many bands."""
        return 8 * (BANDS + bands)

    def enter(self):
        """Acquire the lock; if its last owner died, repair the ledger first."""
        while True:
            try:
                self.lock.acquire()
                break
            except shmkit.OwnerDied:
                with self.lock.recover():
                    self.repair()
        self.words[OWNER] = os.getpid()

    def repair(self):
        """Free the bands of the dead process and recompute `taken`."""
        dead = self.words[OWNER]
        for band in self.bands:
            if self.words[band] == dead:
                self.words[band] = 0
        self.words[TAKEN] = sum(self.words[band] != 0 for band in self.bands)
        self.words[RECOVERED] = time.monotonic_ns()

    def take(self, stay=False):
        """Take a free band and return its number, or None if there is none; with `stay`, never return."""
        self.enter()
        found = next((band for band in self.bands if self.words[band] == 0), None)
        if found is not None:
            self.words[found] = os.getpid()
            while stay:
                time.sleep(1)  # killed here: `taken` does not count the band yet
            self.words[TAKEN] += 1
        self.lock.release()
        return None if found is None else found - BANDS

    def done(self, band):
        """Mark a band as done."""
        self.enter()
        self.words[BANDS + band] = DONE
        self.lock.release()

    def is_complete(self):
        """Return whether all bands are done and `taken` counts all of them."""
        return all(self.words[band] == DONE for band in self.bands) and self.words[TAKEN] == len(self.bands)
