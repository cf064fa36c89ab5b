"""Which nodes of the network a layer of a TensorRT engine computes, as its layer information tells.

From TensorRT 10 on, merged layers have names like ``__myl_ConvAddRelu_myl3_5`` that name no node. An engine that was
built with ``--profilingVerbosity=detailed`` remembers them all the same: ``Metadata`` of a layer lists
``[ONNX Layer: /conv1/Conv]`` for each of its nodes, since TensorRT 8.6. Between two of them is the control
character 31 or 30, escaped or not, a line break, or nothing.
"""

import collections
import json
import re
from typing import Any, Dict, List

from . import files
from .outcome import Failed

_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=\s*(?:\[ONNX Layer: |[\x00-\x1f,;]|$))", re.DOTALL)


def read_nodes(path: str) -> "Dict[str, List[str]]":
    """Return the nodes of each layer by the layer's name; empty where the file tells none, or cannot be read."""
    try:
        document = json.loads(files.read_bytes(path, 1 << 28).decode("utf-8"), strict=False)  # raw control characters
    except (Failed, ValueError, RecursionError, MemoryError):
        return {}
    return nodes_by_layer(document)


def nodes_by_layer(document: "Any") -> "Dict[str, List[str]]":
    """Return the nodes of each layer by the layer's name.

    Args:
        document: what ``--exportLayerInfo`` wrote. Without detailed verbosity its layers are names only.
    """
    layers = document.get("Layers") if isinstance(document, dict) else None
    found = collections.OrderedDict()  # type: Dict[str, List[str]]
    for layer in layers if isinstance(layers, list) else []:
        if not isinstance(layer, dict):
            continue
        name, metadata = layer.get("Name"), layer.get("Metadata")
        if isinstance(name, str) and isinstance(metadata, str):
            nodes = found.setdefault(name, [])  # several layers may have one name, and then one row in the profile
            nodes += [node for node in dict.fromkeys(_NODE.findall(metadata)) if node not in nodes]
    return {name: nodes for name, nodes in found.items() if nodes}
