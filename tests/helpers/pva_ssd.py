"""PVA-SSD as Caffe text: the trunk of PVANet with the extra feature layers and predictors of SSD300.

The trunk is PVANet 9.1 (Hong et al., PVANet: Lightweight Deep Neural Networks for Real-time Object Detection, 2016):
C.ReLU, which computes half of its maps and negates them, residual blocks that normalise and activate before they
convolve, and Inception blocks. Predictors, prior boxes and extra layers follow Liu et al., SSD, 2016; they read activated
maps of 38, 19, 10, 5, 3 and 1 pixels. The extra layers are as wide as it takes to have the white paper's 0.976 GMACs of
back-end and 5.7 million parameters (table 1 and table 3).

To see it: ``python tests/pva_ssd.py > pva_ssd.prototxt; deploycc inspect pva_ssd.prototxt --random-weights 1``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

CLASSES = 21  # of Pascal VOC, with the background
SIZE = 300  # pixels, height and width

# Residual blocks of C.ReLU by stage: blocks, stride of the first, kernels of its three convolutions.
CRELU_STAGES = {"conv2": (3, 1, (24, 24, 64)), "conv3": (4, 2, (48, 48, 128))}
# Residual Inception blocks by stage: blocks, kernels of the branches 1x1, 3x3, two 3x3 and pooling, of the sum.
INCEPTION_STAGES = {
    "conv4": (4, (64,), (48, 128), (24, 48, 48), 128, 256),
    "conv5": (4, (64,), (96, 192), (32, 64, 64), 128, 384),
}
REDUCED_LATER = {"conv4": 64, "conv5": 96}  # what the 3x3 branch reduces to in all blocks but the first
POOL_PADDING = {"conv4": 0, "conv5": 1}  # a map of 19 pixels shrinks to 10, as a convolution of this stride makes it
# Extra feature layers: kernels of the 1x1 and of the 3x3 convolution, stride and padding of the latter.
EXTRAS = {"conv6": (200, 256, 2, 1), "conv7": (128, 256, 2, 1), "conv8": (64, 256, 1, 0)}
# Predictors: the map they read, and the prior boxes' sizes in pixels, aspect ratios and step in pixels.
HEADS = {
    "conv4_1/incep/pre": (30, 60, (2,), 8),
    "conv5_1/incep/pre": (60, 111, (2, 3), 16),
    "conv5_4": (111, 162, (2, 3), 32),
    "conv6_2": (162, 213, (2, 3), 64),
    "conv7_2": (213, 264, (2,), 100),
    "conv8_2": (264, 315, (2,), 300),
}


@dataclass
class _Text:
    """Layers in order."""

    layers: list[str] = field(default_factory=list)

    def layer(self, name: str, kind: str, bottoms: str | Sequence[str], top: str, params: str = "") -> str:
        sources = [bottoms] if isinstance(bottoms, str) else bottoms
        wires = [*(f'bottom: "{source}"' for source in sources), f'top: "{top}"']
        rows = [f'name: "{name}"', f'type: "{kind}"', *wires, *([params] if params else [])]
        self.layers.append("layer {\n" + "".join(f"  {row}\n" for row in rows) + "}\n")
        return top

    def convolution(
        self, name: str, bottom: str, top: str, kernels: int, size: int = 1, *, stride: int = 1, pad: int | None = None,
        bias: bool = True,
    ) -> str:  # fmt: skip
        padding = size // 2 if pad is None else pad
        params = f"num_output: {kernels} kernel_size: {size} stride: {stride} pad: {padding}"
        bias_term = "" if bias else " bias_term: false"
        return self.layer(name, "Convolution", bottom, top, f"convolution_param {{ {params}{bias_term} }}")

    def normalised(self, name: str, bottom: str, top: str) -> str:
        """Batch normalisation in Caffe's two layers."""
        self.layer(name, "BatchNorm", bottom, top, "batch_norm_param { use_global_stats: true }")
        return self.layer(f"{name}_scale", "Scale", top, top, "scale_param { bias_term: true }")

    def relu(self, name: str, blob: str) -> str:
        return self.layer(name, "ReLU", blob, blob)

    def activated(self, prefix: str, bottom: str, top: str) -> str:
        """Batch normalisation and ReLU."""
        return self.relu(f"{prefix}relu", self.normalised(f"{prefix}bn", bottom, top))

    def crelu(self, prefix: str, bottom: str, normal: str, top: str) -> str:
        """Batch normalisation, the map beside its negative, a scale of its own for both halves, ReLU."""
        self.layer(f"{prefix}bn", "BatchNorm", bottom, normal, "batch_norm_param { use_global_stats: true }")
        negative = self.layer(f"{prefix}neg", "Power", normal, f"{prefix}neg", "power_param { scale: -1.0 }")
        self.layer(f"{prefix}concat", "Concat", [normal, negative], top)
        return self.relu(
            f"{prefix}relu", self.layer(f"{prefix}scale", "Scale", top, top, "scale_param { bias_term: true }")
        )

    def max_pool(self, name: str, bottom: str, pad: int = 0) -> str:
        params = f"pooling_param {{ pool: MAX kernel_size: 3 stride: 2 pad: {pad} }}"
        return self.layer(name, "Pooling", bottom, name, params)

    def residual(self, name: str, branch: str, source: str, project: tuple[int, int] | None) -> str:
        """Add a branch to its source; ``project`` gives kernels and stride where the two have other shapes."""
        if project is None:
            other = self.layer(f"{name}/input", "Power", source, f"{name}/input")
        else:
            other = self.convolution(f"{name}/proj", source, f"{name}/proj", project[0], stride=project[1])
        return self.layer(name, "Eltwise", [branch, other], name, "eltwise_param { operation: SUM }")


def pva_ssd() -> str:
    """The definition, as every Caffe reads it that has the SSD layers."""
    text = _Text()
    last = _trunk(text)
    for name, (narrow, wide, stride, pad) in EXTRAS.items():
        for part, kernels, size, step, border in ((1, narrow, 1, 1, 0), (2, wide, 3, stride, pad)):
            top = f"{name}_{part}"
            last = text.convolution(top, last, top, kernels, size, stride=step, pad=border)
            text.relu(f"{top}_relu", top)
    _heads(text)
    dims = f"dim: 1 dim: 3 dim: {SIZE} dim: {SIZE}"
    return f'name: "PVA_SSD_300x300"\ninput: "data"\ninput_shape {{ {dims} }}\n' + "".join(text.layers)


def _trunk(text: _Text) -> str:
    first = text.convolution("conv1_1/conv", "data", "conv1_1/conv", 16, 7, stride=2, bias=False)
    last = text.max_pool("pool1", text.crelu("conv1_1/", first, first, "conv1_1"))
    for stage, (blocks, stride, kernels) in CRELU_STAGES.items():
        for block in range(blocks):
            last = _crelu_block(text, f"{stage}_{block + 1}", last, stride if block == 0 else 1, kernels, block == 0)
    for stage, (blocks, one, three, fives, pooled, total) in INCEPTION_STAGES.items():
        for block in range(blocks):
            name, final = f"{stage}_{block + 1}", (stage, block + 1) == ("conv5", blocks)
            reduced = (three[0] if block == 0 else REDUCED_LATER[stage], three[1])
            source = text.activated(f"{name}/incep/", last, f"{name}/incep/pre")
            made = _inception(
                text, f"{name}/incep", source, (one, reduced, fives), pooled if block == 0 else 0, POOL_PADDING[stage]
            )
            out = text.convolution(f"{name}/out/conv", made, f"{name}/out", total, bias=not final)
            if final:
                text.normalised(f"{name}/out/bn", out, out)
            last = text.residual(name, out, last, (total, 2) if block == 0 else None)
    return text.activated("conv5_4/last_", last, last)


def _crelu_block(text: _Text, name: str, source: str, stride: int, kernels: tuple[int, int, int], first: bool) -> str:
    activated = source
    if name != "conv2_1":  # what it reads is activated already
        activated = text.activated(f"{name}/1/", source, f"{name}/1/pre")
    reduced = text.convolution(f"{name}/1/conv", activated, f"{name}/1", kernels[0], stride=stride)
    wide = text.activated(f"{name}/2/", reduced, f"{name}/2/pre")
    maps = text.convolution(f"{name}/2/conv", wide, f"{name}/2", kernels[1], 3)
    both = text.crelu(f"{name}/3/", maps, f"{name}/3/pre", f"{name}/3/preAct")
    out = text.convolution(f"{name}/3/conv", both, f"{name}/3", kernels[2])
    return text.residual(name, out, activated if first else source, (kernels[2], stride) if first else None)


def _inception(
    text: _Text, name: str, source: str, branches: Sequence[Sequence[int]], pooled: int, padding: int
) -> str:
    """Branches of 1x1, 3x3 and two 3x3 convolutions, and one of pooling in a block that halves its map."""
    stride, tops = 2 if pooled else 1, []
    for number, kernels in enumerate(branches):
        last = source
        for step, count in enumerate(kernels):
            if step:
                last = _unit(text, f"{name}/{number}_{step - 1}", last, count, 3, 1)
            else:
                last = _unit(text, f"{name}/{number}_reduce" if number else f"{name}/0", last, count, 1, stride)
        tops.append(last)
    if pooled:
        tops.append(_unit(text, f"{name}/poolproj", text.max_pool(f"{name}/pool", source, padding), pooled, 1, 1))
    return text.layer(name, "Concat", tops, name)


def _unit(text: _Text, name: str, source: str, kernels: int, size: int, stride: int) -> str:
    made = text.convolution(f"{name}/conv", source, name, kernels, size, stride=stride, bias=False)
    return text.activated(f"{name}/", made, made)


def _heads(text: _Text) -> None:
    parts: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for source, (smallest, largest, ratios, step) in HEADS.items():
        priors = 2 + 2 * len(ratios)
        for part, values in (("loc", 4), ("conf", CLASSES)):
            top = text.convolution(f"{source}_mbox_{part}", source, f"{source}_mbox_{part}", priors * values, 3)
            last = f"permute_param {{ {' '.join(f'order: {axis}' for axis in (0, 2, 3, 1))} }}"
            top = text.layer(f"{top}_perm", "Permute", top, f"{top}_perm", last)
            parts[part].append(
                text.layer(f"{top[:-5]}_flat", "Flatten", top, f"{top[:-5]}_flat", "flatten_param { axis: 1 }")
            )
        boxes = (
            f"min_size: {smallest} max_size: {largest} {' '.join(f'aspect_ratio: {ratio}' for ratio in ratios)} flip: true "
            f"clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: {step} offset: 0.5"
        )
        name = f"{source}_mbox_priorbox"
        parts["priorbox"].append(text.layer(name, "PriorBox", [source, "data"], name, f"prior_box_param {{ {boxes} }}"))
    for part, axis in (("loc", 1), ("conf", 1), ("priorbox", 2)):
        text.layer(f"mbox_{part}", "Concat", parts[part], f"mbox_{part}", f"concat_param {{ axis: {axis} }}")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }}"
    text.layer("mbox_conf_reshape", "Reshape", "mbox_conf", "mbox_conf_reshape", shape)
    text.layer("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", "mbox_conf_softmax", "softmax_param { axis: 2 }")
    text.layer("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", "mbox_conf_flatten", "flatten_param { axis: 1 }")
    found = (
        f"num_classes: {CLASSES} share_location: true background_label_id: 0 code_type: CENTER_SIZE keep_top_k: 200 "
        "confidence_threshold: 0.01 nms_param { nms_threshold: 0.45 top_k: 400 }"
    )
    inputs = ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"]
    text.layer("detection_out", "DetectionOutput", inputs, "detection_out", f"detection_output_param {{ {found} }}")


if __name__ == "__main__":
    sys.stdout.write(pva_ssd())
