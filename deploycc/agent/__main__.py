"""The agent's command line: ``probe``, ``build PLAN``, ``bench PLAN``, and commands on bundles; progress on stderr."""

import argparse
import json
import os
import sys
from typing import Any, List, Optional

from . import __version__, bundle_commands, files, processes
from .outcome import Failed
from .progress import say

EXIT_FAILED = 1
EXIT_PARTLY = 4
EXIT_NOTHING = 5
EXIT_INTERRUPTED = 130

_EXIT_CODES = """
exit codes:
  0    done: every engine was built or measured
  1    the plan, a file or a bundle is refused; nothing was written
  2    wrong usage
  4    some engines were built or measured; the JSON says of the others why not
  5    no engine was built or measured; the JSON says why
  130  interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent",
        description="Builds and measures the engines of a plan; verifies and installs bundles.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    probe = commands.add_parser("probe", help="describe this machine")
    probe.add_argument("--out", help="JSON file (default: standard output)")
    build = commands.add_parser("build", help="build the engines")
    build.add_argument("plans", metavar="PLAN", nargs="+", help="several are built one after the other")
    build.add_argument(
        "--out", help="JSON file, of several plans a list, besides build.json beside each (default: those)"
    )
    bench = commands.add_parser("bench", help="measure the engines")
    bench.add_argument("plans", metavar="PLAN", nargs="+", help="several are measured in turns")
    bench.add_argument(
        "--max-performance",
        action="store_true",
        help="on a Jetson: measure in the fastest power mode with fixed clocks (nvpmodel, jetson_clocks; needs root), "
        "and bring back what was before, however this ends",
    )
    bench.add_argument("--only", metavar="PRECISION", help="fp32 or fp16 (default: every engine)")
    bench.add_argument("--input", metavar="FILE.npy", help="the picture tensor (default: seeded random values)")
    bench.add_argument("--out", help="JSON file, of several plans a list (default: latency.json beside each plan)")
    bench.add_argument(
        "--rounds",
        metavar="N",
        type=_count,
        help="where a program times: start it N times for each engine, and time no layers (default: 8 times for "
        "several engines, once for one)",
    )
    _add_scenario(bench)
    for command in (build, bench):
        command.add_argument(
            "--program", metavar="PATH", help="trtexec or tensorRT_optimization (default: look for it)"
        )
        command.add_argument(
            "--time-limit",
            metavar="SECONDS",
            type=_seconds,
            help="for each engine (default: hours; for bench by the plan)",
        )
        command.add_argument("--parent-fd", type=int, help=argparse.SUPPRESS)  # of the program that started this one
    detect = commands.add_parser("detect", help="show what the engines detect in pictures")
    detect.add_argument("plan", metavar="PLAN")
    detect.add_argument(
        "--pictures",
        "--input",
        dest="pictures",
        metavar="DIR|FILE.npy",
        required=True,
        help="a file holds uint8 [N, height, width, 3], red first",
    )
    detect.add_argument("--only", metavar="PRECISION", help="fp32 or fp16 (default: every engine)")
    detect.add_argument("--program", metavar="PATH", help="trtexec (default: look for it)")
    detect.add_argument("--out", help="JSON file (default: engine-detections.json beside the plan)")
    detect.add_argument("--parent-fd", type=int, help=argparse.SUPPRESS)
    bundle_commands.add_to(commands)
    served = commands.add_parser("serve")  # used by a host, over SSH
    served.add_argument("store")
    job = commands.add_parser("run-job")  # used by `serve`
    job.add_argument("folder")
    job.add_argument("store")
    job.add_argument("--lock-fd", type=int, required=True)  # held as long as this process lives
    keeper = commands.add_parser("restore-performance")  # used by the agent itself: outlives it
    keeper.add_argument("folder")
    keeper.add_argument("--parent-fd", dest="pipe", type=int, required=True)
    sensors = commands.add_parser("telemetry")  # used by the agent itself while it measures
    sensors.add_argument("period_s", type=_seconds)
    sensors.add_argument("--parent-fd", type=int, required=True)
    for name in ("build-one", "bench-one"):  # used by the agent itself: a process of its own for each job
        one = commands.add_parser(name)
        one.add_argument("parts", nargs="+")  # a plan and an engine's file, and again
        one.add_argument("--result-fd", type=int, required=True)
        one.add_argument("--parent-fd", type=int, required=True)
        one.add_argument("--input")
        one.add_argument("--program")
        one.add_argument("--rounds", type=_count)
        _add_scenario(one)
    return parser


def _add_scenario(command: "Any") -> None:
    command.add_argument(
        "--scenario",
        metavar="NAME",
        help="single-stream or constant-stream, as MLPerf Automotive (default: the plan's)",
    )
    command.add_argument("--period-ms", metavar="MS", type=_seconds, help="from one picture of a stream to the next")
    command.add_argument("--seconds", metavar="S", type=_seconds, help="end a scenario after this time")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e7:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise ValueError(text)
    return value


def _scenario(given: "Any") -> "Any":
    from .scenario import Scenario

    return Scenario(given.scenario, given.period_ms, given.seconds)


def _run(given: "Any") -> int:
    """Run a command; what only some commands need is imported for those: a zipapp compiles what it imports."""
    if given.command == "serve":
        from . import serve

        return serve.serve(given.store)
    if given.command == "run-job":
        from . import device_jobs

        return device_jobs.run(given.folder, given.store)
    if given.command == "restore-performance":
        from . import performance

        return performance.keep(given.folder, given.pipe)
    if given.command == "telemetry":
        from . import telemetry

        return telemetry.watch(given.period_s)
    if given.command in bundle_commands.NAMES:
        return bundle_commands.run(given)
    from . import bench_job, build_file, build_job, environment, jobs, seal

    if given.command == "probe":
        if given.out is None:
            json.dump(environment.probe(), sys.stdout, indent=1, sort_keys=True)
            sys.stdout.write("\n")
        else:
            files.write_answer(environment.probe(), given.out)
        return 0
    if given.command in ("build-one", "bench-one"):
        parts = list(zip(given.parts[::2], given.parts[1::2]))  # noqa: B905 - strict came with Python 3.10
        if given.command == "build-one":
            rows = [build_job.build(plan, file, given.program) for plan, file in parts]
        else:
            rows = bench_job.bench(parts, given.input, given.program, _scenario(given), given.rounds)
        with os.fdopen(given.result_fd, "w", encoding="utf-8") as pipe:
            json.dump(rows, pipe)
        return 0
    if given.command == "build":
        plans, name = given.plans, build_file.FILE_NAME
        results = [jobs.build_all(plan, given.program, given.time_limit) for plan in plans]
        done = [row["status"] == "built" for result in results for row in result["engines"]]
    elif given.command == "detect":
        from . import detect_job

        plans, name = [given.plan], detect_job.FILE_NAME
        results = [jobs.detect_all(given.plan, given.pictures, given.only, given.program)]
        done = [row["status"] == "detected" for row in results[0]["runs"]]
    else:
        plans, name = given.plans, "latency.json"
        results = _bench_all(given)
        done = [row["status"] in ("measured", "composed") for result in results for row in result["runs"]]
    results = [seal.sealed(result) for result in results]
    if given.out is not None:
        files.write_answer(results if len(results) > 1 else results[0], given.out)
    if given.out is None or (given.command == "build" and len(plans) > 1):  # where `bench` looks for it
        for plan, result in zip(plans, results):  # noqa: B905
            files.write_json(result, os.path.join(os.path.dirname(os.path.abspath(plan)), name))
    return 0 if all(done) else EXIT_PARTLY if any(done) else EXIT_NOTHING


def _bench_all(given: "Any") -> "List[Any]":
    """Measure, in the fastest power mode where that is asked for."""
    from . import jobs, performance, telemetry

    def measure() -> "List[Any]":
        return jobs.bench_all(
            given.plans, given.only, given.input, given.program, given.time_limit, _scenario(given), given.rounds
        )

    performance.restore_abandoned()
    if not given.max_performance:
        return measure()
    with performance.MaxPerformance(telemetry.starter()) as fastest:
        results = measure()
    for result in results:
        fastest.record(result["environment"])
    return results


def main(arguments: "Optional[List[str]]" = None) -> int:
    """Run a command and return the exit code."""
    given = _parser().parse_args(arguments)
    if given.command not in ("run-job", "restore-performance"):  # which ignores the end of its session first
        processes.obey_signals()
    if getattr(given, "parent_fd", None) is not None:
        processes.end_with_parent(given.parent_fd, in_order=given.command in ("build", "bench"))
    try:
        return _run(given)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Failed as error:
        say("error: " + error.reason)
        if error.hint:
            say("hint: " + error.hint)
        return EXIT_FAILED
    except UnicodeError:
        say("error: a file's name cannot be spelled in this system's encoding; set LC_ALL=C.UTF-8")
        return EXIT_FAILED
    except OSError as error:
        say("error: {}: {}".format(error.filename or "file", error.strerror))
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
