"""The agent's command line: ``probe``, ``build PLAN``, ``bench PLAN``; JSON into a file, progress on stderr."""

import argparse
import json
import os
import signal
import sys
from typing import Any, List, Optional

from . import __version__, bench_job, build_job, environment, files, jobs
from .outcome import Failed
from .progress import say

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent", description="Builds and measures the engines of a plan.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    probe = commands.add_parser("probe", help="describe this machine")
    probe.add_argument("--out", help="JSON file (default: standard output)")
    build = commands.add_parser("build", help="build the engines")
    build.add_argument("plan", metavar="PLAN")
    build.add_argument("--out", help="JSON file (default: build.json beside the plan)")
    bench = commands.add_parser("bench", help="measure the engines")
    bench.add_argument("plan", metavar="PLAN")
    bench.add_argument("--only", metavar="PRECISION", help="fp32 or fp16 (default: every engine)")
    bench.add_argument("--input", metavar="FILE.npy", help="the picture tensor (default: seeded random values)")
    bench.add_argument("--out", help="JSON file (default: latency.json beside the plan)")
    for name in ("build-one", "bench-one"):  # used by the agent itself: a process of its own for each job
        one = commands.add_parser(name)
        one.add_argument("plan")
        one.add_argument("files", nargs="+")
        one.add_argument("--result-fd", type=int, required=True)
        one.add_argument("--input")
    return parser


def _interrupt(number: int, frame: "Any") -> None:
    raise KeyboardInterrupt


def _run(given: "Any") -> None:
    if given.command == "probe":
        if given.out is None:
            json.dump(environment.probe(), sys.stdout, indent=1, sort_keys=True)
            sys.stdout.write("\n")
        else:
            files.write_json(environment.probe(), given.out)
    elif given.command in ("build-one", "bench-one"):
        if given.command == "build-one":
            rows = [build_job.build(given.plan, file) for file in given.files]
        else:
            rows = bench_job.bench(given.plan, given.files, given.input)
        with os.fdopen(given.result_fd, "w", encoding="utf-8") as pipe:
            json.dump(rows, pipe)
    else:
        beside = os.path.dirname(os.path.abspath(given.plan))
        if given.command == "build":
            result, name = jobs.build_all(given.plan), bench_job.BUILD_FILE
        else:
            result, name = jobs.bench_all(given.plan, given.only, given.input), "latency.json"
        files.write_json(result, given.out or os.path.join(beside, name))


def main(arguments: "Optional[List[str]]" = None) -> int:
    """Run a command and return the exit code: 0 also where the JSON tells that something was not possible."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(given)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Failed as error:
        say("error: " + error.reason)
        return EXIT_FAILED
    except OSError as error:
        say("error: {}: {}".format(error.filename or "file", error.strerror))
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
