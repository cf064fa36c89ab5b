"""Two processes together have the gradients of one."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc  # noqa: E402
from deploycc.distillation.pair import Pair  # noqa: E402
from deploycc.distillation.processes import add_gradients, is_first, join, part_of  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.errors import InputError  # noqa: E402
from deploycc.workflows.pictures import open_labelled  # noqa: E402

VIEWS = (3, 8, 11, 20, 21)  # not the same number for both


def gradients_of(pruned: Path) -> dict[str, torch.Tensor]:
    """The gradients of a batch, as every process has them after they are added, and the loss."""
    torch.set_num_threads(1)
    teacher = deploycc.load("street_ssd")
    pictures, labels, _ = open_labelled("generated:5:20", teacher)
    samples = Samples(pictures, teacher.input, 1, labels)
    pair = Pair(deploycc.load(pruned), teacher, samples, 0, 1.0, label_weight=1.0)
    pair.loss(part_of(VIEWS), bfloat16=False).total.backward()
    add_gradients(pair.student.parameters())
    return {
        name: weight.grad
        for name, weight in zip(pair.student.names, pair.student.weights, strict=True)
        if weight.grad is not None
    }


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    pruned, result = tmp_path / "pruned.onnx", tmp_path / "gradients.pt"
    settings = deploycc.PruneSettings(by="l1", below=0.3, multiple=1)
    deploycc.save(deploycc.prune(deploycc.load("street_ssd"), settings).detector, pruned)
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_processes as t; t.main()"
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [sys.executable, "-c", program, str(pruned), str(result)]
    running = [  # as torchrun starts them
        subprocess.Popen(command, env={**os.environ, **meeting, "RANK": str(rank)}) for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    together, alone = torch.load(result, weights_only=True), gradients_of(pruned)
    assert together.keys() == alone.keys()
    for name, gradient in alone.items():
        assert (together[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def main() -> None:
    """What each of the two processes does."""
    atexit.register(_fail_if_joined)  # runs after what is registered later
    join(len(VIEWS))
    gradients = gradients_of(Path(sys.argv[1]))
    if is_first():
        torch.save(gradients, sys.argv[2])


def _fail_if_joined() -> None:
    """A process that ends while its group's threads run is aborted, now and then."""
    if torch.distributed.is_initialized():
        os._exit(3)


def _free_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_more_processes_than_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="3 processes cannot share 2 pictures"):
        join(2)
