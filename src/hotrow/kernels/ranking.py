"""The best of many scores, known ones left out."""

import numpy as np

from hotrow.kernels import jit

BLOCK = 32  # scores looked at together before any is looked at alone


@jit
def top(scores, users, starts, known, best, values, start, stop):
    """Write the k best columns of each row, best first; of equal scores the lower column first.

    scores float32 (n, columns): what stands at known pairs is overwritten with −∞. users int64 (n,): row i is that
    of users[i], whose known columns are known[starts[users[i]] : starts[users[i] + 1]]. → best int32 (n, k),
    −1 where fewer than k columns are left, and values float32 (n, k).
    """
    columns = scores.shape[1]
    k = best.shape[1]
    for i in range(start, stop):
        row = scores[i]
        for p in range(starts[users[i]], starts[users[i] + 1]):
            row[known[p]] = -np.inf
        value, place = values[i], best[i]
        value[:] = -np.inf
        place[:] = -1
        for block in range(0, columns, BLOCK):
            end = min(columns, block + BLOCK)
            bar = value[k - 1]
            above = 0
            for j in range(block, end):
                above += row[j] > bar
            if above == 0:
                continue
            for j in range(block, end):
                score = row[j]
                if score > value[k - 1]:
                    at = k - 1
                    while at > 0 and value[at - 1] < score:
                        value[at] = value[at - 1]
                        place[at] = place[at - 1]
                        at -= 1
                    value[at] = score
                    place[at] = j


@jit
def cells(users, starts, known, column_of, rows, columns):
    """Where known pairs stand in a block of scores: write row and column of each, return how many there are.

    users int64 (n,), the users of the block's rows; column_of int32 (items,): the block's column of an item, −1 for
    none. → rows, columns int32 (any,).
    """
    count = 0
    for i in range(len(users)):
        for p in range(starts[users[i]], starts[users[i] + 1]):
            column = column_of[known[p]]
            if column >= 0:
                rows[count] = i
                columns[count] = column
                count += 1
    return count
