"""Removed channels against masked ones on thousands of random networks; exits 1 where one differs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from channel_networks import ChannelNetwork
from channel_removal import dead_error, kill, removal_error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import channel_networks, constant_networks


def main() -> int:
    """Run both properties, print a line each, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="of each property (default: %(default)s)")
    examples = parser.parse_args().examples
    free = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    seen: dict[str, list[tuple[float, int]]] = {"removed = masked": [], "dead channels removed": []}

    @free
    @given(channel_networks())
    def removed(made: ChannelNetwork) -> None:
        result = removal_error(made.build(), made.seed)
        seen["removed = masked"].append(result)
        assert result[0] <= 1.0

    @free
    @given(st.one_of(channel_networks(), constant_networks()))
    def dead(made: ChannelNetwork) -> None:
        result = dead_error(kill(made.build(), made.seed))
        seen["dead channels removed"].append(result)
        assert result[0] <= 1.0

    start = time.perf_counter()
    failed = 0
    for test in (removed, dead):
        try:
            test()
        except AssertionError as error:
            failed += 1
            sys.stdout.write(f"{error}\n")
    for name, results in seen.items():
        went = [groups for _, groups in results]
        sys.stdout.write(
            f"{name}: {len(results)} networks, {sum(map(bool, went))} of them lost channels, {sum(went)} groups; "
            f"worst error {max(error for error, _ in results):.3f} of the tolerance (atol 1e-4, rtol 1e-4)\n"
        )
    sys.stdout.write(f"{time.perf_counter() - start:.0f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
