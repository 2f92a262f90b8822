"""`hotrow.jax`: an embedding for JAX's own way of working. Ids on the host, vectors in, gradients out.

batch = emb.find(ids)                  on the host: any ids, new ones get their row
vectors = emb(batch)                   a JAX array, which jit, grad, vmap and scan take like any other
emb.update(batch, gradients)           on the host: one step of the rows of the batch

emb.lookup(ids)                        for inference, also inside of jit: it never grows
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from hotrow.bridges.id_range import IdRange
from hotrow.errors import ArgumentError, CorruptError, IdError, KindError, MissingExtraError
from hotrow.store.arrays import from_arrays, to_arrays
from hotrow.store.checks import made_of
from hotrow.table import refusals
from hotrow.table.batch import Batch
from hotrow.table.ids import Keys, restore, to_keys
from hotrow.table.initializers import Initializer
from hotrow.table.optimizers import Optimizer
from hotrow.table.state import State
from hotrow.table.table import Table
from hotrow.table.view import View

try:
    import_module("jax")
except ImportError as error:
    raise MissingExtraError(f'hotrow.jax needs JAX ({error}): pip install "hotrow[jax]"') from error

from hotrow.bridges import jax as bridge
from hotrow.bridges import jax_ops, jax_reading

__all__ = ["Embedding"]

_OUTSIDE = (
    "expected the call outside of the function that JAX traces (jit, grad, vmap, scan): batch = emb.find(ids); "
    "gradients = compiled(emb(batch)); emb.update(batch, gradients). For inference emb.lookup(ids) works inside"
)
_Host = Table | View


class Embedding:
    """Ids to vectors, and gradients back to rows, beside functions that stay pure. The rows are in `emb.table`.

    input_dim    ids are 0 to input_dim − 1, and others refused; None: any int64, uint64 or string
    output_dim   floats a vector
    optimizer    hotrow.SGD, Adagrad, Adam, …; Adam(1e-3) if not given
    initializer  hotrow.Uniform (0.05, if not given), Normal, TruncatedNormal, Constant or Zeros
    seed         first values are a function of it and of the id; 0 if not given
    ids          "int64", "uint64" or "string"; else the first ids that get a row decide
    mask_id      one id that is padding: zeros, no row, no gradient
    table        a hotrow.Table of your own, which brings all of these; or a view, which can only be read

    An Embedding is no pytree: it is closed over, never an argument of a compiled function nor a part of what is
    differentiated. Vectors and gradients are. Raises ArgumentError for arguments that can't be right.

    >>> import hotrow, jax
    >>> emb = hotrow.jax.Embedding(None, 2, optimizer=hotrow.SGD(0.5), initializer=hotrow.Constant(1.0))
    >>> batch = emb.find(["lantern", "cup", "lantern"])
    >>> gradients = jax.grad(lambda vectors: vectors.sum())(emb(batch))
    >>> emb.update(batch, gradients)
    >>> emb.lookup(["cup", "lantern"]).tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """

    def __init__(
        self,
        input_dim: int | None,
        output_dim: int,
        *,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        seed: int | None = None,
        ids: str | None = None,
        mask_id: Any = None,
        table: Table | View | None = None,
    ) -> None:
        self.input_dim, self.output_dim, self.mask_id = _check_bound(input_dim), output_dim, mask_id
        self.ids = ids or (None if input_dim is None else "int64")
        if table is None:
            self.table: Any = Table(
                output_dim, optimizer=optimizer, initializer=initializer, seed=seed or 0, ids=self.ids
            )
        else:
            self.table = _check_table(table, output_dim, (optimizer, initializer, seed, ids))
        if mask_id is not None:
            to_keys([mask_id], self.table.kind)

    def __repr__(self) -> str:
        return f"hotrow.jax.Embedding({self.input_dim}, {self.output_dim}, table={self.table!r})"

    # --- the three calls of a step -----------------------------------------------------------------------------

    def find(
        self,
        ids: Any,
        *,
        grow: bool = True,
        offsets: Any = None,
        weights: Any = None,
        pooling: str | None = None,
        mask: Any = None,
    ) -> Batch:
        """Convert ids and find their rows, once: as `hotrow.Table.find`, but that new ids get their row by default.

        ids      integers or strings of any shape: lists, NumPy, Arrow, pandas, JAX arrays. JAX has no int64 without
                 x64, so give wider ids as they are, not by way of jnp.asarray
        grow     False for inference: an id without a row has its first value, and gets none
        mask     the id that is padding, in place of mask_id

        offsets, weights and pooling are those of bags. Raises KindError or IdError for what can't be ids here,
        ArgumentError inside of a function that JAX traces, where ids have no values.

        >>> import hotrow
        >>> emb = hotrow.jax.Embedding(None, 4)
        >>> emb(emb.find(["lantern", "cup", "mug"], offsets=[0, 1, 3], pooling="sum")).shape
        (2, 4)
        """
        if any(map(jax_reading.holds_tracer, (ids, offsets, weights))):
            raise ArgumentError(f"find() got values that JAX is tracing, which have no values yet; {_OUTSIDE}")
        _refuse_recording("find() would run once, when the function is traced, and never again")
        if grow and not isinstance(self.table, Table):
            raise ArgumentError(f"{self.table!r} can only be read, so no id gets a row; expected find(ids, grow=False)")
        return self._find(ids, grow, mask, {"offsets": offsets, "weights": weights, "pooling": pooling})

    def __call__(self, batch: Batch, *, unknown: str = "initial") -> Any:
        """The vectors of a Batch: a JAX array, float32 (*batch.shape, output_dim).

        unknown  what an id without a row gets: "initial", its first value; "zero"; or "error"

        Raises UnknownIdError for the last, ArgumentError for anything but a Batch of this table.
        """
        _check_batch(batch, "emb(emb.find(ids)) to train, or emb.lookup(ids)")
        _refuse_recording("emb(batch) would be read once, when the function is traced, and be a constant from then on")
        out = jax_reading.room((*batch.shape, self.output_dim))
        return jax_reading.to_jax(self.table.lookup(batch, unknown=unknown, out=out))

    def update(self, batch: Batch, gradients: Any, learning_rate: Any = None) -> None:
        """One optimizer step on the rows of a Batch; an id's gradients are summed, in batch order, first.

        gradients      floating, JAX's or NumPy's, of the shape of the vectors; float16 and bfloat16 become float32
        learning_rate  for this step in place of the optimizer's: a float, a JAX scalar, schedule(emb.table.steps)

        What isn't finite goes into the rows, as with JAX's own arrays. Raises UnknownIdError, with nothing changed, for
        a Batch found with grow=False that has ids without a row; ArgumentError for gradients of another shape.
        """
        _check_batch(batch, "emb.update(batch, gradients) with batch = emb.find(ids)")
        if jax_reading.holds_tracer(gradients):
            raise ArgumentError(f"update() got gradients that JAX is tracing, which have no values yet; {_OUTSIDE}")
        _refuse_recording("update() would run once, when the function is traced, and never again")
        if not isinstance(self.table, Table):
            raise ArgumentError(f"{self.table!r} can only be read; expected one from hotrow.load(path)")
        self.table.update(batch, jax_reading.to_host(gradients), learning_rate=_rate(learning_rate))

    # --- inference ---------------------------------------------------------------------------------------------

    def lookup(self, ids: Any, *, unknown: str = "initial") -> Any:
        """The vectors of ids as they are now: a JAX array, float32 (*ids.shape, output_dim). No id gets a row.

        It works inside of jit, vmap and scan: the table is read when the compiled function runs, not when it was
        traced, and by one call for a whole vmap. JAX runs ahead of Python: wait for a result (`block_until_ready`)
        before an `update` that it mustn't see. Whichever comes first, a lookup sees all of an update or nothing.
        To jax.grad the vectors are constants.

        Inside, ids are integers; those of 32 bits need an input_dim unless JAX has x64, or they are KindError, for JAX
        cuts ids to 32 bits on their way in. Ids of any kind that the function itself holds, as a list of strings, stay
        as they are. Raises what `hotrow.Table.lookup` raises; inside, JAX raises its own class, and its text has ours.

        >>> import hotrow, jax
        >>> emb = hotrow.jax.Embedding(1000, 4)
        >>> jax.jit(emb.lookup)(jax.numpy.array([[3, 7]])).shape
        (1, 2, 4)
        """
        if isinstance(ids, Batch):
            raise ArgumentError("lookup() takes ids; expected emb(batch) for a Batch")
        if jax_ops.is_tensor(ids) and jax_ops.is_traced(ids):
            self._check_traced(ids)
            return jax_reading.read(partial(self._look, unknown=unknown), ids, self.output_dim)
        if jax_reading.holds_tracer(ids):
            raise ArgumentError("lookup() got a list of values that JAX is tracing; expected one array: jnp.stack(ids)")
        if not jax_reading.is_recording():
            return jax_reading.to_jax(self._look(ids, unknown))
        keys = to_keys(ids, self.table.kind)
        shape = (*keys.shape, self.output_dim)
        fixed = _copy_of(keys)
        return jax_reading.read_fixed(lambda: self._look(fixed, unknown).reshape(shape), shape)

    def _look(self, ids: Any, unknown: str) -> np.ndarray:
        """On the host, and maybe inside of JAX's own call: nothing of JAX is to be used here."""
        if self.input_dim is None and self.mask_id is None:
            return self.table.lookup(ids, unknown=unknown)
        return self.table.lookup(self._find(ids, False, None, {}), unknown=unknown)

    def _check_traced(self, ids: Any) -> None:
        if ids.dtype.kind not in "iu":
            raise KindError(
                f"got ids of dtype {ids.dtype} inside of a function that JAX traces, where their values can't be seen; "
                "expected integers, e.g. ids.astype(int) of whole numbers, or the call outside"
            )
        if self.input_dim is None and ids.dtype.itemsize == 4 and bridge.refusal():
            raise KindError(
                f"got ids of dtype {ids.dtype} inside of a function that JAX traces; {bridge.refusal()}. Expected a "
                "bound on the ids, "
                f"hotrow.jax.Embedding(2**31, {self.output_dim}, table=emb.table), or jax_enable_x64, or the call "
                "outside, emb.lookup(ids), and its vectors as an argument"
            )

    # --- ids ---------------------------------------------------------------------------------------------------

    def _find(self, ids: Any, grow: bool, mask: Any, bags: dict[str, Any]) -> Batch:
        mask = self.mask_id if mask is None else mask
        if self.input_dim is not None and not isinstance(ids, Batch):
            ids = self._checked(ids, mask)
        growing = {"grow": grow} if isinstance(self.table, Table) else {}
        return self.table.find(ids, mask=mask, **growing, **bags)

    def _checked(self, ids: Any, mask: Any) -> np.ndarray:
        """The ids as integers of their shape, none of them beyond input_dim."""
        keys = to_keys(ids, self.table.kind)
        if keys.texts is not None or self.input_dim is None:
            return ids  # the table's own error is the better one
        outside = keys.keys >= np.uint64(self.input_dim)  # a negative id is a key from 2**63 on
        numbers = restore(keys.keys, keys.kind or "int64")
        if mask is not None:
            outside &= numbers != mask
        if outside.any():
            i = int(np.argmax(outside))
            allowed = IdRange(self.input_dim, "the input_dim of this Embedding", self.output_dim)
            text = allowed.text(str(numbers[i]), refusals.place(keys.shape, i))
            raise IdError(f"{text}, or in hotrow.jax.Embedding(None, {self.output_dim})")
        return numbers.reshape(keys.shape)

    # --- as arrays ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """The whole table as NumPy arrays by name, copies of one moment: ids, vectors, slots, steps, configuration.

        They go into np.savez, or beside a model's parameters into an Orbax checkpoint; no pickle is needed. They must
        stay NumPy's, for JAX without x64 cuts keys to 32 bits. `hotrow/store/arrays.py` says what each is.

        >>> import hotrow
        >>> emb = hotrow.jax.Embedding(None, 4)
        >>> _ = emb.find(["lantern"])
        >>> {name: (a.dtype.name, a.shape) for name, a in emb.state_dict().items() if name in ("keys", "weights")}
        {'keys': ('uint64', (1,)), 'weights': ('float32', (1, 4))}
        """
        table = self.table
        if not isinstance(table, Table):
            raise ArgumentError(f"{table!r} has no slots and steps to go on from; expected one from hotrow.load(path)")
        return table.read_state(to_arrays)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Become the table of these arrays, in place: training goes on to the same bits.

        Optimizer, initializer and seed are those of the arrays; a Batch found before knows its ids no more. Raises
        CorruptError for what `state_dict` hasn't returned, ArgumentError for an Embedding of other dimensions or ids;
        nothing has changed then.
        """
        where = "these arrays"
        if not isinstance(self.table, Table):
            raise ArgumentError(f"{self.table!r} can only be read; expected one from hotrow.load(path)")
        if not isinstance(arrays, Mapping):
            raise ArgumentError(
                f"got a {refusals.name_of(arrays)}; expected what state_dict() returned, arrays by name"
            )
        try:
            given = {name: np.asarray(arrays[name]) for name in arrays}
        except Exception as error:
            raise CorruptError(f"{where} can't be read: {error}") from error
        state = from_arrays(given, where)
        self._check_fits(state)
        with made_of(where):
            self.table.restore(state)
        self.table.kind = self.table.kind or self.ids

    def _check_fits(self, state: State) -> None:
        dim, kind = state.config["dim"], state.config["ids"]
        if dim != self.output_dim or (self.ids is not None and kind not in {None, self.ids}):
            raise ArgumentError(
                f"these arrays have vectors of {dim} floats for {kind or 'any'} ids, this Embedding has vectors of "
                f"{self.output_dim} for {self.ids or 'any'} ids; expected hotrow.jax.Embedding(None, {dim})"
            )
        if self.input_dim is not None and kind != "string":
            self._checked(restore(state.keys, kind or "int64"), self.mask_id)


# --- arguments --------------------------------------------------------------------------------------------------------


def _check_bound(input_dim: Any) -> int | None:
    is_whole = isinstance(input_dim, int | np.integer) and not isinstance(input_dim, bool)
    if input_dim is not None and (not is_whole or not 0 < input_dim <= 2**63):
        raise ArgumentError(
            f"input_dim must be how many ids there are, a whole number from 1 on, or None for any; got {input_dim!r}"
        )
    return None if input_dim is None else int(input_dim)


def _check_table(table: Any, dim: Any, others: tuple[Any, ...]) -> _Host:
    if not isinstance(table, View) or table.dim != dim:
        raise ArgumentError(f"table must be a hotrow.Table of vectors of {dim} floats, the output_dim; got {table!r}")
    if any(other is not None for other in others):
        raise ArgumentError(
            "a table brings its optimizer, initializer, seed and kind of ids; leave those out beside table=. "
            "table.set_optimizer(…) gives it another optimizer"
        )
    return table


def _check_batch(batch: Any, right: str) -> None:
    if not isinstance(batch, Batch):
        raise ArgumentError(f"got a {refusals.name_of(batch)}; expected a Batch, {right}")


def _refuse_recording(what: str) -> None:
    if jax_reading.is_recording():
        raise ArgumentError(f"{what}; {_OUTSIDE}")


def _rate(given: Any) -> float | None:
    """A learning rate as a float; the table checks its range."""
    if given is None:
        return None
    if callable(given):
        raise ArgumentError(
            "learning_rate is a schedule; expected its value for this step, learning_rate=schedule(emb.table.steps)"
        )
    try:
        if np.ndim(given) == 0:
            return float(given)
    except (TypeError, ValueError):
        pass
    raise ArgumentError(f"learning_rate must be one number, a float or a JAX scalar; got {given!r:.60}")


def _copy_of(keys: Keys) -> Any:
    """The ids that these keys are of, flat, in memory of their own."""
    if keys.texts is None:
        return restore(keys.keys.copy(), keys.kind or "int64")
    return keys.texts if keys.at is None else keys.texts.take(keys.at)
