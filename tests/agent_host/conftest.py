"""A board that is this machine, behind a real OpenSSH server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ssh_server

from deploycc.agent_host import ssh
from deploycc.agent_host.devices import Device


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssh_server.Server]:
    if ssh_server.MISSING:
        pytest.skip(f"needs OpenSSH: {ssh_server.MISSING}")
    server, process = ssh_server.start(tmp_path_factory.mktemp("sshd"))
    yield server
    process.terminate()
    process.wait()


@pytest.fixture
def device(server: ssh_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """This machine as a device whose store has a name that a shell would tear apart."""
    monkeypatch.setenv(ssh.PROGRAM, str(server.ssh))
    return Device(
        name="bench 1",
        url=server.url,
        python=sys.executable,
        store=str(tmp_path / "store $(touch no); 'it\"\n"),
        lock=str(tmp_path / "lock"),
    )
