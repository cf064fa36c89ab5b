"""Memory that a step frees stays with the process: the next step gets it without asking the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from deploycc.trainable.memory import keep_freed_memory
assert {keep} is False or keep_freed_memory()
for number in range(30):
    if number == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(size << 18) for size in (40, 60)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    """Of ten steps after twenty that warm up; a step fills 100 MiB, in blocks too large for what glibc learns by itself."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_finds_the_memory_of_the_one_before() -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    without = page_faults(keep=False)
    assert without >= 400  # in pages of up to 2 MiB
    assert page_faults(keep=True) < without / 10
