"""Find the parameters of a layer, and refuse what is not in the schema before anything is computed from them."""

from __future__ import annotations

import functools

from deploycc.errors import ModelError
from deploycc.importers.caffe.definition import LayerDef
from deploycc.importers.caffe.layer import EMITTERS, Emitter
from deploycc.importers.caffe.prototxt import Message
from deploycc.importers.caffe.schema import LAYER_FIELDS, OTHER_PARAMS
from deploycc.importers.caffe.typos import meant


def parameters(layer: LayerDef, emitter: Emitter) -> Message:
    """Return the parameters of a layer's type; the whole layer for a type without parameters.

    Raises:
        ModelError: ``caffe-unknown-attribute``: the layer or its parameters have a field that the type does not have;
            ``caffe-wrong-value``: its parameters are given under two names.
    """
    _check_layer(layer, emitter)
    if not emitter.params:
        return layer.message
    given = [name for name in emitter.params if name in layer.message]
    if len(given) > 1:
        raise layer.error("caffe-wrong-value", f"{' and '.join(given)} are both given")
    param = layer.message.message(given[0] if given else emitter.params[0])
    known = emitter.fields | emitter.ignored
    for name, value in param.items():
        if name not in known:
            raise unknown_attribute(layer, param, name, value.line, meant(name, known))
    param.ignore(*emitter.ignored)
    return param


def unknown_attribute(layer: LayerDef, param: Message, name: str, line: int, near: str | None = None) -> ModelError:
    """Create the error for a parameter that is not understood."""
    return ModelError(
        "caffe-unknown-attribute",
        f"{layer.type} with the attribute {name} is not supported",
        context={"file": param.file, "layer": layer.name, "line": line},
        note="an unknown attribute could change what the network computes",
        hint=f"did you mean {near}?" if near else None,
    )


@functools.cache
def _all_params() -> frozenset[str]:
    return OTHER_PARAMS.union(*(emitter.params for emitter in EMITTERS.values()))


def _check_layer(layer: LayerDef, emitter: Emitter) -> None:
    params = _all_params()
    for name, value in layer.message.items():
        if name in LAYER_FIELDS or name in params:
            continue
        near = meant(name, params | LAYER_FIELDS)
        hint = f"did you mean {near}?" if near else None
        if not name.endswith("_param"):
            raise layer.error("caffe-unknown-attribute", f"a layer has no attribute {name}", hint=hint)
        own = " or ".join(emitter.params) or "no parameters"
        raise ModelError(
            "caffe-unknown-attribute",
            f"{layer.type} with {name} is not supported",
            context={"file": layer.message.file, "layer": layer.name, "line": value.line},
            note=f"{layer.type} takes {own}; others could change what it computes",
            hint=hint,
        )
