"""Errors read: code, what happened, where, the fact behind it, what helps."""

from __future__ import annotations

from deploycc.errors import BudgetMissed, DeployError, ModelError


def test_rendered_error_has_every_part_in_reading_order() -> None:
    error = ModelError(
        "caffe-unknown-layer",
        "layer 'roi' has a type that is not known",
        context={"file": "net.prototxt", "layer": "roi", "line": 12},
        note="the importer knows 48 types",
        hint="cut the network before it",
    )
    assert error.render() == (
        "error[caffe-unknown-layer]: layer 'roi' has a type that is not known\n"
        "   file: net.prototxt\n"
        "  layer: roi\n"
        "   line: 12\n"
        "  note: the importer knows 48 types\n"
        "  hint: cut the network before it"
    )


def test_parts_that_are_not_there_leave_no_line() -> None:
    assert DeployError("x", "it broke").render() == "error[x]: it broke"


def test_a_missed_budget_has_its_own_exit_status() -> None:
    assert (DeployError.exit_code, BudgetMissed.exit_code) == (1, 3)
