"""When a table steps that torch trains: with its optimizer, when that really steps, on what it really stepped on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hotrow
from hotrow import torch as hot

V, D = 20, 4
OPTIM = torch.optim

FOLLOWED = {
    "SGD": lambda p: OPTIM.SGD(p, 0.1, weight_decay=0.1),
    "momentum": lambda p: OPTIM.SGD(p, 0.1, momentum=0.9),
    "nesterov": lambda p: OPTIM.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "maximize": lambda p: OPTIM.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, maximize=True),
    "Adagrad": lambda p: OPTIM.Adagrad(p, 0.1, lr_decay=0.1, weight_decay=0.01, initial_accumulator_value=0.1),
    "RMSprop": lambda p: OPTIM.RMSprop(p, 0.01, momentum=0.5, centered=True, weight_decay=0.1),
    "Adadelta": lambda p: OPTIM.Adadelta(p, 1.0, weight_decay=0.1),
    "Adam": lambda p: OPTIM.Adam(p, 0.01, weight_decay=0.1),
    "amsgrad": lambda p: OPTIM.Adam(p, 0.01, amsgrad=True, maximize=True),
    "fused": lambda p: OPTIM.Adam(p, 0.01, fused=True),
    "foreach": lambda p: OPTIM.Adam(p, 0.01, foreach=True),
    "decoupled": lambda p: OPTIM.Adam(p, 0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "AdamW": lambda p: OPTIM.AdamW(p, 0.01, weight_decay=0.1),
    "Adamax": lambda p: OPTIM.Adamax(p, 0.01, weight_decay=0.1),
    "NAdam": lambda p: OPTIM.NAdam(p, 0.01, weight_decay=0.1),
    "tensor": lambda p: OPTIM.Adam(p, torch.tensor(0.01)),
}


def pair(make, dim=D, seed=0):
    """torch's module with its optimizer, and ours beside it."""
    torch.manual_seed(seed)
    theirs = torch.nn.Embedding(V, dim)
    ours = hot.Embedding(V, dim, _weight=theirs.weight)
    optimizers = make(theirs.parameters()), make(ours.parameters())
    ours.follow(optimizers[1])
    return (theirs, ours), optimizers


def every_row():
    """Ids (5, 6), every row among them, and gradients."""
    return torch.cat([torch.randperm(V), torch.randint(V, (10,))]).reshape(5, 6), torch.randn(5, 6, D)


def close(theirs, ours, tolerance=1e-5):
    torch.testing.assert_close(ours.weight, theirs.weight.detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", FOLLOWED.values(), ids=FOLLOWED.keys())
def test_a_table_ends_where_the_optimizer_takes_a_dense_embedding(make):
    modules, optimizers = pair(make)
    for _ in range(8):
        ids, g = every_row()
        for module, optimizer in zip(modules, optimizers, strict=True):
            optimizer.zero_grad()
            (module(ids) * g).sum().backward()
            optimizer.step()
    close(*modules)


SCHEDULES = {
    "exponential": lambda o: OPTIM.lr_scheduler.ExponentialLR(o, 0.7),
    "one cycle": lambda o: OPTIM.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("name", ["SGD", "nesterov", "RMSprop", "Adam", "AdamW"])
def test_a_schedule_is_followed_with_the_rate_of_each_step(name, schedule):
    modules, optimizers = pair(FOLLOWED[name])
    schedules = [schedule(optimizer) for optimizer in optimizers]
    for _ in range(8):
        ids, g = every_row()
        for module, optimizer, scheduler in zip(modules, optimizers, schedules, strict=True):
            optimizer.zero_grad()
            (module(ids) * g).sum().backward()
            optimizer.step()
            scheduler.step()
    close(*modules)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # torch's own, of its own sparse tensors
@pytest.mark.parametrize("make", [lambda p: OPTIM.SparseAdam(list(p), 0.01), lambda p: OPTIM.Adagrad(p, 0.1)])
def test_rows_that_are_not_in_the_batch_stay_as_a_sparse_embedding_leaves_them(make):
    torch.manual_seed(0)
    theirs = torch.nn.Embedding(V, D, sparse=True)
    ours = hot.Embedding(V, D, sparse=True, _weight=theirs.weight)
    optimizers = make(theirs.parameters()), make(ours.parameters())
    ours.follow(optimizers[1])
    for _ in range(8):
        ids, g = torch.randint(V, (3, 2)), torch.randn(3, 2, D)
        for module, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            (module(ids) * g).sum().backward()
            optimizer.step()
    close(theirs, ours)


EVENTS = st.lists(
    st.sampled_from(["backward", "twice", "shared", "grad", "step", "zero", "half", "clip", "no grad"]), max_size=25
)


@given(EVENTS, st.integers(0, 5))
def test_in_any_loop_the_table_has_the_gradient_that_a_dense_embedding_has(events, seed):
    """What torch's own embedding does with its .grad is the specification."""
    modules, optimizers = pair(FOLLOWED["momentum"], seed=seed)
    for event in events:
        ids, g = every_row()
        for module, optimizer in zip(modules, optimizers, strict=True):
            act(event, module, optimizer, ids, g)
    close(*modules, 1e-4)


def act(event, module, optimizer, ids, g):
    if event == "backward":
        (module(ids) * g).sum().backward()
    elif event == "twice":
        loss = (module(ids) * g).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    elif event == "shared":
        (module(ids) * g + module(ids.flip(0)) * g).sum().backward()
    elif event == "grad":
        x = torch.ones((), requires_grad=True)
        torch.autograd.grad((module(ids) * x).sum(), x)
        torch.autograd.grad((module(ids) * g).sum(), list(module.parameters()))
    elif event == "no grad":
        with torch.no_grad():
            module(ids)
    elif event == "step":
        optimizer.step()
    elif event == "zero":
        optimizer.zero_grad()
    elif event in {"half", "clip"}:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad *= 0.5
        if event == "clip":
            torch.nn.utils.clip_grad_norm_(module.parameters(), 2.0)


def test_the_norm_of_all_gradients_is_clipped_as_torch_does_beside_other_parameters():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Embedding(V, D), torch.nn.Linear(D, 3))
    ours = torch.nn.Sequential(hot.Embedding(V, D, _weight=theirs[0].weight), copy.deepcopy(theirs[1]))
    optimizers = [OPTIM.SGD(model.parameters(), 0.1) for model in (theirs, ours)]
    hot.follow(ours, optimizers[1])
    for _ in range(5):
        ids, _ = every_row()
        norms = []
        for model, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            model(ids).square().sum().backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
            optimizer.step()
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        assert norms[0] > 1
    close(theirs[0], ours[0])
    torch.testing.assert_close(theirs[1].weight, ours[1].weight)


def scaler_of(scale):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_loss_ends_to_the_bit_where_an_unscaled_does(fused):
    modules = [hot.Embedding(V, D, seed=0) for _ in range(2)]
    optimizers = [OPTIM.Adam(module.parameters(), 0.01, fused=fused) for module in modules]
    scaler = scaler_of(2.0**14)
    for module, optimizer in zip(modules, optimizers, strict=True):
        module.follow(optimizer)
    for i in range(6):
        ids, g = every_row()
        optimizers[0].zero_grad()
        (modules[0](ids) * g).sum().backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        scaler.scale((modules[1](ids) * g).sum()).backward()
        if i % 2:
            scaler.unscale_(optimizers[1])
        scaler.step(optimizers[1])
        scaler.update()
    assert scaler.get_scale() > 2.0**14
    assert modules[1].table.steps == 6
    assert torch.equal(modules[0].weight, modules[1].weight)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("where", ["in the table", "in the rest"])
def test_a_step_that_a_scaler_skips_is_skipped_by_all(fused, where):
    model = torch.nn.Sequential(hot.Embedding(None, D, seed=0), torch.nn.Linear(D, 1))
    optimizer = OPTIM.Adam(model.parameters(), 0.01, fused=fused)
    hot.follow(model, optimizer)
    scaler = scaler_of(2.0**14)
    ids = torch.arange(5)
    before = model[0](ids).detach(), model[1].weight.detach().clone()
    bad = torch.ones(5, D)
    bad[2, 1] = float("inf")
    vectors = model[0](ids)
    loss = (vectors * bad).sum() + model[1](vectors.detach()).sum()
    if where == "in the rest":
        loss = vectors.sum() + (model[1].weight * float("inf")).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**13
    assert torch.equal(model[0](ids), before[0])
    assert torch.equal(model[1].weight, before[1])
    assert model[0].table.steps == 0
    optimizer.zero_grad()
    scaler.scale(model(ids).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert model[0].table.steps == 1
    assert np.isfinite(model[0].table.vectors()).all()


def test_gradients_of_zeros_are_a_step_all_the_same():
    emb = hot.Embedding(None, D)
    optimizer = OPTIM.Adam(emb.parameters(), 0.01)
    emb.follow(optimizer)
    (emb([1, 2]) * 0).sum().backward()
    optimizer.step()
    assert emb.table.steps == 1


def test_a_closure_is_followed():
    modules, optimizers = pair(FOLLOWED["momentum"])
    for _ in range(4):
        ids, g = every_row()
        for module, optimizer in zip(modules, optimizers, strict=True):

            def closure(module=module, optimizer=optimizer, ids=ids, g=g):
                optimizer.zero_grad()
                loss = (module(ids) * g).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
    close(*modules)


def test_modules_that_share_a_table_are_one_parameter_and_one_step():
    torch.manual_seed(0)
    theirs = torch.nn.Embedding(V, D)
    first = hot.Embedding(V, D, _weight=theirs.weight)
    second = hot.EmbeddingBag(V, D, mode="sum", table=first.table)
    model = torch.nn.ModuleList([first, second])
    assert len(list(model.parameters())) == 1
    optimizers = OPTIM.Adam(theirs.parameters(), 0.01), OPTIM.Adam(model.parameters(), 0.01)
    hot.follow(model, optimizers[1])
    for _ in range(4):
        ids, g = every_row()
        for optimizer in optimizers:
            optimizer.zero_grad()
        (theirs(ids) * g).sum().backward()
        theirs(ids).sum().backward()
        ((first(ids) * g).sum() + second(ids).sum()).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert first.table.steps == 4
    close(theirs, first)


def test_a_module_called_in_a_checkpoint_is_trained_once():
    from torch.utils.checkpoint import checkpoint

    tables = []
    for reentrant in (None, False, True):
        emb = hot.Embedding(None, D, seed=0, optimizer=hotrow.SGD(0.1))
        head = torch.nn.Linear(D, D)
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)

        def run(x, emb=emb, head=head):
            return head(emb([3, 4, 3])) * x

        x = torch.ones((), requires_grad=True)
        vectors = run(x) if reentrant is None else checkpoint(run, x, use_reentrant=reentrant)
        (vectors + emb([4, 5, 5])).square().sum().backward()
        emb.step()
        assert emb.table.steps == 1
        tables.append(emb.table.lookup([3, 4, 5]))
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-6)
    np.testing.assert_allclose(tables[2], tables[0], rtol=1e-6)


def test_a_gradient_for_other_tensors_is_for_no_step():
    emb = hot.Embedding(None, D, seed=0)
    x = torch.ones((), requires_grad=True)
    loss = (emb([1, 2]) * x).sum()
    torch.autograd.grad(loss, x, retain_graph=True)
    torch.autograd.grad(loss, emb.hook, retain_graph=True)
    emb.step()
    assert emb.table.steps == 0
    loss.backward()
    emb.step()
    assert emb.table.steps == 1


def test_a_second_derivative_is_refused():
    emb = hot.Embedding(None, D)
    x = torch.ones(2, D, requires_grad=True)
    grads = torch.autograd.grad((emb([1, 2]) * x).square().sum(), [x, emb.hook], create_graph=True)
    assert torch.isfinite(grads[0]).all()
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grads[1].backward()


def test_rows_forgotten_before_the_step_are_left_out():
    emb = hot.Embedding(None, D, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    emb([1, 2, 3]).sum().backward()
    emb.table.forget([2])
    emb([4]).sum().backward()  # takes the row that was 2's
    emb.step()
    assert emb.table.lookup([1, 2, 3, 4])[:, 0].tolist() == [-1.0, 0.0, -1.0, -1.0]


def test_a_table_with_its_own_optimizer_steps_when_any_other_does():
    emb = hot.Embedding(None, D, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    other = torch.nn.Linear(2, 2)
    optimizer = OPTIM.RAdam([*emb.parameters(), *other.parameters()])
    emb.follow(optimizer)
    emb(["cup"]).sum().backward()
    optimizer.step()
    assert emb.table.lookup(["cup"]).tolist() == [[-1.0] * D]
    assert emb.hook.item() == 0.0  # no optimizer takes it for a weight


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (OPTIM.Adafactor, r"can't follow Adafactor.*optimizer=hotrow.RowwiseAdagrad\(0.01\)"),
        (OPTIM.RAdam, r"can't follow RAdam.*optimizer=hotrow.Adam\(1e-3\)"),
        (OPTIM.ASGD, "averages every row"),
        (OPTIM.Rprop, "signs of whole gradients"),
        (OPTIM.LBFGS, "can't follow LBFGS"),
        (lambda p: OPTIM.SGD(p, 0.1, momentum=0.9, dampening=0.1), "dampening=0.1"),
        (lambda p: type("Mine", (OPTIM.SGD,), {})(p, 0.1), "can't follow Mine: it isn't one of torch's own"),
        (lambda p: OPTIM.Adam([torch.nn.Parameter(torch.zeros(2))]), r"doesn't have the embedding's parameter"),
        (lambda p: hotrow.Adam(), "expected an optimizer of torch.optim; got Adam"),
    ],
)
def test_what_can_not_be_followed_is_refused_and_changes_nothing(make, text):
    emb = hot.Embedding(None, D)
    before = emb.table.optimizer
    with pytest.raises(hotrow.ArgumentError, match=text):
        emb.follow(make(emb.parameters()))
    assert emb.table.optimizer is before


def test_following_in_a_model_without_embeddings_is_an_error():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(hotrow.ArgumentError, match=r"no hotrow.torch module in this Linear"):
        hot.follow(model, OPTIM.SGD(model.parameters()))


def test_an_optimizer_that_steps_without_the_table_is_noticed():
    model = torch.nn.Sequential(hot.Embedding(None, D), torch.nn.Linear(D, 1))
    optimizer = OPTIM.Adam(model.parameters())
    model([1, 2]).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(hotrow.ArgumentError, match=r"hotrow.torch.follow\(model, optimizer\) once, before training"):
        model([1, 2])
    model.eval()([1, 2])


def test_steps_by_hand_go_beside_an_optimizer_in_either_order():
    for order in ("table first", "optimizer first"):
        model = torch.nn.Sequential(hot.Embedding(None, D, optimizer=hotrow.SGD(0.1)), torch.nn.Linear(D, 1))
        optimizer = OPTIM.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model([1, 2]).sum().backward()
            if order == "table first":
                model[0].step()
            optimizer.step()
            if order != "table first":
                model[0].step()
        assert model[0].table.steps == 3


def test_a_step_by_hand_says_what_is_wrong():
    emb = hot.Embedding(None, D)
    emb.step()  # nothing to do is no error, as in torch
    optimizer = OPTIM.Adam(emb.parameters())
    emb([1]).sum().backward()
    optimizer.zero_grad()
    with pytest.raises(hotrow.ArgumentError, match="dropped by zero_grad"):
        emb.step()
    emb.zero_grad()
    (emb([1]) * float("inf")).sum().backward()
    with pytest.raises(hotrow.ArgumentError, match="isn't finite"):
        emb.step()
    emb.zero_grad()
    emb.follow(optimizer)
    with pytest.raises(hotrow.ArgumentError, match="follows a torch optimizer"):
        emb.step()
    assert emb.table.steps == 0


def test_gradients_that_nobody_takes_are_told_of():
    emb = hot.Embedding(None, D)
    for _ in range(99):
        emb([1, 2]).sum().backward()
    with pytest.warns(RuntimeWarning, match=r"100 backward passes.*emb.follow\(optimizer\)"):
        emb([1, 2]).sum().backward()


def test_another_kind_of_optimizer_begins_anew_only_when_asked():
    emb = hot.Embedding(None, D, seed=0)
    first, second = OPTIM.Adam(emb.parameters()), OPTIM.Adagrad(emb.parameters())
    emb.follow(first)
    emb([1]).sum().backward()
    first.step()
    with pytest.raises(hotrow.ArgumentError, match=r"emb.table.set_optimizer\(Adagrad"):
        emb.follow(second)
    emb.table.set_optimizer(hotrow.Adagrad())
    emb.follow(second)
    second.zero_grad()
    emb([1]).sum().backward()
    first.step()
    assert emb.table.steps == 0
    second.step()
    assert emb.table.steps == 1


def test_keras_layers_and_torch_modules_do_not_train_one_table():
    from hotrow.bridges.rounds import Hook
    from hotrow.bridges.stage import Stage

    emb = hot.Embedding(None, D)
    with pytest.raises(hotrow.ArgumentError, match=r"trained by a module of hotrow.torch already"):
        Stage.of(emb.table)
    table = hotrow.Table(D)
    hook = Hook(lambda: None)
    Stage.of(table).add(hook)
    with pytest.raises(hotrow.ArgumentError, match="trained by a Keras layer already"):
        hot.Embedding(None, D, table=table)
    copied = hotrow.Table.from_state(table.state())
    assert hot.Embedding(None, D, table=copied).table is copied


def test_gradients_set_to_zero_are_dropped_as_well():
    emb = hot.Embedding(None, D, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    optimizer = OPTIM.SGD(emb.parameters(), 0.1)
    emb.follow(optimizer)
    emb([1]).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    assert emb.table.steps == 0
    emb([2]).sum().backward()
    optimizer.step()
    assert emb.table.lookup([1, 2])[:, 0].tolist() == [0.0, -1.0]
