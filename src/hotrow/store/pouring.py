"""Arrays of a file that go straight to the columns of a table's rows, checked on the way: no second copy in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hotrow.kernels import readonly, saving
from hotrow.store.files import Advance, Part, piece_buffer, read_piece, steps
from hotrow.store.format import Span

_THREADS = 2  # one copies while the other sums


@dataclass(frozen=True)
class Poured:
    """A float32 matrix in a file, with the face of an array as far as `Table.from_state` needs it.

    What has been poured is right only when `pour` has returned: checksums are compared as the bytes come.
    """

    path: Path
    part: Part
    span: Span
    advance: Advance | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, width)."""
        return self.span.shape

    def pour(self, data: np.ndarray, stride: int, column: int, start: int, stop: int) -> None:
        """Rows start to stop to data, row r at data[r · stride + column]. CorruptError if a checksum differs."""
        width = self.shape[1]
        first, last = (self.span.start + 4 * width * row for row in (start, stop))
        if first == last:
            return
        pieces = iter(steps(self.part, first, last))

        def work() -> None:
            buffer = piece_buffer(self.part)
            for begin, end in pieces:
                data_of = read_piece(self.path, self.part, begin, end, buffer)
                low, high = max(begin, first), min(end, last)
                flat = readonly(data_of[low - begin : high - begin].view(np.float32))
                saving.pour(flat, (low - self.span.start) // 4, width, data, stride, column)
                if self.advance:
                    self.advance(high - low)

        with ThreadPoolExecutor(_THREADS) as pool:
            for job in [pool.submit(work) for _ in range(_THREADS)]:
                job.result()
