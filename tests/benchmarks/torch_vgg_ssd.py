"""VGG-SSD300 in PyTorch, pruned by Torch-Pruning: the peer of `bench_torch_pruning`, run by an interpreter that has both.

Reads the dense network's weights and an input with the outputs to expect, prunes every layer but the predictors by the
L1 norms of its filters to kept counts in multiples of 16, and exports with ``torch.onnx.export``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

# Padding, stride and dilation of the convolutions, and size, stride and padding of the pools, by Caffe's names.
LAYERS = {
    "conv1_1": (1, 1, 1), "conv1_2": (1, 1, 1), "pool1": (2, 2, 0),
    "conv2_1": (1, 1, 1), "conv2_2": (1, 1, 1), "pool2": (2, 2, 0),
    "conv3_1": (1, 1, 1), "conv3_2": (1, 1, 1), "conv3_3": (1, 1, 1), "pool3": (2, 2, 0),
    "conv4_1": (1, 1, 1), "conv4_2": (1, 1, 1), "conv4_3": (1, 1, 1), "pool4": (2, 2, 0),
    "conv5_1": (1, 1, 1), "conv5_2": (1, 1, 1), "conv5_3": (1, 1, 1), "pool5": (3, 1, 1),
    "fc6": (6, 1, 6), "fc7": (0, 1, 1), "conv6_1": (0, 1, 1), "conv6_2": (1, 2, 1), "conv7_1": (0, 1, 1),
    "conv7_2": (1, 2, 1), "conv8_1": (0, 1, 1), "conv8_2": (0, 1, 1), "conv9_1": (0, 1, 1), "conv9_2": (0, 1, 1),
}  # fmt: skip
SOURCES = {"conv4_3": "conv4_3_norm", "fc7": "fc7", "conv6_2": "conv6_2", "conv7_2": "conv7_2", "conv8_2": "conv8_2",
           "conv9_2": "conv9_2"}  # fmt: skip
CLASSES = 21


class VggSsd(nn.Module):
    """Layers by Caffe's names, with given weights; the scale of the normalised map lies in its predictors."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        made = {name: values.shape for name, values in weights.items() if name.endswith(".weight")}
        for key, (kernels, channels, size, _) in made.items():
            name = key.removesuffix(".weight")
            padding, stride, dilation = LAYERS.get(name, (1, 1, 1))  # predictors are in no table
            layer = nn.Conv2d(channels, kernels, size, stride, padding, dilation)
            layer.weight.data, layer.bias.data = (torch.from_numpy(weights[f"{name}.{p}"]) for p in ("weight", "bias"))
            self.layers[name] = layer

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = [], []
        for name, numbers in LAYERS.items():
            if name.startswith("pool"):
                size, stride, padding = numbers
                x = nn.functional.max_pool2d(x, size, stride, padding, ceil_mode=name == "pool3")
                continue
            x = torch.relu(self.layers[name](x))
            if name in SOURCES:
                read = x / torch.sqrt((x * x).sum(1, keepdim=True) + 1e-10) if name == "conv4_3" else x
                boxes.append(self.layers[f"{SOURCES[name]}_mbox_loc"](read).permute(0, 2, 3, 1).flatten(1))
                scores.append(self.layers[f"{SOURCES[name]}_mbox_conf"](read).permute(0, 2, 3, 1).flatten(1))
        probabilities = torch.softmax(torch.cat(scores, 1).reshape(1, -1, CLASSES), 2)
        return torch.cat(boxes, 1), probabilities.flatten(1)


def pruned(dense: VggSsd, x: torch.Tensor, ratio: float) -> VggSsd:
    model = copy.deepcopy(dense)
    heads = [layer for name, layer in model.layers.items() if "mbox" in name]
    pruner = tp.pruner.BasePruner(
        model,
        x,
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        round_to=16,
        ignored_layers=heads,
    )
    pruner.step()
    return model


def macs(model: VggSsd, x: torch.Tensor) -> int:
    """Of the convolutions, bias not counted."""
    total = []

    def count(layer: nn.Conv2d, _: object, made: torch.Tensor) -> None:
        total.append(made.numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in model.layers.values()]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return sum(total)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help=".npz: weights, and input, locations and scores of the dense network")
    parser.add_argument("output", type=Path)
    parser.add_argument("--save", type=float, required=True, help="share of the MACs to remove")
    given = parser.parse_args()
    with np.load(given.data) as data:
        arrays = dict(data)
    x = torch.from_numpy(arrays["input"])
    dense = VggSsd(arrays).eval()
    with torch.no_grad():
        for found, name in zip(dense(x), ("locations", "scores"), strict=True):
            np.testing.assert_allclose(found.numpy(), arrays[name], rtol=0, atol=1e-3, err_msg=name)
    full = macs(dense, x)
    low, high, tried = 0.0, 0.5, dict[float, float]()
    for _ in range(6):
        ratio = (low + high) / 2
        saved = 1 - macs(pruned(dense, x, ratio), x) / full
        tried[ratio] = abs(saved - given.save)
        low, high = (ratio, high) if saved < given.save else (low, ratio)
    ratio = min(tried, key=lambda each: tried[each])
    small = pruned(dense, x, ratio)
    torch.onnx.export(small, (x,), str(given.output), input_names=["data"], output_names=["locations", "scores"])
    facts = {
        "torch": torch.__version__,
        "torch_pruning": version("torch-pruning"),
        "ratio": ratio,
        "macs": macs(small, x),
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
