"""Devices: ``devices.toml`` gives names to boards, and an address may also be written out."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploycc.errors import DeviceError
from deploycc.files import parse_toml, read_text

FILE_NAME = "devices.toml"
LOCAL = "local"

_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_.][A-Za-z0-9_.+-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_FORMS = "ssh://[user@]host[:port]"
_Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class Device(BaseModel):
    """A board that is reached over SSH.

    Attributes:
        name: in ``devices.toml``; the address where it has none.
        url: its address; the host may be a name from ``~/.ssh/config``.
        target: what it is, one of `deploycc.target.names` or a file; None where nobody says.
        python: its Python, 3.5 or later.
        trtexec: path of trtexec, or of ``tensorRT_optimization``; None: the agent looks for it.
        store: folder on it for what hosts send; ``~`` is the home there.
        lock: file on it that a job holds while it works; None: one for all users.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    url: str
    target: _Text | None = None
    python: _Text = "python3"
    trtexec: _Text | None = None
    store: _Text = "~/.cache/deploycc"
    lock: _Text | None = None

    def destination(self) -> tuple[str, str | None, int | None]:
        """Return host, user and port as the address says.

        Raises:
            DeviceError: ``device-address``.
        """
        match = _ADDRESS.fullmatch(self.url)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or (port is not None and not 0 < port < 65536):
            raise DeviceError(
                "device-address",
                f"{self.url!r} is not an address of a device",
                context={} if self.name == self.url else {"device": self.name},
                hint=f"write {_FORMS}; other options of a host belong into ~/.ssh/config",
            )
        return match["host"].strip("[]"), match["user"], port


def find(name: str) -> tuple[Device, ...]:
    """Return the devices that a user means: none for ``local``, several for a pool.

    Args:
        name: ``local``, an address, a name from ``devices.toml``, or a target that devices there have; several of them
            with commas between them are a pool too.

    Raises:
        DeviceError: there is no such device, or a file cannot be used.
    """
    if name == LOCAL:
        return ()
    if "," in name and name not in read_devices():
        return _listed(name)
    if "://" in name:
        device = Device(name=name, url=name)
        device.destination()
        return (device,)
    known = read_devices()
    if name in known:
        return (known[name],)
    pool = tuple(device for device in known.values() if device.target == name)
    if pool:
        return pool
    similar = difflib.get_close_matches(name, known, n=1)
    raise DeviceError(
        "device-unknown",
        f"there is no device {name!r}",
        context={"devices": ", ".join(known) or "none", "files": ", ".join(map(str, places()))},
        hint=f"did you mean {similar[0]}?" if similar else f"name it in {FILE_NAME}, or write {_FORMS}",
    )


def _listed(names: str) -> tuple[Device, ...]:
    devices: dict[str, Device] = {}
    for name in filter(None, map(str.strip, names.split(","))):
        if name == LOCAL:
            raise DeviceError(
                "device-pool-local", "this machine cannot be one of several devices", context={"devices": names}
            )
        devices |= {device.name: device for device in find(name)}
    return tuple(devices.values())


def places() -> tuple[Path, ...]:
    """Return where ``devices.toml`` may be, the first one first in weight: here, and in the user's configuration."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(FILE_NAME), Path(base).expanduser() / "deploycc" / FILE_NAME


def read_devices() -> dict[str, Device]:
    """Return the devices of both files by name.

    Raises:
        DeviceError: ``devices-unreadable``, ``devices-invalid``.
    """
    devices: dict[str, Device] = {}
    for path in places():
        if path.is_file():
            devices |= {name: device for name, device in _read(path).items() if name not in devices}
    return devices


def _read(path: Path) -> dict[str, Device]:
    try:
        tables = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        note = error.strerror if isinstance(error, OSError) else str(error)
        raise DeviceError(
            "devices-unreadable", f"{FILE_NAME} cannot be read", context={"file": path}, note=note
        ) from error
    problems, devices = [], {}
    for name, values in tables.items():
        if not isinstance(values, Mapping):
            problems.append(f"{name}: must be a table such as [tx2]")
            continue
        if name == LOCAL or "://" in name or not name.isprintable():
            problems.append(f"{name!r} is not the name of a device")
            continue
        try:
            devices[name] = Device(**{"name": name, **values})
            devices[name].destination()
        except ValidationError as error:
            problems += [f"{name}.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        except DeviceError as error:
            problems.append(f"{name}.url: {error.message}; {error.hint}")
    if problems:
        raise DeviceError(
            "devices-invalid",
            f"{FILE_NAME} is not valid",
            context={"file": path},
            note="; ".join(problems),
            hint=f"a device is a table [NAME] with url, and maybe {', '.join(list(Device.model_fields)[2:])}",
        )
    return devices
