"""deploycc: the deployment compiler for SSD detectors on NVIDIA Jetson and DRIVE boards.

What a program or a notebook needs is here, and loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploycc.detector import Detector as Detector
    from deploycc.errors import DeployError as DeployError
    from deploycc.errors import Note as Note
    from deploycc.target import Target as Target
    from deploycc.target import load as load_target
    from deploycc.workflows.compile import compile as compile
    from deploycc.workflows.compile_settings import CompileSettings as CompileSettings
    from deploycc.workflows.detect import detect as detect
    from deploycc.workflows.evaluate import evaluate_detector as evaluate
    from deploycc.workflows.export import export_detector as export
    from deploycc.workflows.fisher import fisher_importance as fisher_importance
    from deploycc.workflows.gates import GatePlanning as GatePlanning
    from deploycc.workflows.gates import plan_gates as plan_gates
    from deploycc.workflows.load import load as load
    from deploycc.workflows.load import save as save
    from deploycc.workflows.package import package as package
    from deploycc.workflows.package_contents import PackageSettings as PackageSettings
    from deploycc.workflows.predict import predict as predict
    from deploycc.workflows.profile import profile as profile
    from deploycc.workflows.prune import Pruned as Pruned
    from deploycc.workflows.prune import PruneSettings as PruneSettings
    from deploycc.workflows.prune import prune as prune
    from deploycc.workflows.recover import recover as recover
    from deploycc.workflows.report import Report as Report
    from deploycc.workflows.report import read_report as read_report
    from deploycc.workflows.staged import StagedDetector as StagedDetector
    from deploycc.workflows.staged import StagedSession as StagedSession
    from deploycc.workflows.staged import stage as stage

__version__ = "0.1.0"

_HOME = {
    "CompileSettings": "deploycc.workflows.compile_settings:CompileSettings",
    "DeployError": "deploycc.errors:DeployError",
    "Detector": "deploycc.detector:Detector",
    "GatePlanning": "deploycc.workflows.gates:GatePlanning",
    "Note": "deploycc.errors:Note",
    "PackageSettings": "deploycc.workflows.package_contents:PackageSettings",
    "PruneSettings": "deploycc.workflows.prune:PruneSettings",
    "Pruned": "deploycc.workflows.prune:Pruned",
    "Report": "deploycc.workflows.report:Report",
    "StagedDetector": "deploycc.workflows.staged:StagedDetector",
    "StagedSession": "deploycc.workflows.staged:StagedSession",
    "Target": "deploycc.target:Target",
    "compile": "deploycc.workflows.compile:compile",
    "detect": "deploycc.workflows.detect:detect",
    "evaluate": "deploycc.workflows.evaluate:evaluate_detector",
    "export": "deploycc.workflows.export:export_detector",
    "fisher_importance": "deploycc.workflows.fisher:fisher_importance",
    "load": "deploycc.workflows.load:load",
    "load_target": "deploycc.target:load",
    "package": "deploycc.workflows.package:package",
    "plan_gates": "deploycc.workflows.gates:plan_gates",
    "predict": "deploycc.workflows.predict:predict",
    "profile": "deploycc.workflows.profile:profile",
    "prune": "deploycc.workflows.prune:prune",
    "read_report": "deploycc.workflows.report:read_report",
    "recover": "deploycc.workflows.recover:recover",
    "save": "deploycc.workflows.load:save",
    "stage": "deploycc.workflows.staged:stage",
}
"""Public name to the module that defines it and its name there."""

__all__ = [
    "CompileSettings",
    "DeployError",
    "Detector",
    "GatePlanning",
    "Note",
    "PackageSettings",
    "PruneSettings",
    "Pruned",
    "Report",
    "StagedDetector",
    "StagedSession",
    "Target",
    "__version__",
    "compile",
    "detect",
    "evaluate",
    "export",
    "fisher_importance",
    "load",
    "load_target",
    "package",
    "plan_gates",
    "predict",
    "profile",
    "prune",
    "read_report",
    "recover",
    "save",
    "stage",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: start-up stays fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, and what every module has."""
    return sorted({*globals(), *_HOME})
