"""What a table of the cluster is after its folder was looked after by others. Nothing is mocked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hotrow
from hotrow.store import forgetting

cluster = pytest.importorskip("hotrow.cluster")
pytest.importorskip("ray")
pytestmark = [pytest.mark.compiled, pytest.mark.xdist_group("ray")]


def step(table, ids):
    batch = table.find(ids, grow=True)
    table.update(batch, np.ones((len(ids), table.dim), np.float32))
    return batch.distinct.tolist()


def test_ids_that_were_taken_out_of_a_save_leave_no_holes_in_a_table_that_is_loaded_from_it(ray_local, tmp_path):
    table = cluster.Table(3, shards=2)
    step(table, range(30))
    table.forget([4, 5])
    table.save(tmp_path / "t")
    step(table, range(20, 40))
    table.save_delta()
    table.close()
    forgetting.forget(tmp_path / "t", [0, 7, 29, 39])
    plain, again = hotrow.load(tmp_path / "t"), cluster.load(tmp_path / "t", shards=3)
    assert again.ids().tolist() == plain.ids().tolist()
    for ids in (range(28, 50), [0, 4, 7]):
        assert step(again, ids) == step(plain, ids)
    assert again.ids().tolist() == plain.ids().tolist()
    assert again.vectors().tobytes() == plain.vectors().tobytes()
    again.close()


def test_a_table_may_be_saved_to_its_home(ray_local, tmp_path):
    table = cluster.Table(3, shards=2, home=tmp_path)
    step(table, range(30))
    ours = {path.name for path in tmp_path.iterdir()}
    for _ in range(2):
        step(table, range(10, 50))
        table.save(tmp_path, keep=1)
    assert ours <= {path.name for path in tmp_path.iterdir()}
    loaded = hotrow.load(tmp_path)
    assert loaded.vectors().tobytes() == np.ascontiguousarray(table.vectors()).tobytes()
    table.close()


def test_others_look_up_and_train_while_a_save_is_waited_for(ray_local, tmp_path):
    table = cluster.Table(3, shards=2)
    step(table, range(30))
    before, seen = table.vectors(), []

    def progress(done, total, facts):
        if not seen:
            with ThreadPoolExecutor(1) as other:
                seen.append(other.submit(table.lookup, [1, 2]).result(60))
                other.submit(step, table, range(20, 50)).result(60)

    assert table.save(tmp_path / "t", progress=progress) == 1
    assert np.array_equal(seen[0], before[1:3])
    assert np.array_equal(hotrow.load(tmp_path / "t").vectors(), before)
    step(table, [1])
    assert table.save_delta() == 2
    assert np.array_equal(hotrow.load(tmp_path / "t").vectors(), table.vectors())
    table.close()
