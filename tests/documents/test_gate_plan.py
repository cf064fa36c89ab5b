"""A gate plan says nothing that contradicts itself, and survives its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deploycc.documents.document import Evidence, read_document, this_tool
from deploycc.documents.gate_plan import GatePlan, LayerPlan
from deploycc.documents.seal import sealed
from deploycc.errors import ArtefactError


def layer(name: str = "conv", **fields: Any) -> LayerPlan:
    return LayerPlan(**{"layer": name, "lowering": "widths", "order": (1, 0, 3, 2), "sizes": (2, 4), **fields})


def plan(*layers: LayerPlan, staged: bool = False, shares: tuple[float, ...] = ()) -> GatePlan:
    return GatePlan(
        tool=this_tool(),
        evidence=Evidence(kind="measured", source="a test"),
        source_sha256="0" * 64,
        random_weights=None,
        network="net",
        target="x86-cpu",
        layers=layers,
        staged=staged,
        shares=shares,
    )


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    made = plan(
        layer(), layer("next", sizes=(0, 4), joined=True), layer("other", lowering="blocks", sizes=(2, 1), always=1),
        layer("variants", lowering="variants", sizes=(2, 2, 4)), layer("last", lowering="multiply", sizes=()),
    )  # fmt: skip
    made.write(tmp_path / GatePlan.FILE_NAME)
    assert read_document(tmp_path, GatePlan) == made
    assert made.layers[0].kernels == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order": (0, 0, 1, 2)}, "does not name each of its kernels once"),
        ({"order": (1, 2, 3, 4)}, "does not name each of its kernels once"),
        ({"sizes": (4, 2)}, "do not ascend"),
        ({"sizes": (2, 2, 4)}, "do not ascend"),
        ({"sizes": ()}, "do not ascend"),
        ({"sizes": (2,)}, "is not its 4 kernels"),
        ({"always": 1}, "has no blocks"),
        ({"lowering": "blocks"}, "do not hold its 4 kernels"),
        ({"lowering": "blocks", "sizes": (0, 4)}, "do not hold its 4 kernels"),
        ({"lowering": "multiply"}, "multiplied by its gate"),
        ({"lowering": "variants", "sizes": (4, 2)}, "the variants of layer conv do not ascend"),
        ({"lowering": "variants", "sizes": (1, 2)}, "is not its 4 kernels"),
        ({"lowering": "variants", "sizes": (0, 4)}, "a kernel in each of them"),
        ({"lowering": "variants", "sizes": (2, 4), "joined": True}, "it is not joined"),
        ({"lowering": "multiply", "sizes": (), "joined": True}, "multiplied by its gate"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        layer(**fields)


def test_only_widths_hold_others() -> None:
    with pytest.raises(ValidationError, match="is listed twice"):
        plan(layer(), layer())
    with pytest.raises(ValidationError, match="has no widths"):
        plan(layer(joined=True))
    with pytest.raises(ValidationError, match="has no widths"):
        plan(layer(lowering="blocks", sizes=(4,)), layer("next", joined=True))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / GatePlan.FILE_NAME
    path.write_text(plan(layer()).to_json().replace('"widths"', '"prefix"'), encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"layers\.0\.lowering"):
        read_document(tmp_path, GatePlan)


def test_a_staged_plan_has_variants_and_no_branches(tmp_path: Path) -> None:
    variants = layer("variants", lowering="variants", sizes=(2, 4))
    multiply = layer("last", lowering="multiply", sizes=())
    made = plan(variants, multiply, staged=True)
    made.write(tmp_path / GatePlan.FILE_NAME)
    assert read_document(tmp_path, GatePlan) == made
    for wrong in ((multiply,), (variants, layer())):
        with pytest.raises(ValidationError, match="only gates that multiply"):
            plan(*wrong, staged=True)


def test_the_shares_of_a_staged_plan_are_of_its_second_networks(tmp_path: Path) -> None:
    variants = layer("variants", lowering="variants", sizes=(2, 4))
    made = plan(variants, staged=True, shares=(0.7, 0.3))
    made.write(tmp_path / GatePlan.FILE_NAME)
    assert read_document(tmp_path, GatePlan) == made
    for staged, shares in ((False, (0.7, 0.3)), (True, (0.7, 0.2, 0.1))):
        with pytest.raises(ValidationError, match="a share of the pictures"):
            plan(variants, staged=staged, shares=shares)
    with pytest.raises(ValidationError, match="must sum to 1"):
        plan(variants, staged=True, shares=(0.0, 0.0))


def test_as_many_second_networks_may_follow_as_a_build_plan_holds() -> None:
    order = tuple(range(17))
    many = layer("variants", lowering="variants", order=order, sizes=tuple(number + 1 for number in order))
    assert plan(many).layers == (many,)  # branches
    with pytest.raises(ValidationError, match="at most 16 second networks"):
        plan(many, staged=True)


def test_a_plan_from_before_stages_is_read_as_one_network(tmp_path: Path) -> None:
    made = plan(layer())
    text = made.to_json()
    assert '"staged": false' in text
    older = sealed(made.model_dump_json(by_alias=True, indent=2, exclude={"staged", "shares"}))
    (tmp_path / GatePlan.FILE_NAME).write_text(older, encoding="utf-8")
    assert "staged" not in older
    assert read_document(tmp_path, GatePlan) == made
