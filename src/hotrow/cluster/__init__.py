"""The same table past one machine: rows on shards, which are actors of a Ray cluster. Extra `ray`.

>>> import hotrow.cluster as cluster
>>> cluster.connect()  # doctest: +SKIP
>>> table = cluster.Table(32, shards=2)  # doctest: +SKIP
"""

from __future__ import annotations

from hotrow.cluster.connecting import connect as connect
from hotrow.cluster.crew import Crew as Crew
from hotrow.cluster.status import Watcher as Watcher
from hotrow.cluster.status import status as status
from hotrow.cluster.table import Table as Table
from hotrow.cluster.view import View as View
from hotrow.cluster.view import attach as attach

load = Table.from_saved

__all__ = ["Crew", "Table", "View", "Watcher", "attach", "connect", "load", "status"]
