"""``devices.toml``, and addresses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploycc.agent_host import bootstrap, devices, ssh
from deploycc.agent_host.devices import Device
from deploycc.cli import main
from deploycc.errors import DeviceError

TX2 = '[tx2]\nurl = "ssh://nvidia@tx2:2222"\ntarget = "jetson-tx2-jp461"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "deploycc").mkdir(parents=True)
    return tmp_path


def test_both_files_are_read_and_the_one_here_comes_first(here: Path) -> None:
    (here / "devices.toml").write_text(TX2)
    (here / "config/deploycc/devices.toml").write_text(
        TX2.replace("nvidia", "root") + '["tx2 b"]\nurl = "ssh://b"\ntarget = "jetson-tx2-jp461"\n'
    )
    [device] = devices.find("tx2")
    assert device.destination() == ("tx2", "nvidia", 2222)
    assert [each.name for each in devices.find("jetson-tx2-jp461")] == ["tx2", "tx2 b"]  # a pool
    assert devices.find("local") == ()
    [other] = devices.find("ssh://me@[fe80::1%eth0]:22")
    assert other.destination() == ("fe80::1%eth0", "me", 22)
    with pytest.raises(DeviceError, match="did you mean tx2") as caught:
        devices.find("tx3")
    assert caught.value.code == "device-unknown"


@pytest.mark.parametrize(
    "url",
    ["tx2", "http://tx2", "ssh://-oProxyCommand=touch", "ssh://a b", "ssh://$(x)", "ssh://u;v@h", "ssh://h:0", "ssh://h/x",
     "ssh://-l@h", "ssh://h\n"],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Device(name="x", url=url).destination()
    assert caught.value.code == "device-address"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[tx2\n", "devices-unreadable", "line 1"),
        ('[a]\nurl = "ssh://-x"\n[b]\n', "devices-invalid", "a.url: 'ssh://-x' is not an address"),
        ('[a]\nurl = "ssh://a"\nport = 22\n', "devices-invalid", "a.port: Extra inputs"),
        ('[local]\nurl = "ssh://a"\n', "devices-invalid", "'local' is not the name"),
        ("a = 1\n", "devices-invalid", "a: must be a table"),
    ],
)
def test_files_that_cannot_be_used(here: Path, text: str, code: str, said: str) -> None:
    (here / "devices.toml").write_text(text)
    with pytest.raises(DeviceError) as caught:
        devices.read_devices()
    assert caught.value.code == code
    assert said in str(caught.value.note)


def test_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "devices.toml").write_text(TX2)
    assert main(["device", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["tx2", "jetson-tx2-jp461", "ssh://nvidia@tx2:2222"]


def test_no_word_of_the_user_reaches_a_shell() -> None:
    command = bootstrap.command("/opt/my $(touch no)/python3")
    assert command.startswith("'/opt/my $(touch no)/python3' -c '")
    assert not set(command.replace("$(touch no)", "")) & set("$`\\!\n;&|<>*?")


@pytest.mark.parametrize("python", ["python2", sys.executable])
def test_the_first_words_come_from_any_python(tmp_path: Path, python: str) -> None:
    if shutil.which(python) is None:
        pytest.skip(f"needs {python}")
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the login folder was imported')")
    asked = json.dumps({"store": str(tmp_path / "store"), "sha256": "0" * 64, "size": 0}) + "\n"
    done = subprocess.run(
        ["sh", "-c", bootstrap.command(python)], input=asked.encode(), cwd=tmp_path, capture_output=True, check=False
    )
    expected = b"deploycc-agent need\n" if python == sys.executable else b"deploycc-agent python 2"
    if done.stdout or python == sys.executable:  # a shim of pyenv may be there without a Python 2
        assert done.stdout.startswith(expected), done.stderr


def test_a_missing_program_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.PROGRAM, "no-such-ssh")
    with pytest.raises(DeviceError) as caught:
        ssh.Link(Device(name="x", url="ssh://x"))
    assert caught.value.code == "no-ssh"
