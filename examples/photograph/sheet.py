"""Where things lie in the demo's segment; `struct sheet` in look.c says the same.

    0       64          64 (workers + 1)       4096                   4096 + picture
    | sheet | counter 0 | ... one per worker | ...  | one picture      | another picture |

A picture is height * width * 3 doubles, row by row. The rounds of the filter read one and write the other in turn.
"""

import struct
from typing import NamedTuple

import numpy

MAGIC = b"picture\0"
HEAD = struct.Struct("=8s6Q")
# Each counter has a cache line of its own: a worker that counts does not slow down the others.
LINE = 64
PICTURES = 4096
MOST_WORKERS = PICTURES // LINE - 1


class Sheet(NamedTuple):
    """The extent of the picture: it determines everything else."""

    height: int
    width: int

    @property
    def shape(self):
        """Extents of one picture as an array."""
        return self.height, self.width, 3

    @property
    def picture_bytes(self):
        """Size of one picture."""
        return self.height * self.width * 3 * 8

    @property
    def size(self):
        """Size of the segment."""
        return PICTURES + 2 * self.picture_bytes

    def offset(self, which):
        """Return where the first (0) or the second (1) picture begins."""
        return PICTURES + which * self.picture_bytes

    def picture(self, shm, which):
        """Return one of the pictures as an array over the segment: no copy."""
        return numpy.ndarray(self.shape, numpy.float64, buffer=shm.buf, offset=self.offset(which))

    def band(self, worker, workers):
        """Return the first row of a worker's band and the first behind it."""
        return self.height * worker // workers, self.height * (worker + 1) // workers

    def write_head(self, shm, shown):
        """Say in the segment what it holds, and which of its pictures is the one to look at."""
        head = (MAGIC, self.height, self.width, 3, self.offset(0), self.offset(1), shown)
        HEAD.pack_into(shm.buf, 0, *head)

    @classmethod
    def read_head(cls, shm):
        """Return what a segment says of itself."""
        magic, height, width, *_ = HEAD.unpack_from(shm.buf)
        sheet = cls(height, width)
        if magic != MAGIC or sheet.size > shm.size:
            raise ValueError(f"{shm.name} holds no picture")
        return sheet


def counter_offset(worker):
    """Return where a worker's counter lies."""
    return LINE * (worker + 1)


def read_counter(shm, worker):
    """Return how far a worker is, through any kind of SharedMemory."""
    return struct.unpack_from("=Q", shm.buf, counter_offset(worker))[0]
