"""A small search for settings of `Retrieval`, honest about what it has looked at.

```
all pairs ─┬─ test cut          the caller's; never given to the search
           └─ training pairs ─┬─ validation cut    what trials are compared on
                              └─ the rest          what trials are trained on
```
The first trial is the defaults. Then, in turn, a trial is drawn at random, each setting being the default or any of
SPACE, or it is the best so far with one setting changed: so the search may end at any time. A trial is a whole training
with its own fall of the learning rate, and all have the same seed, pairs and users.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import cuts, evaluation
from hotrow.models.losses import LOSSES, make_loss
from hotrow.models.pairs import check_lengths, columns
from hotrow.models.retrieval import Retrieval
from hotrow.models.training import Progress
from hotrow.table.table import Table

SPACE: dict[str, tuple[Any, ...]] = {
    "loss": ("softmax", "cosine"),
    "learning_rate": (0.003, 0.005, 0.01, 0.02, 0.04),
    "l2": (0.0, 1e-6, 1e-5, 1e-4, 1e-3),
    "epochs": (None, 5, 10, 20, 40),
    "negatives": (128, 512, 2048),
    "temperature": (None, 0.07, 0.1, 0.13, 0.17, 0.22, 0.3),
    "margin": (0.2, 0.4, 0.6, 0.8),
    "weight": (10.0, 50.0, 150.0, 300.0),
}
"""What is searched: setting of `Retrieval` → values; None leaves it to the model. What a loss hasn't is left out."""

_TRIES = 100  # to find settings that weren't tried yet
_STEPS = 1000  # of the progress


@dataclass(frozen=True)
class Trial:
    """One training of the search.

    settings  what differs from the defaults and from what was fixed
    score     the metric on the validation pairs, a mean over users
    seconds   of training
    each      float64 (users,): the metric of each user, in one order for all trials of a search
    """

    settings: dict[str, Any]
    score: float
    seconds: float
    each: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    settings  of the best trial, with those that were fixed: `Retrieval(**found.settings, seed=…)`
    gain      by how much the best is above the defaults on the validation pairs: 95 % from here to there, by bootstrap
              over users. It was chosen there, so on other pairs expect somewhat less
    trials    in the order in which they were made, the defaults first
    stopped   what ended the search early: "Ctrl-C", "time", "space" if there was nothing left to try, else ""
    """

    settings: dict[str, Any]
    gain: tuple[float, float]
    trials: list[Trial]
    metric: str
    stopped: str
    validation: dict[str, Any]

    @property
    def best(self) -> Trial:
        """The trial with the highest score; of several the first."""
        return max(self.trials, key=lambda trial: trial.score)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "metric": self.metric,
            "settings": self.settings,
            "score": self.best.score,
            "defaults": self.trials[0].score,
            "gain": list(self.gain),
            "stopped": self.stopped,
            "validation": self.validation,
            "trials": [
                {"settings": trial.settings, "score": trial.score, "seconds": round(trial.seconds, 3)}
                for trial in self.trials
            ],
        }


def tune(
    pairs: Any,
    *,
    times: Any = None,
    way: str | None = None,
    trials: int = 20,
    minutes: float | None = None,
    metric: str = "ndcg@20",
    space: Mapping[str, Sequence[Any]] = SPACE,
    seed: int = 0,
    progress: Progress | None = None,
    on_trial: Callable[[Trial], None] | None = None,
    **fixed: Any,
) -> Tuned:
    """Search for settings of `Retrieval` by pairs to train on, as for `fit`; without those to be measured with.

    times     when each pair was, numbers or datetime64 (n,): the last of each user is for validation; else a tenth
    way       "last", "latest" or "random", to validate otherwise; see `hotrow.models.cuts`
    trials    at most so many; minutes: none is begun or gone on with after so many, but for the first
    metric    "recall", "ndcg", "hit_rate", "precision" or "mrr" at a length
    space     setting → values to choose from
    progress  callable(steps done, steps in all, {"trial", "trials", "best"})
    on_trial  called with each Trial when it is done
    fixed     settings that every trial has, such as dim=32

    The same seed makes the same trials, unless time ends them. Ctrl-C ends the search and returns what it has found; in
    the first trial it is KeyboardInterrupt. Raises ArgumentError for what can't be searched, before it begins.

    >>> from hotrow.models import Retrieval, tune
    >>> users, items = [i // 4 for i in range(160)], [i * 7 % 5 + 5 * (i // 4 % 2) for i in range(160)]
    >>> found = tune((users, items), trials=2, metric="recall@3", dim=4, epochs=2)
    >>> len(found.trials), found.settings["dim"]
    (2, 4)
    >>> model = Retrieval(**found.settings).fit((users, items))
    """
    _check(trials, minutes)
    search = _Search(_cut(pairs, times, way, seed), metric, space, seed, fixed)
    clock = _Clock(trials, minutes, progress)
    done: list[Trial] = []
    stopped = ""
    try:
        while len(done) < trials and not stopped:
            settings = search.draw(done)
            if settings is None:
                stopped = "space"
            elif clock.is_over and done:
                stopped = "time"
            else:
                done.append(search.run(settings, clock.of_trial(done)))
                if on_trial is not None:
                    on_trial(done[-1])
    except _OutOfTimeError:
        stopped = "time"
    except KeyboardInterrupt:
        if not done:
            raise
        stopped = "Ctrl-C"
    return search.found(done, stopped)


def _check(trials: int, minutes: float | None) -> None:
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ArgumentError(f"trials must be a whole number from 1 on; got {trials!r}")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ArgumentError(f"minutes must be above 0; got {minutes!r}. Try minutes=10, or None for no end")


@dataclass(frozen=True)
class _Parts:
    """Pairs as numbers from 0 on, for a trial's model is not kept: of the rest, and of the validation cut."""

    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    way: str


def _cut(pairs: Any, times: Any, way: str | None, seed: int) -> _Parts:
    users, items = (Table(1).find(ids).inverse for ids in columns(pairs))
    check_lengths(len(users), len(items))
    time = None if times is None else _times(times, len(users))
    parts = cuts.cut(users, items, time, seed, way)
    train, test = parts.train, parts.test
    if not np.isin(users[test], users[train]).any():
        raise ArgumentError(
            "there is nothing to validate with: it takes users with two pairs or more, of which one is held out"
        )
    return _Parts((users[train], items[train]), (users[test], items[test]), parts.way)


def _times(times: Any, count: int) -> np.ndarray:
    given = np.asarray(times)
    if given.shape != (count,) or given.dtype.kind not in "iufM":
        raise ArgumentError(
            f"times are a number or a datetime64 for each of {count:,} pairs; got {given.dtype}, {given.shape}"
        )
    if given.dtype.kind in "fM" and np.isnan(given).any():
        raise ArgumentError("times have no value for some pairs: leave those pairs out")
    return given


class _OutOfTimeError(Exception):
    """The minutes are over."""


class _Clock:
    """How far the search is, by trials or by minutes, whichever is further."""

    def __init__(self, trials: int, minutes: float | None, progress: Progress | None) -> None:
        self._trials, self._seconds, self._progress = trials, 60 * (minutes or math.inf), progress
        self._started = perf_counter()

    @property
    def is_over(self) -> bool:
        return perf_counter() - self._started >= self._seconds

    def of_trial(self, done: list[Trial]) -> Progress:
        """The progress of the trial after those that are done."""
        facts = {"trial": len(done) + 1, "trials": self._trials, "best": max((t.score for t in done), default=None)}

        def told(steps: int, total: int, _: dict[str, Any]) -> None:
            if self.is_over and done:
                raise _OutOfTimeError
            by_trials = (len(done) + steps / total) / self._trials
            by_time = (perf_counter() - self._started) / self._seconds
            if self._progress is not None:
                self._progress(int(_STEPS * min(1.0, max(by_trials, by_time))), _STEPS, facts)

        return told


class _Search:
    """Draws settings, and trains with them."""

    def __init__(
        self, parts: _Parts, metric: str, space: Mapping[str, Sequence[Any]], seed: int, fixed: dict[str, Any]
    ) -> None:
        evaluation.metric_and_k(metric)
        self.parts, self.metric, self.seed, self.fixed = parts, metric, seed, fixed
        self.defaults = Retrieval(**fixed, seed=seed).config  # or ArgumentError
        self.of_loss = {name: set(inspect.signature(loss).parameters) for name, loss in LOSSES.items()}
        self.of_any = set().union(*self.of_loss.values())
        self.space = self._checked(space)
        self.random = np.random.default_rng([seed % 2**64, 1])
        self.tried: set[str] = set()

    def _checked(self, space: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Without what is fixed, and without losses that couldn't have it. ArgumentError for what no model takes."""
        bound = self.of_any & set(self.fixed)
        for loss in space.get("loss", ()):
            make_loss(loss)
        losses = [loss for loss in space.get("loss", ()) if bound <= self.of_loss[loss]]
        if "loss" in self.fixed or not losses:
            losses = [self.defaults["loss"]]
        out: dict[str, list[Any]] = {"loss": losses}
        for name, values in space.items():
            having = [loss for loss in losses if name not in self.of_any or name in self.of_loss[loss]]
            if name in self.fixed or name == "loss" or not having:
                continue
            if not len(values):
                raise ArgumentError(f"space has values to try, such as {{'l2': (1e-4, 1e-3)}}; got none for {name!r}")
            for value in values:  # what is refused is refused before the search, not in the middle of it
                Retrieval(**self.fixed | {"loss": having[0], name: value})
            out[name] = list(values)
        return out

    def draw(self, done: list[Trial]) -> dict[str, Any] | None:
        """Settings that weren't tried yet; None if there seem to be none."""
        if not done:
            return self._new({})
        best = max(done, key=lambda trial: trial.score)
        for attempt in range(2 * _TRIES):
            near = len(done) % 2 == 0 and attempt < _TRIES
            settings = self._new(self._near(best.settings) if near else self._anywhere())
            if settings is not None:
                return settings
        return None

    def _new(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """What differs from the defaults, if that wasn't tried yet."""
        settings = {name: value for name, value in settings.items() if self.defaults.get(name) != value}
        key = repr(sorted(settings.items()))
        if key in self.tried:
            return None
        self.tried.add(key)
        return settings

    def _anywhere(self) -> dict[str, Any]:
        """The defaults with about half of them changed."""
        loss = self._choice(self.space["loss"]) if self.random.random() < 0.5 else self.defaults["loss"]
        others = [name for name in self._names(loss) if name != "loss" and self.random.random() < 0.5]
        return {"loss": loss} | {name: self._choice(self.space[name]) for name in others}

    def _near(self, settings: dict[str, Any]) -> dict[str, Any]:
        """These with one of them changed."""
        name = self._choice(self._names(settings.get("loss", self.defaults["loss"])))
        now = settings.get(name, self.defaults.get(name))
        others = [value for value in self.space[name] if value != now]
        changed = settings | ({name: self._choice(others)} if others else {})
        loss = changed.get("loss", self.defaults["loss"])
        return {name: value for name, value in changed.items() if name in self._names(loss)}

    def _names(self, loss: str) -> list[str]:
        """The settings that are searched and that this loss has."""
        return [name for name in self.space if name not in self.of_any - self.of_loss[loss]]

    def _choice(self, values: list[Any]) -> Any:
        return values[int(self.random.integers(len(values)))]

    def run(self, settings: dict[str, Any], progress: Progress) -> Trial:
        """Train with these, and measure on the validation pairs."""
        model = Retrieval(**self.fixed | settings, seed=self.seed)
        started = perf_counter()
        model.fit(self.parts.train, progress=progress)
        seconds = perf_counter() - started
        each = model.evaluate_each(self.parts.held_out, self.metric)
        return Trial(settings, float(each.mean()), seconds, each)

    def found(self, trials: list[Trial], stopped: str) -> Tuned:
        best = max(trials, key=lambda trial: trial.score)
        low, high = evaluation.intervals((best.each - trials[0].each)[:, None], seed=self.seed)[0].tolist()
        validation = {"way": self.parts.way, "pairs": len(self.parts.held_out[0]), "users": len(best.each)}
        return Tuned(self.fixed | best.settings, (low, high), trials, self.metric, stopped, validation)
