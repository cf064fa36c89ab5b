"""What TensorRT's Python API says: errors of the parser and the builder, layers of a parsed network."""

from typing import Any, Dict, List, Optional

from .outcome import Failed


def make_logger(trt: "Any", messages: "List[str]") -> "Any":
    """Return a logger that keeps errors in ``messages`` and prints nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: "Any", message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                messages.append(" ".join(message.split()))

    return Logger()


def parser_failure(parser: "Any", messages: "List[str]") -> Failed:
    """The parser's first complaint, with the node it is about."""
    if parser.num_errors == 0:
        return Failed("the parser refuses the network: " + (messages[-1] if messages else "it gives no reason"))
    error = parser.get_error(0)
    # node_name and node_operator came with TensorRT 9
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    reason = "the parser refuses the network: " + " ".join(error.desc().split())
    if error.node() < 0:
        return Failed(reason)
    node = name or "number {}".format(error.node())
    return Failed(reason, node + (" ({})".format(operator) if operator else ""))


def node_of_message(message: str, layers: "List[Dict[str, Any]]") -> "Optional[str]":
    """The layer that a builder's message is about: the longest layer name in it."""
    named = [layer for layer in layers if layer["name"] and layer["name"] in message]
    if not named:
        return None
    layer = max(named, key=lambda layer: len(layer["name"]))
    return "{} ({})".format(layer["name"], layer["type"])


def read_layers(network: "Any") -> "List[Dict[str, Any]]":
    """Name, type and output precision of every layer, ``CONVOLUTION``, ``HALF``; precision None without outputs."""
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        precision = layer.get_output(0).dtype.name if layer.num_outputs else None
        layers.append({"name": layer.name, "type": layer.type.name, "precision": precision})
    return layers
