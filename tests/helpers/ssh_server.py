"""A real OpenSSH server on loopback, of this user, with keys and configuration of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("sshd", "ssh", "ssh-keygen")}
MISSING = ", ".join(name for name, path in PROGRAMS.items() if path is None)
"""Names of the programs that are not here; empty where all of them are."""


@dataclass(frozen=True)
class Server:
    """A server that runs, and how to reach it.

    Attributes:
        url: its address.
        ssh: a program as ``ssh``, with the user's side of the configuration (`deploycc.agent_host.ssh.PROGRAM`).
        folder: keys, configuration and log.
        pid: of the server.
    """

    url: str
    ssh: Path
    folder: Path
    pid: int

    def cut(self) -> int:
        """End every connection at the server's end, and return how many there were."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            for pid in [*_descendants_that_are_sshd(int(child)), int(child)]:
                os.kill(pid, signal.SIGKILL)
        return len(children)


def _descendants_that_are_sshd(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip().startswith("sshd"):
            found += [*_descendants_that_are_sshd(int(child)), int(child)]
    return found


def start(folder: Path) -> tuple[Server, subprocess.Popen[bytes]]:
    """Start a server; the caller ends the process."""
    for name in ("host", "user"):
        subprocess.run(
            [str(PROGRAMS["ssh-keygen"]), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    (folder / "authorized_keys").write_bytes((folder / "user.pub").read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "KbdInteractiveAuthentication no\nMaxStartups 100\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where Debian's sshd wants to lock itself in
    key = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        "GlobalKnownHostsFile none\nIdentityAgent none\n"
    )
    ssh = folder / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {PROGRAMS["ssh"]} -F {folder}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAMS["sshd"]), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    return Server(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", ssh, folder, process.pid), process
