"""How pictures come to an engine, and how many of them a result needs.

A plan asks for one picture after the other. MLPerf Automotive's scenarios (mlperf.conf of its LoadGen, v0.5) ask for
more: ``single-stream`` the same way until its 99.9th percentile is known, ``constant-stream`` one picture per period,
whether the engine is ready or not.
"""

from typing import Any, Dict, List, Optional

from . import plan_file
from .outcome import Failed

SINGLE, CONSTANT = "single-stream", "constant-stream"
NEEDS = {
    SINGLE: {"min_duration_s": 600.0, "min_samples": 6636},
    CONSTANT: {"min_duration_s": 10.0, "min_samples": 100000},
}  # type: Dict[str, Dict[str, Any]]
LONGEST_PERIOD_MS = 60000.0


class Scenario:
    """How engines are measured.

    Attributes:
        name: of the scenario; None: as the plan says.
        period_ms: from one picture to the next in a constant stream.
        seconds: the measurement stops after these, and its verdict says what was not reached.
    """

    def __init__(
        self, name: "Optional[str]" = None, period_ms: "Optional[float]" = None, seconds: "Optional[float]" = None
    ) -> None:
        """Check that the parts fit together.

        Raises:
            Failed: a constant stream without a period, or a period or seconds without the scenario that they are for.
        """
        if name not in (None, SINGLE, CONSTANT):
            raise Failed("there is no scenario {}".format(name))
        if (name == CONSTANT) != (period_ms is not None):
            raise Failed("a period belongs to {}, and to nothing else".format(CONSTANT))
        if seconds is not None and name is None:
            raise Failed("the plan says how long a measurement without a scenario takes")
        self.name = name
        self.period_ms = period_ms
        self.seconds = seconds

    def constraints(self) -> "Dict[str, Any]":
        """What a valid run needs."""
        return dict(NEEDS[self.name] if self.name is not None else plan_file.VALID)

    def record(self) -> "Optional[Dict[str, Any]]":
        """What a run says of it; None where the plan decided."""
        return None if self.name is None else {"name": self.name, "period_ms": self.period_ms}

    def applied(self, plans: "List[Dict[str, Any]]") -> "List[Dict[str, Any]]":
        """Return plans whose measurements are those of the scenario, the same for all that are measured together."""
        asked = [plan["measurement"] for plan in plans]
        limits = {name: max(each[name] for each in asked) for name in ("warmup_s", "min_duration_s", "min_samples")}
        limits["quick"] = any(each["quick"] for each in asked)
        limits.update(threads=asked[0]["threads"], seed=asked[0]["seed"])  # one runtime runs all of them
        if self.name is not None:
            limits.update(NEEDS[self.name], quick=False)
            if self.period_ms is not None:
                limits["min_duration_s"] = limits["min_samples"] * self.period_ms / 1e3
            if self.seconds is not None:
                limits.update(min_duration_s=self.seconds, min_samples=1)
        return [dict(plan, measurement=dict(plan["measurement"], **limits)) for plan in plans]

    def arguments(self) -> "List[str]":
        """The options that mean it."""
        named = (("--scenario", self.name), ("--period-ms", self.period_ms), ("--seconds", self.seconds))
        return [part for option, value in named if value is not None for part in (option, str(value))]
