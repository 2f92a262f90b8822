"""Rows on their way to a file and back: what is kept of them for a save while training goes on.

A save is of one step. Each row that it wants is copied once: by the saver, who goes through them in order, or by
whoever changes it first, just before. `wanted` says so for each row, a byte each: not wanted, wanted, or taken.

    wanted  [ 2 2 2 1 1 2 1 0 ]       taken: 0 to 2 by the saver, who comes to 3 next, and 5 by a step
"""

import numpy as np

from hotrow.kernels import approach, jit
from hotrow.kernels.simd import copy

WANTED, TAKEN = 1, 2
AHEAD = 8  # rows between asking for one and copying it


@jit
def keep(data, stride, rows, first, wanted, out, out_rows, filled):
    """Copy the wanted ones of rows[first:] to `out`, behind the filled[0] rows that it has, until it is full.

    data float32 (flat), row r at data[r · stride : (r + 1) · stride]; rows int32 (n,), −1 for none → out float32
    (flat), out_rows int32 (room,), their numbers; wanted uint8 (rows,). filled int64 (1,) is written, too: a Ctrl-C
    comes before or after. Returns where in `rows` it has stopped.
    """
    i, at = first, filled[0]
    while i < len(rows) and at < len(out_rows):
        if i + AHEAD < len(rows):
            coming = np.int64(rows[i + AHEAD])
            if 0 <= coming < len(wanted) and wanted[coming] == WANTED:
                approach(data, coming * stride, stride)
        row = np.int64(rows[i])
        if 0 <= row < len(wanted) and wanted[row] == WANTED:
            wanted[row] = TAKEN
            copy(data, row * stride, out, at * stride, stride)
            out_rows[at] = row
            at += 1
        i += 1
    filled[0] = at
    return i


@jit
def sweep(wanted, first, out_rows):
    """Take the next wanted rows from `first` on, as many as `out_rows` has room for: their numbers, int32 (room,).

    Returns where it has stopped, and how many it took.
    """
    row, at = first, 0
    while row < len(wanted) and at < len(out_rows):
        if wanted[row] == WANTED:
            wanted[row] = TAKEN
            out_rows[at] = row
            at += 1
        row += 1
    return row, at


@jit
def pick(data, stride, column, width, rows, out, start, stop):
    """Copy `width` floats of each row, from `column` on, end to end: → out float32 (flat), row i at i · width."""
    for i in range(start, stop):
        if i + AHEAD < stop:
            approach(data, np.int64(rows[i + AHEAD]) * stride + column, width)
        copy(data, np.int64(rows[i]) * stride + column, out, i * width, width)


@jit
def pour(flat, first, width, data, stride, column):
    """The way back: flat float32 (n,) holds the floats first … first + n of a matrix `width` wide, end to end.

    Those of row r go to data[r · stride + column : … + width]; it may begin and end within a row.
    """
    row, at = first // width, 0
    if first % width:  # the rest of a row
        at = min(width - first % width, len(flat))
        copy(flat, 0, data, row * stride + column + first % width, at)
        row += 1
    while at + width <= len(flat):
        copy(flat, at, data, row * stride + column, width)
        row += 1
        at += width
    copy(flat, at, data, row * stride + column, len(flat) - at)


@jit
def mark(rows, marks):
    """Set the mark of each row: rows int32 (n,), −1 for none → marks uint8 (rows,)."""
    for i in range(len(rows)):
        if rows[i] >= 0:
            marks[rows[i]] = WANTED
