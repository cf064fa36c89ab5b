"""``deploycc matrix MODEL...``: combinations of models, targets, precisions and variants for CI, as JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from deploycc.cli.options import argument, option, switch
from deploycc.cli.shared_options import Precisions, comma_list, target_option
from deploycc.terminal import console


def command(
    models: Annotated[list[str], argument("MODEL...", "Models, as `deploycc compile` takes them.")],
    target: Annotated[list[str], target_option("Target; repeat it for several.")],
    precision: Precisions = None,
    variant: Annotated[
        list[str] | None,
        option(
            "NAME=OPTIONS",
            "A variant and its options of `deploycc compile`, such as 'pruned=--data voc:d --below 0.05'; repeat "
            "it for several. Default: one without options.",
        ),
    ] = None,
    gitlab: Annotated[
        bool, switch("--gitlab", "A child pipeline of GitLab, instead of a matrix of GitHub Actions.")
    ] = False,
) -> None:
    """Print a CI job for each combination, as JSON.

    A target is combined with the precisions that it does. For GitHub Actions the result goes to strategy.matrix through
    fromJSON; for GitLab it is a whole child pipeline. The folder .ci/pipelines of the project has both, ready to copy.
    """
    from deploycc import target as targets
    from deploycc.workflows.matrix import combinations, matrix

    variants = dict(map(_variant, variant)) if variant else {"plain": ""}
    if variant and len(variants) < len(variant):
        raise typer.BadParameter("two variants have the same name", param_hint="--variant")
    found = combinations(models, [targets.load(name) for name in target], comma_list(precision), variants)
    console.print_json(matrix(found, "gitlab" if gitlab else "github"))


def _variant(text: str) -> tuple[str, str]:
    name, sign, options = text.partition("=")
    if not sign or not name.strip():
        raise typer.BadParameter(f"{text!r} is not NAME=OPTIONS", param_hint="--variant")
    return name.strip(), options.strip()
