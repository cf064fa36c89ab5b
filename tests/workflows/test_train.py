"""PyTorch uses the cores that it is given, and leaves them to others while it waits."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.workflows.train import use_threads  # noqa: E402

READY = (
    "from deploycc.workflows.train import require_torch; require_torch(); import torch; print(torch.get_num_threads())"
)


def test_a_number_of_threads_is_used_and_none_changes_nothing() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(3)
        use_threads(0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("asked", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_do_not_spin_unless_told_to(asked: str | None, policy: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    environment |= {"OMP_DISPLAY_ENV": "TRUE", **({} if asked is None else {"OMP_WAIT_POLICY": asked})}
    done = subprocess.run([sys.executable, "-c", READY], env=environment, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert int(done.stdout) == len(os.sched_getaffinity(0))
