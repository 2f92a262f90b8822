"""What is said of an id that is no row of a matrix; in one place, so that every framework says the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdRange:
    """The ids that there are: 0 to rows - 1.

    rows  None where a graph will know it only when it runs
    what  that these numbers are, for the message: "the rows of params"
    dim   of the table that would take any id, for the message; "dim" where it isn't known

    >>> from hotrow.bridges.id_range import IdRange
    >>> IdRange(4, "the rows of params", 2).text("7", " at position 1")
    'got 7 at position 1; expected ids from 0 to 3, the rows of params. Ids that fit no such range go into a table as \
they are: hotrow.Table(2).lookup(ids, grow=True)'
    """

    rows: int | None
    what: str
    dim: int | str = "dim"

    def expected(self, noun: str) -> str:
        """What there is to choose from, for the message; "{}" stands for the last row where it isn't known yet."""
        if self.rows == 0:
            return f"no {noun} at all, for {self.what} are none"
        return f"{noun} from 0 to {'{}' if self.rows is None else self.rows - 1}, {self.what}"

    def text(self, item: str, place: str) -> str:
        """The message for the id `item` at `place`, in which "{}" stands for what isn't known yet."""
        return (
            f"got {item}{place}; expected {self.expected('ids')}. Ids that fit no such range go into a table as "
            f"they are: hotrow.Table({self.dim}).lookup(ids, grow=True)"
        )
