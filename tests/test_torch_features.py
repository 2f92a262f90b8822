"""hotrow.torch.Features beside the same modules, one after the other: the same bits, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import hotrow
from hotrow import torch as hot
from hotrow.kernels import threads
from hotrow.store.arrays import to_arrays

MODES = ("sum", "mean", "max", "sqrtn")


def modules(optimizer=None):
    """An Embedding of each kind, bags of all modes, and three that share a table; equal at each call."""

    def how(seed):
        return {"seed": seed, "optimizer": optimizer}

    made = {
        "user": hot.Embedding(None, 4, **how(1)),
        "bounded": hot.Embedding(50, 3, padding_idx=-1, **how(2)),
        "word": hot.Embedding(None, 2, padding_idx="", **how(3)),
        "rare": hot.Embedding(None, 1, scale_grad_by_freq=True, **how(4)),
    }
    for place, mode in enumerate(MODES):
        made[mode] = hot.EmbeddingBag(None, 3, mode=mode, padding_idx=0, **how(5 + place))
    made["often"] = hot.EmbeddingBag(None, 2, mode="mean", scale_grad_by_freq=True, **how(10))
    made["friend"] = hot.Embedding(None, 4, table=made["user"].table)
    made["friends"] = hot.EmbeddingBag(None, 4, mode="sum", table=made["user"].table)
    return made


def columns(n, seed=0):
    """A batch of n examples for `modules`."""
    rng = np.random.default_rng(seed)

    def bags():
        return [rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in range(n)]

    return {
        "user": torch.from_numpy(rng.integers(-(2**60), 2**60, n) // 2**58),
        "bounded": torch.from_numpy(rng.integers(0, 50, n)),
        "word": rng.choice(["", "lantern", "cup", "mug"], n).tolist(),
        "rare": rng.integers(0, 5, n),
        **{mode: bags() for mode in MODES},
        "often": torch.from_numpy(rng.integers(0, 5, (n, 2))),
        "friend": rng.integers(-4, 4, n).tolist(),
        "friends": bags(),
    }


def singly(made, data):
    """The vectors of each module by itself, side by side."""
    return torch.cat([module(data[name]) for name, module in made.items()], -1)


def loss_of(vectors):
    return (vectors * torch.linspace(-1, 2, vectors.numel()).reshape(vectors.shape)).sum()


def assert_same(made, others):
    """Equal tables, with all that optimizers keep and all steps."""
    for name, module in made.items():
        ours, theirs = to_arrays(module.table.state()), to_arrays(others[name].table.state())
        assert ours.keys() == theirs.keys()
        for key, values in ours.items():
            np.testing.assert_array_equal(values, theirs[key], err_msg=f"{name}: {key}")


def train(forward, made, optimizer, steps=4, n=20):
    """Some steps with a torch optimizer; what came out."""
    outs = []
    for step in range(steps):
        optimizer.zero_grad()
        vectors = forward(columns(n, step))
        outs.append(vectors.detach().clone())
        loss_of(vectors).backward()
        optimizer.step()
    return outs


def pair():
    """Features, and equal modules that are to be called one by one."""
    return hot.Features(modules()), modules()


def followed(module, made=None, lr=0.01):
    root = module if made is None else torch.nn.ModuleDict(made)
    optimizer = torch.optim.Adam(root.parameters(), lr=lr)
    hot.follow(root, optimizer)
    return optimizer


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = threads.get_threads()
    yield
    hotrow.set_threads(before)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_vectors_and_trained_tables_are_those_of_single_modules_to_the_bit(n):
    hotrow.set_threads(n)
    features, single = pair()
    ours = train(features, dict(features.items()), followed(features))
    theirs = train(lambda data: singly(single, data), single, followed(None, single))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    assert_same(dict(features.items()), single)


@pytest.mark.parametrize("n", [0, 1, 3000])
def test_batches_may_be_empty_or_single_or_large(n):
    features, single = pair()
    ours = train(features, dict(features.items()), followed(features), steps=2, n=n)
    theirs = train(lambda data: singly(single, data), single, followed(None, single), steps=2, n=n)
    assert ours[0].shape == (n, 32)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert_same(dict(features.items()), single)


def test_tables_with_optimizers_of_their_own_step_by_hand():
    features, single = hot.Features(modules(hotrow.Adagrad(0.1))), modules(hotrow.Adagrad(0.1))
    for step in range(3):
        loss_of(features(columns(20, step))).backward()
        loss_of(singly(single, columns(20, step))).backward()
        for made in (dict(features.items()), single):
            for module in {id(m.table): m for m in made.values()}.values():
                module.step()
    assert_same(dict(features.items()), single)


def test_looking_makes_no_rows():
    features = hot.Features(modules())
    features(columns(20))
    before = {name: len(module.table) for name, module in features.items()}
    with torch.no_grad():
        features(columns(20, 1))
    features.eval()
    assert not features(columns(20, 2)).isnan().any()
    assert {name: len(module.table) for name, module in features.items()} == before


def test_a_new_id_in_evaluation_has_its_first_value():
    features, single = pair()
    features.eval()
    for module in single.values():
        module.eval()
    assert torch.equal(features(columns(20)), singly(single, columns(20)))
    with pytest.raises(hotrow.UnknownIdError, match="no row to take a gradient"):
        loss_of(features(columns(20))).backward()


def test_a_frozen_module_stays_as_it_is():
    features = hot.Features({"a": hot.Embedding(None, 2, seed=0), "b": hot.Embedding(None, 2, seed=1)})
    features({"a": [1, 2], "b": [1, 2]})
    features["a"].requires_grad_(False)
    before = features["a"].table.lookup([1, 2]), features["b"].table.lookup([1, 2])
    optimizer = followed(features)
    loss_of(features({"a": [1, 3], "b": [1, 3]})).backward()
    optimizer.step()
    assert len(features["a"].table) == 2
    assert len(features["b"].table) == 3
    np.testing.assert_array_equal(features["a"].table.lookup([1, 2]), before[0])
    assert (features["b"].table.lookup([1]) != before[1][:1]).any()


def test_a_scaled_loss_ends_where_an_unscaled_does():
    results = []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        features = hot.Features(modules())
        optimizer = followed(features)
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(loss_of(features(columns(20, step)))).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append(dict(features.items()))
    assert_same(*results)


def test_gradients_that_are_not_finite_are_skipped_for_all_tables():
    features = hot.Features(modules())
    optimizer, scaler = followed(features), torch.amp.GradScaler("cpu", init_scale=2.0**4)
    scaler.scale(loss_of(features(columns(20)))[None] * float("inf")).sum().backward()
    scaler.step(optimizer)
    assert all(module.table.steps == 0 for module in features.values())


def test_gradients_add_up_over_backward_passes_and_a_graph_is_gone_through_twice():
    features, single = pair()
    ours, theirs = followed(features), followed(None, single)
    for forward in (features, lambda data: singly(single, data)):
        loss = loss_of(forward(columns(20)))
        loss.backward(retain_graph=True)
        loss.backward()
        loss_of(forward(columns(10, 1))).backward()
    ours.step()
    theirs.step()
    assert_same(dict(features.items()), single)
    assert all(module.table.steps == 1 for module in features.values())


def test_a_gradient_for_other_tensors_is_for_no_step():
    features = hot.Features({"a": hot.Embedding(None, 2), "b": hot.EmbeddingBag(None, 2)})
    scale = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([*features.parameters(), scale], lr=1.0)
    hot.follow(features, optimizer)
    vectors = features({"a": [1, 2], "b": [[1], []]})
    (gradient,) = torch.autograd.grad((vectors * scale).sum(), scale)
    torch.testing.assert_close(gradient, vectors.detach().sum())
    optimizer.step()
    assert all(module.table.steps == 0 for module in features.values())


def test_a_second_derivative_is_refused():
    features = hot.Features({"a": hot.Embedding(None, 2)})
    x = features({"a": [1, 2]})
    (g,) = torch.autograd.grad(x.square().sum(), list(features.parameters()), create_graph=True)
    with pytest.raises(RuntimeError):
        g.backward()


def test_a_copy_has_tables_of_its_own_that_are_shared_alike():
    features = hot.Features(modules())
    train(features, None, followed(features))
    twin = copy.deepcopy(features)
    assert twin["friend"].table is twin["user"].table is not features["user"].table
    train(twin, None, followed(twin))
    train(features, None, followed(features))
    assert_same(dict(features.items()), dict(twin.items()))


def test_a_state_dict_goes_on_to_the_bit(tmp_path):
    features = hot.Features(modules())
    optimizer = followed(features)
    train(features, None, optimizer)
    torch.save({"model": features.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "net.pt")
    again = hot.Features(modules())
    other = followed(again)
    saved = torch.load(tmp_path / "net.pt", weights_only=True)
    again.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    ours, theirs = train(features, None, optimizer), train(again, None, other)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert_same(dict(features.items()), dict(again.items()))


def test_rows_forgotten_before_the_step_are_left_out():
    features = hot.Features({"a": hot.Embedding(None, 2), "b": hot.Embedding(None, 2)})
    optimizer = followed(features)
    vectors = features({"a": [1, 2], "b": [1, 2]})
    features["a"].table.forget([2])
    loss_of(vectors).backward()
    optimizer.step()
    assert len(features["a"].table) == 1
    assert len(features["b"].table) == 2


def test_ids_found_ahead_go_in_their_place():
    features, single = pair()
    data = columns(20)
    found = dict(data)
    for name in ("user", "word", "rare", "bounded", "sum"):
        found[name] = features[name].find(data[name])
    assert torch.equal(features(found), singly(single, data))


def test_columns_come_from_a_data_loader():
    rows = [{"user": i % 5, "word": f"w{i % 3}", "pair": torch.tensor([i, i + 1])} for i in range(12)]
    features = hot.Features(
        {"user": hot.Embedding(None, 2), "word": hot.Embedding(None, 3), "pair": hot.EmbeddingBag(None, 2)}
    )
    optimizer = followed(features)
    for batch in torch.utils.data.DataLoader(rows, batch_size=4):
        loss_of(features(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert {name: len(module.table) for name, module in features.items()} == {"user": 5, "word": 3, "pair": 13}


def test_vectors_come_out_in_the_dtype_of_the_module():
    features = hot.Features({"a": hot.Embedding(None, 2), "b": hot.EmbeddingBag(None, 2)}).half()
    assert features({"a": [1], "b": [[1, 2]]}).dtype is torch.float16


@pytest.mark.parametrize("name", ["type", "items", "double", "user id", "a/b", "🏮", "forward"])
def test_a_column_may_have_any_name_that_torch_can_save(name):
    features = hot.Features({name: hot.Embedding(None, 2, seed=0)})
    first = features({name: [1, 2]})
    again = hot.Features({name: hot.Embedding(None, 2, seed=1)})
    again.load_state_dict(features.state_dict())
    assert torch.equal(again({name: [1, 2]}), first)
    assert torch.equal(copy.deepcopy(again)({name: [1, 2]}), first)
    assert list(again) == [name]
    assert again[name] is next(iter(again.children()))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: hot.Features({}), "at least one feature"),
        (lambda: hot.Features({"a": torch.nn.Embedding(3, 2)}), "got Embedding"),
        (lambda: hot.Features({"a.b": hot.Embedding(None, 2)}), "no dot"),
        (lambda: hot.Features({"": hot.Embedding(None, 2)}), "not empty"),
        (lambda: hot.Features({3: hot.Embedding(None, 2)}), "must be a string"),
        (lambda: hot.Features([hot.Embedding(None, 2)]), "must be a dict"),
    ],
)
def test_features_that_can_not_be_right_are_refused(make, text):
    with pytest.raises(hotrow.errors.ArgumentError, match=text):
        make()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"a": [1, 2]}, "expected a column 'b'"),
        ({"a": [1, 2], "b": [[1]]}, r"\{'a': 2, 'b': 1\}"),
        ({"a": torch.ones(2, 2, dtype=torch.int64), "b": [[1], []]}, "'a': .*EmbeddingBag"),
        ({"a": [[1], [2]], "b": [[1], []]}, "'a': .*EmbeddingBag"),
        ({"a": [np.array([1, 2]), np.array([2, 3])], "b": [[1], []]}, "'a': .*EmbeddingBag"),
        ({"a": torch.tensor(1), "b": [[1], []]}, "'a': .*one id"),
        ({"a": 1, "b": [[1], []]}, "'a': .*got a int"),
        ({"a": "lantern", "b": [[1]] * 7}, "'a': .*got a str"),
        ({"a": [1, 2], "b": torch.tensor([1, 2])}, "'b': .*bags"),
        ({"a": [1, 2], "b": 3}, "'b': .*got a int"),
        ({"a": [1, 2], "b": [1, 2]}, "'b': .*bags"),
        ([[1, 2], [[1], []]], "a dict of columns"),
    ],
)
def test_columns_that_can_not_be_right_are_refused_and_change_nothing(given, text):
    features = hot.Features({"a": hot.Embedding(None, 2), "b": hot.EmbeddingBag(None, 2)})
    with pytest.raises(hotrow.errors.ArgumentError, match=text):
        features(given)
    assert not any(len(module.table) for module in features.values())


@pytest.mark.parametrize("n", [1, 2])
def test_what_a_table_refuses_is_refused_and_training_goes_on(n):
    hotrow.set_threads(n)
    features = hot.Features({"a": hot.Embedding(None, 2), "b": hot.Embedding(None, 2, ids="int64")})
    optimizer = followed(features)
    with pytest.raises(hotrow.errors.KindError):
        features({"a": [1, 2], "b": ["cup", "mug"]})
    assert not len(features["a"].table) + len(features["b"].table)
    loss_of(features({"a": [1], "b": [1]})).backward()
    optimizer.step()
    assert [module.table.steps for module in features.values()] == [1, 1]
