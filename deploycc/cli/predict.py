"""``deploycc predict MODEL -t TARGET``: how long a detector takes on boards that are not here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.shared_options import AsJson, Precisions, comma_list, target_option
from deploycc.terminal import console


@takes_options
def command(
    *,
    target: Annotated[list[str], target_option("Target name or .toml file; repeat it to compare several.")],
    output: Annotated[
        Path | None, option("DIR", "Folder for prediction.json and a page with pictures.", "--output", "-o")
    ] = None,
    precision: Precisions = None,
    profile: Annotated[
        Path | None, option("FILE", "Profile of a gated network: predict with the kernels that it used.")
    ] = None,
    active: Annotated[
        float | None, option("SHARE", "Share of the kernels that gates leave on, without a profile.")
    ] = None,
    runtime: Annotated[str | None, option("caffe", "Predict Caffe with cuDNN instead of the target's runtime.")] = None,
    layers: Annotated[bool, switch("--layers", "List every launch of every target.")] = False,
    as_json: AsJson = False,
    choice: ModelChoice,
) -> None:
    """Predict latency on boards that are not attached.

    Needs no weights, no board and no GPU; every figure comes with its interval and what it rests on.
    """
    from deploycc.documents.utilisation import read_profile
    from deploycc.report.prediction import prediction_json, prediction_notes, prediction_tables
    from deploycc.workflows.predict import predict, write_prediction
    from deploycc.workflows.staging import check_output_folder

    if output is not None:
        check_output_folder(output)
    with console.progress("predict") as say:
        report = predict(
            choice.load(say, design=True),
            target,
            precisions=comma_list(precision),  # type: ignore[arg-type]
            profile=None if profile is None else read_profile(profile),
            active=active,
            runtime=runtime,
            say=say,
        )
        if output is not None:
            write_prediction(report, output)
    tables = prediction_tables(report, layers=layers)
    console.show(as_json, prediction_json(report), *tables, remarks=prediction_notes(report))
    console.wrote(output)
