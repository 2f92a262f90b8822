"""Every error that hotrow raises on purpose.

HotrowError
├── IdError(ValueError, IndexError)    an id that can't be one: null, NaN, not whole, out of range
├── UnknownIdError(KeyError)           an id that has no row, where one is needed
├── KindError(TypeError)               ids of a kind that this table, or any table, doesn't take
├── ArgumentError(ValueError)          an argument whose value, shape or dtype can't be right
├── DataError(ValueError)              a file or a column that can't be read as asked
├── CorruptError(OSError)              a file on disk that isn't what was written
├── LockedError(OSError)               another process is writing to this path
├── DiskError(OSError)                 a folder that can't hold a table's rows: full, or it maps no files
├── ClusterError(ConnectionError)      a cluster, or a shard of a table in it, that can't be reached or has no room
└── MissingExtraError(ImportError)     an optional package isn't installed

A message says what was given, what was expected, and the call that would be right. Each class also is the
standard exception in brackets, so code that knows nothing of hotrow catches what it expects.
"""


class HotrowError(Exception):
    """The root: `except hotrow.HotrowError` catches all of them."""


class IdError(HotrowError, ValueError, IndexError):
    """An id that can't be one: null, NaN, bool, not whole, beyond 64 bits, invalid UTF-8."""


class UnknownIdError(HotrowError, KeyError):
    """An id without a row, where a row is needed; nothing was changed."""

    def __str__(self) -> str:  # KeyError shows the repr of its message, with the newlines escaped
        return str(self.args[0]) if self.args else ""


class KindError(HotrowError, TypeError):
    """Ids of a kind that this table (or any) doesn't take: strings in an integer table, mixed types."""


class ArgumentError(HotrowError, ValueError):
    """An argument whose value, shape or dtype can't be right; nothing was changed."""


class DataError(HotrowError, ValueError):
    """A file or a column that can't be read as asked."""


class CorruptError(HotrowError, OSError):
    """A file on disk that isn't what was written: truncated, altered, or not ours."""


class LockedError(HotrowError, OSError):
    """Another process is writing to this path."""


class DiskError(HotrowError, OSError):
    """A folder that can't hold the rows of a table: its disk is full, or maps no files; nothing was changed."""


class ClusterError(HotrowError, ConnectionError):
    """A Ray cluster, or a shard of a table in it, that can't be reached, doesn't come back, or has no room."""


class MissingExtraError(HotrowError, ImportError):
    """An optional package isn't installed; the message is the `pip install` that brings it."""
