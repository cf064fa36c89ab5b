"""The layers of the package: which room belongs to which. `test_layers` holds their imports to it."""

from __future__ import annotations

from pathlib import Path

import deploycc

ROOT = Path(deploycc.__file__).parent

FILES = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
BASE = FILES | {"detector", "documents", "graph", "models", "parsers", "scenes", "target", "timing", "trainable"}
PARTS = {
    "agent_host",
    "bundle",
    "distillation",
    "engine",
    "evaluation",
    "exporters",
    "gate_planning",
    "importers",
    "integration",
    "lkam",
    "passes",
    "precision",
    "prediction",
    "pruning",
    "report",
    "terminal",
    "utilisation",
    "verification",
}
MORE = {
    "lkam": {"evaluation"},  # training scores what it trains
    "distillation": {"evaluation"},
    "terminal": {"report"},  # tables are shown
}
PACKAGES = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
