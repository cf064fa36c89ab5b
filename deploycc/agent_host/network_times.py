"""Networks timed on a device: those of several plans are built there, and take turns on each picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import JsonValue

from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import RemoteSession, Step
from deploycc.agent_host.session import AgentStopped
from deploycc.documents.build import BuildResult
from deploycc.documents.document import parse_document
from deploycc.documents.latency import LatencyReport, Run
from deploycc.documents.plan import BuildPlan
from deploycc.errors import Detached, MeasureError
from deploycc.files import write_text
from deploycc.timing.profile_layers import TimedLayer

MOST_NETWORKS = 16  # `deploycc.agent.device_jobs.MOST_PLANS`
MOST_PICTURES = 16
_PARTS = 8  # of a block that has no others beside it

OnEnvironment = Callable[[dict[str, JsonValue]], None]


def time_networks(
    device: Device,
    folders: Sequence[Path],
    pictures: Sequence[Path],
    check: OnEnvironment,
    *,
    rounds: int | None = None,
    keep: bool = False,
) -> list[list[list[float]]]:
    """Build and time networks on a device, in turns; nothing of them stays there.

    Args:
        device: where.
        folders: one per network, `MOST_NETWORKS` at most, each with a plan of one engine.
        pictures: .npy files, `MOST_PICTURES` at most; none: seeded noise.
        check: told the environment that the device measured in; may raise an error.
        rounds: how often a program of NVIDIA's is started for each network and picture; None: as for a report.
        keep: bring the engines back, and use those that an earlier call brought.

    Returns:
        For each picture and each network the median time of each block, milliseconds. Of networks in turns, blocks of
        one number were taken directly before or after one another; of one alone they are parts of the same block.

    Raises:
        DeviceError: the device cannot be used.
        MeasureError: ``device-network-refused``: a network cannot be built or run there.
    """
    inputs: Sequence[Path | None] = pictures or [None]
    benches = [Step("bench", input_file=picture, rounds=rounds) for picture in inputs]
    new = folders
    if keep:
        new = [folder for folder in folders if not (folder / BuildResult.FILE_NAME).exists()]
    if 0 < len(new) < len(folders):
        _build_and_bench(device, new, [], check, keep=True)
        new = ()
    if new:
        measured = _build_and_bench(device, folders, benches, check, keep=keep)
    else:
        measured = _build_and_bench(device, folders, benches, check, build=False)
    return [[_medians(run) for run in runs] for runs in measured]


def profile_network(device: Device, folder: Path, profiles: int, check: OnEnvironment) -> list[list[TimedLayer]]:
    """Build a network on a device and profile it several times; nothing of it stays there.

    Args:
        device: where.
        folder: with a plan of one engine.
        profiles: how often.
        check: told the environment that the device measured in; may raise an error.

    Returns:
        For each profile its layers, each with its median time.

    Raises:
        DeviceError: the device cannot be used.
        MeasureError: ``device-network-refused``: the network cannot be built or run there.
    """
    rounds = _build_and_bench(device, [folder], [Step("bench")] * profiles, check)
    return [[TimedLayer(layer.name, layer.median_ms, layer.nodes) for layer in run.layers] for [run] in rounds]


def _build_and_bench(
    device: Device,
    folders: Sequence[Path],
    benches: Sequence[Step],
    check: OnEnvironment,
    *,
    build: bool = True,
    keep: bool = False,
) -> list[list[Run]]:
    """Return the runs of each bench, one per folder; engines that are kept are put there, with ``build.json``."""
    steps = (*((Step("build", engines=keep),) if build else ()), *benches)
    session = RemoteSession(device, tuple(folders), steps)
    plans = [folder / BuildPlan.FILE_NAME for folder in folders]
    try:
        session.start(plans, steps[0])
        for number, part in enumerate(_run(session, plans, steps[0]) if build else ()):
            built = parse_document(part, BuildResult, plans[number])
            for engine in built.engines:
                if engine.status != "built":
                    raise _refused(device, engine.reason, engine.hint)
            if keep:
                write_text(folders[number] / BuildResult.FILE_NAME, part.decode())
        rounds = []
        for step in benches:
            runs = []
            for number, part in enumerate(_run(session, plans, step)):
                report = parse_document(part, LatencyReport, plans[number])
                check(report.environment)
                [run] = report.runs
                if run.status != "measured":
                    raise _refused(device, run.reason, run.hint)
                runs.append(run)
            rounds.append(runs)
        return rounds
    finally:
        session.abandon()


def _run(session: RemoteSession, plans: Sequence[Path], step: Step) -> list[bytes]:
    """Return what the agent answers for each plan."""
    arguments = [step.command]
    if step.input_file is not None:
        arguments += ["--input", str(step.input_file)]
    try:
        written = session.run_agent(plans, arguments, lambda line: None)
    except AgentStopped as stopped:
        raise _refused(session.device, " | ".join(stopped.last_lines), None) from stopped
    except Detached:
        raise KeyboardInterrupt from None  # nobody attaches to this later
    parts = [json.loads(written)] if len(plans) == 1 else json.loads(written)
    return [json.dumps(part).encode() for part in parts]


def _refused(device: Device, reason: str | None, hint: str | None) -> MeasureError:
    return MeasureError(
        "device-network-refused",
        "a network that is to be timed does not run on the device",
        context={"device": device.name},
        note=reason,
        hint=hint,
    )


def _medians(run: Run) -> list[float]:
    blocks = [run.samples_ms[part] for part in run.block_slices()]
    if len(blocks) == 1:
        length = -(-len(blocks[0]) // _PARTS)
        blocks = [blocks[0][start : start + length] for start in range(0, len(blocks[0]), length)]
    return [statistics.median(block) for block in blocks]
