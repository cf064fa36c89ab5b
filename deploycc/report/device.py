"""Devices as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from deploycc.report.table import Table
from deploycc.target.device import Difference


def devices_table(devices: Sequence[Mapping[str, Any]]) -> Table:
    """One row per device of ``devices.toml``."""
    rows = tuple((each["name"], each["target"] or "-", each["url"]) for each in devices)
    return Table("", ("device", "target", "address"), rows)


def probe_tables(probed: Mapping[str, Any]) -> list[Table]:
    """What a device says of itself, and the jobs on it."""
    facts = {"address": probed["address"], "store_free": f"{probed['free_bytes'] / 1e6:.0f} MB"}
    holder = probed["holder"]
    if holder is not None:
        facts["at work"] = f"{holder.get('owner') or 'somebody'}, since {_time(holder.get('since'))}"
    facts |= {name: str(value) for name, value in probed["environment"].items() if value is not None}
    tables = [Table(str(probed["device"]), ("fact", "value"), tuple(facts.items()))]
    return [*tables, jobs_table(probed["jobs"])] if probed["jobs"] else tables


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    """One row per job."""
    rows = tuple(
        (
            job["id"],
            f"{job['owner']}@{job['host']}",
            " ".join(step["command"] for step in job["steps"]),
            job["reason"] if job["state"] == "ended" else job["state"],
            _time(job["created"]),
            job["folder"],
        )
        for job in jobs
    )
    return Table("", ("job", "of", "steps", "state", "since", "folder"), rows)


def differences_table(differences: Sequence[Difference], title: str) -> Table:
    """One row per difference between a device and its target."""
    rows = tuple((each.fact, each.target, each.device or "not known", each.todo) for each in differences)
    return Table(title, ("fact", "target", "device", "what to do"), rows)


def _time(seconds: Any) -> str:
    if not isinstance(seconds, float):
        return "-"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
