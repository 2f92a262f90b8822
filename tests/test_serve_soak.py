"""Every answer is right while saves are swapped and somebody is hostile, and nothing is left behind."""

from __future__ import annotations

import sys

import pytest

from benchmarks import serve_soak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc")


def check(found, seconds):
    assert not found.wrong, found.wrong[:5]
    assert found.answers > 20 * seconds
    assert found.saves > 10
    assert len(found.stamps) > 3
    assert found.hostile > 5 * seconds
    assert found.files <= 10  # of a save or two that nobody has looked at since; there are more saves than that


def test_ten_seconds_of_all_at_once_leave_no_wrong_answer_and_no_open_file(tmp_path):
    check(serve_soak.soak(tmp_path / "table", 10), 10)


@pytest.mark.long
def test_three_minutes_of_all_at_once_leave_no_memory_behind(tmp_path):
    found = serve_soak.soak(tmp_path / "table", 180)
    check(found, 180)
    assert found.memory < 1.1
