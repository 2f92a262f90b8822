"""The best of many scores, known ones left out."""

import numpy as np

from hotrow.kernels import jit

BLOCK = 32  # scores looked at together before any is looked at alone


@jit
def sink(value, place, at, count):
    """Restore the heap of the first `count` places below `at`: the worst of two is the lower, or the later if equal."""
    v, p = value[at], place[at]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        other = child + 1
        if other < count and (
            value[other] < value[child] or (value[other] == value[child] and place[other] > place[child])
        ):
            child = other
        if v < value[child] or (v == value[child] and p > place[child]):
            break
        value[at], place[at] = value[child], place[child]
        at = child
    value[at], place[at] = v, p


@jit
def offer(row, first, value, place):
    """Put those of a row's scores into the heap of the best so far that are above its worst; column j is first + j."""
    k = len(value)
    columns = len(row)
    for block in range(0, columns, BLOCK):
        end = min(columns, block + BLOCK)
        bar = value[0]
        above = 0
        for j in range(block, end):
            above += row[j] > bar
        if above == 0:
            continue
        for j in range(block, end):
            if row[j] > value[0]:
                value[0], place[0] = row[j], first + j
                sink(value, place, 0, k)


@jit
def order(value, place):
    """Make a list, best first, of a heap."""
    for last in range(len(value) - 1, 0, -1):  # the worst of those left goes to the end
        value[0], value[last] = value[last], value[0]
        place[0], place[last] = place[last], place[0]
        sink(value, place, 0, last)


@jit
def top(scores, users, starts, known, best, values, start, stop):
    """Write the k best columns of each row, best first; of equal scores the lower column first.

    scores float32 (n, columns): what stands at known pairs is overwritten with −∞. users int64 (n,): row i is that
    of users[i], whose known columns are known[starts[users[i]] : starts[users[i] + 1]]. → best int32 (n, k),
    −1 where fewer than k columns are left, and values float32 (n, k). A score of NaN or −∞ is never among the best.

    The best so far are a heap with the worst on top, the bar that a score must be above: few are.
    """
    for i in range(start, stop):
        row = scores[i]
        for p in range(starts[users[i]], starts[users[i] + 1]):
            row[known[p]] = -np.inf
        value, place = values[i], best[i]
        value[:] = -np.inf
        place[:] = -1
        offer(row, 0, value, place)
        order(value, place)


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


@jit
def more(scores, first, best, values, start, stop):
    """Go on with the heaps of each row's best: those of these columns that are above the worst so far come in.

    scores float32 (n, columns), of which column j is numbered first + j → best int32 (n, k) and values float32 (n, k),
    which begin as −1 and −∞ and are in the order of a heap.
    """
    for i in range(start, stop):
        offer(scores[i], first, values[i], best[i])


@jit
def measure(vectors, queries, metric, rows, scores, start, stop):
    """The score of each query with each of its rows, the larger the better: −∞ for row −1, and for one named again.

    vectors float32 (n, dim), queries float32 (q, dim); rows int64 (q, c), ascending → scores float64 (q, c): the
    product, with metric 1 the cosine (0 where either is zero), with metric 2 the squared distance, negative. Sums are
    float64, so that they are the same whatever found the rows.
    """
    dim = vectors.shape[1]
    for i in range(start, stop):
        q = queries[i]
        for c in range(rows.shape[1]):
            row = rows[i, c]
            if row < 0 or (c > 0 and row == rows[i, c - 1]):
                scores[i, c] = -np.inf
                continue
            v = vectors[row]
            found, of_v, of_q = 0.0, 0.0, 0.0
            for j in range(dim):
                x, y = np.float64(v[j]), np.float64(q[j])
                if metric == 2:
                    found -= (x - y) * (x - y)
                else:
                    found += x * y
                    of_v += x * x
                    of_q += y * y
            if metric == 1:
                found = found / np.sqrt(of_v * of_q) if of_v > 0.0 and of_q > 0.0 else 0.0
            scores[i, c] = found
