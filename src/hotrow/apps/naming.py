"""Which column is meant: by its name, by its place where names are missing, and what to say when none fits.

header                            asked          found
user_id, item_id                  user_id        user_id
user_id:token, item_id:token      user_id        user_id:token     the part before the colon, if only one has it
user, item                        nothing        user and item     as many columns as are needed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from hotrow.errors import DataError

IDS = ("user", "item")
_MOST = 40  # columns that a message lists


def position_of(name: str, columns: Sequence[str]) -> int | None:
    """Where the column of this name stands; None if there is none, or if several have it."""
    for names in (list(columns), [column.partition(":")[0] for column in columns]):
        if names.count(name) == 1:
            return names.index(name)
        if name in names:
            return None
    return None


def assign(wanted: Mapping[str, str | None], columns: Sequence[str], source: str) -> dict[str, int]:
    """The position of the column for each role: "user", "item" and, if it is asked for, "time".

    Users and items that have no name get the columns that are left, in their order, if there are just enough of them.
    Raises DataError with the columns there are and the call that would be right.
    """
    places = {role: _place(role, name, columns, source) for role, name in wanted.items() if name is not None}
    for role, place in places.items():
        twin = next(other for other in places if places[other] == place)
        if twin != role:
            raise DataError(
                f"--{twin} and --{role} are both column {columns[place]!r} of {source}; give them two columns"
            )
    nameless = [role for role in IDS if role not in places]
    left = [place for place in range(len(columns)) if place not in places.values()]
    if nameless and len(left) != len(nameless):
        raise DataError(_undecided(wanted, nameless, [columns[place] for place in left], columns, source))
    return places | dict(zip(nameless, left, strict=False))


def _place(role: str, name: str, columns: Sequence[str], source: str) -> int:
    place = position_of(name, columns)
    if place is not None:
        return place
    same = [column for column in columns if name in {column, column.partition(":")[0]}]
    if same:
        raise DataError(f"{source} has {len(same)} columns {name!r}: {listed(same)}; rename all but one of them")
    lower = {column.lower(): column for column in reversed(columns)}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    hint = f" Did you mean --{role} {_quoted(lower[close[0]])}?" if close else ""
    raise DataError(f"{source} has no column {name!r}. It has {listed(columns)}.{hint}")


def _undecided(
    wanted: Mapping[str, str | None], nameless: list[str], left: list[str], columns: Sequence[str], source: str
) -> str:
    """What to say when names are missing and columns can't make up for them."""
    has = f"{source} has {len(columns)} column{'s' * (len(columns) != 1)}: {listed(columns)}."
    if len(left) < len(nameless):
        return f"{has} Users and items need a column each{', beside the time' if wanted.get('time') else ''}"
    given = [f"--{role} {_quoted(name)}" for role, name in wanted.items() if name is not None]
    guess = [f"--{role} {_quoted(name)}" for role, name in zip(nameless, left, strict=False)]
    return (
        f"{has} Say which of them holds the {' and which the '.join(f'{role}s' for role in nameless)}, "
        f"for example: hotrow train {_quoted(source)} {' '.join(guess + given)}"
    )


def listed(columns: Sequence[str]) -> str:
    """The names of columns for a message; of very many the first ones."""
    more = f" and {len(columns) - _MOST} more" if len(columns) > _MOST else ""
    return ", ".join(map(repr, columns[:_MOST])) + more


def _quoted(text: str) -> str:
    """As one would type it in a shell."""
    plain = text and all(c.isalnum() or c in "._-/:" for c in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
