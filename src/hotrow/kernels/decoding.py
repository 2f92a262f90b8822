"""Codes, which stand for ids on their way through a framework, to rows."""

from hotrow.kernels import jit


@jit
def rows_of(codes, base, pad, known, which, rows):
    """The row of each code, and its place among all that have codes from `base` on; return whether all are known.

    codes int32 (n,), known int32 or int64 (places,) a row each, −1 where that isn't known → which int64 (n,), rows (n,)
    of the type of known.
    A code that is `pad` stands for nothing, and gets −1 and −1.

        base 100, known [7, 9]    codes [101, 100, pad]    →    which [1, 0, -1]    rows [9, 7, -1]
    """
    complete = True
    for i in range(len(codes)):
        if codes[i] == pad:
            which[i] = -1
            rows[i] = -1
            continue
        place = codes[i] - base
        row = known[place]
        which[i] = place
        rows[i] = row
        if row < 0:
            complete = False
    return complete
