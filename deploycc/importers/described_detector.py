"""Apply a description to a detector whose file already states its heads, or lacks only those."""

from __future__ import annotations

from dataclasses import replace

from deploycc.detector import Detector, Nms
from deploycc.errors import ModelError, Note
from deploycc.importers.description import Description

_CHANGEABLE = frozenset(["background"])  # keys of [heads] that may override the file's own heads
_OF_DECODED_HEADS = frozenset(["background", "activation", "locations", "scores"])  # ... that decoded boxes leave open


def describe_known_heads(detector: Detector, description: Description) -> Detector:
    """Apply [heads]: change what a detector with heads allows, or add heads to a detector without.

    Raises:
        ModelError: the description contradicts the file, or `describe_heads` raises it.
    """
    described, heads = description.heads, detector.heads
    if not described.model_fields_set:
        return detector
    if heads is None:
        return _with_described_heads(detector, description)
    _refuse(description, _CHANGEABLE)
    background = None if described.background == "none" else described.background
    if background is not None and not 0 <= background < heads.classes:
        raise ModelError(
            "description-background",
            f"the background class {background} does not exist: there are {heads.classes} classes",
            context={"file": description.path, "key": "heads.background"},
            hint=f'0 to {heads.classes - 1}, or "none"',
        )
    return replace(detector, heads=replace(heads, background=background))


def refuse_keys_of_raw_heads(description: Description) -> None:
    """Refuse keys of [heads] that say how boxes are decoded, for a network that shows it itself.

    Raises:
        ModelError: ``description-heads``.
    """
    _refuse(description, _OF_DECODED_HEADS)


def _refuse(description: Description, allowed: frozenset[str]) -> None:
    if extra := sorted(description.heads.model_fields_set - allowed):
        raise ModelError(
            "description-heads",
            f"the file states its own heads; {', '.join(extra)} cannot be changed",
            context={"file": description.path, "key": f"heads.{extra[0]}"},
            hint="remove these keys from the description",
        )


def describe_results(detector: Detector, description: Description) -> Detector:
    """Apply class names and suppression parameters.

    Raises:
        ModelError: the number of names does not match the number of classes.
    """
    changes = {key: value for key, value in description.nms.model_dump().items() if value is not None}
    detector = replace(detector, nms=Nms(**{**detector.nms.__dict__, **changes}))
    names = description.names()
    if names is not None:
        detector = replace(detector, class_names=_names_by_class(names, detector, description))
    note = Note("", "description-used", f"the detector is described by {description.path}")
    return replace(detector, notes=(*detector.notes, note))


def _with_described_heads(detector: Detector, description: Description) -> Detector:
    from deploycc.importers.described_heads import describe_heads
    from deploycc.importers.head_scores import resolve_scores

    graph = detector.graph.copy()
    raw_heads, notes = describe_heads(graph, detector.input, description)
    heads, score_notes = resolve_scores(graph, raw_heads, detector.input, description)
    if heads is None:
        return replace(detector, notes=(*detector.notes, *score_notes))
    return replace(detector, graph=graph, heads=heads, notes=(*detector.notes, *notes, *score_notes))


def _names_by_class(names: tuple[str, ...], detector: Detector, description: Description) -> tuple[str, ...]:
    """Return one name per class, adding the background's name if the list leaves it out."""
    heads = detector.heads
    if heads is None or len(names) == heads.classes:
        return names
    if heads.background is not None and len(names) == heads.classes - 1:
        return (*names[: heads.background], "background", *names[heads.background :])
    key = "class_names" if description.class_names is not None else "class_names_file"
    note = None if heads.background is None else f"class {heads.background} is the background; its name may be omitted"
    raise ModelError(
        "class-names-count",
        f"{len(names)} class names for {heads.classes} classes",
        context={"file": description.path, "key": key},
        note=note,
    )
