"""All combinations of models, targets, precisions and variants, for CI systems that start a job for each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.target import Target

Format = Literal["github", "gitlab"]
MOST: dict[Format, int] = {"github": 256, "gitlab": 200}
"""Jobs that one matrix may start, as both document it."""

_COMMAND = 'deploycc compile "$MODEL" --target "$TARGET" --precision "$PRECISION" $OPTIONS --output "out/$NAME"'


@dataclass(frozen=True)
class Combination:
    """One job.

    Attributes:
        name: a folder's name that no other combination has.
        model, target, precision, variant: what is combined.
        options: of ``deploycc compile`` for this variant, quoted for a shell.
    """

    name: str
    model: str
    target: str
    precision: str
    variant: str
    options: str


def combinations(
    models: Sequence[str], targets: Sequence[Target], precisions: Sequence[str], variants: Mapping[str, str]
) -> list[Combination]:
    """Return the combinations that can be compiled, in this order.

    Args:
        models: as ``deploycc compile`` takes them.
        targets: each with the precisions that it does.
        precisions: wanted; empty: all that a target does.
        variants: name to options of ``deploycc compile``.

    Raises:
        InputError: ``matrix-empty``: no target does a wanted precision; ``matrix-option``: options of a variant are not
            words for a shell.
    """
    for name, options in variants.items():
        try:
            shlex.split(options)
        except ValueError as error:
            raise InputError("matrix-option", f"the options of {name} are not words for a shell: {error}") from None
    found: list[Combination] = []
    taken: set[str] = set()
    for model in models:
        for target in targets:
            for precision in [each for each in target.precisions if not precisions or each in precisions]:
                for variant, options in variants.items():
                    name = _free_name((model, target.name, precision, variant), taken)
                    found.append(Combination(name, model, target.name, precision, variant, options))
    if not found:
        raise InputError(
            "matrix-empty",
            "no combination can be compiled",
            context={"targets": ", ".join(target.name for target in targets), "precisions": ", ".join(precisions)},
            hint="`deploycc target show NAME` lists the precisions that a target does",
        )
    return found


def matrix(found: Sequence[Combination], form: Format) -> dict[str, Any]:
    """Return the matrix as a CI system reads it.

    Args:
        found: of `combinations`.
        form: ``github``: for ``strategy.matrix`` with ``fromJSON``; ``gitlab``: a whole child pipeline, because GitLab
            takes a matrix from nowhere else. JSON is YAML.

    Raises:
        InputError: ``matrix-too-large``.
    """
    if len(found) > MOST[form]:
        raise InputError(
            "matrix-too-large",
            f"{len(found)} combinations are more than the {MOST[form]} jobs that one matrix may start",
            hint="name fewer targets, precisions or variants",
        )
    if form == "github":
        return {"include": [asdict(each) for each in found]}
    return {
        "deploycc": {
            "image": "$DEPLOYCC_IMAGE",
            "parallel": {
                "matrix": [{key.upper(): value for key, value in asdict(each).items()} for each in found],
            },
            "script": [_COMMAND],
            "artifacts": {"paths": ["out"], "when": "always"},
        }
    }


def _free_name(parts: Sequence[str], taken: set[str]) -> str:
    """Return a name for a folder, made of parts: two models in different folders may have the same one."""
    stems = [re.sub(r"[^A-Za-z0-9._-]+", "-", part.rstrip("/").rpartition("/")[2]) for part in parts]
    base = name = "-".join(stems).lstrip("-.")
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
