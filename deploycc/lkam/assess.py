"""Score a PyTorch detector: its accuracy, and statistics of its gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploycc.detector import Nms, SsdHeads
from deploycc.evaluation.dataset import Dataset
from deploycc.evaluation.decode import decode_boxes
from deploycc.evaluation.nms import suppress
from deploycc.evaluation.truth import Predictions, Truth
from deploycc.evaluation.voc import mean_ap, voc_scores
from deploycc.lkam.augment import fit
from deploycc.lkam.insert import gated_convs, gates_by_layer
from deploycc.lkam.network import Ssd
from deploycc.lkam.priors import VARIANCES, make_priors
from deploycc.lkam.samples import to_tensor
from deploycc.lkam.sparsity import conv_macs
from deploycc.progress import Say, quiet
from deploycc.trainable.gate import engaged_kernels
from deploycc.trainable.sparsity import engaged_share

NMS = Nms(score_threshold=0.01, iou_threshold=0.45, top_k=200, keep_top_k=100)
_BATCH = 50


def make_heads(size: int, classes: int) -> SsdHeads:
    """Describe the heads, for decoding."""
    priors = make_priors(size)
    variances = np.tile(np.array(VARIANCES, np.float32), (len(priors), 1))
    return SsdHeads("locations", "scores", priors, variances, classes, clip=True)


def assess(model: Ssd, data: Dataset, class_names: tuple[str, ...], say: Say = quiet) -> dict[str, Any]:
    """Measure accuracy on a data set and, if there are gates, their statistics.

    Args:
        model: in evaluation mode.
        data: with the same classes.
        class_names: for the table, without background.
        say: called with the number of pictures done.

    Returns:
        ``map50_area``, ``map50_11point``, ``classes`` (area by name) and, with gates, ``gates``: see `gate_statistics`.
    """
    heads = make_heads(model.config.size, model.config.classes)
    macs = conv_macs(model, torch.zeros(1, 3, model.config.size, model.config.size))
    truths: list[Truth] = []
    predictions: list[Predictions] = []
    shares: list[NDArray[np.float32]] = []
    engaged: dict[str, list[NDArray[np.float32]]] = {name: [] for name in macs}
    units: dict[str, int] = {}
    for start in range(0, len(data), _BATCH):
        say("evaluating pictures", start, len(data))
        samples = [data.sample(n) for n in range(start, min(start + _BATCH, len(data)))]
        pictures = to_tensor(np.stack([fit(pixels, model.config.size) for pixels, _ in samples]))
        with torch.no_grad():
            offsets, logits = model(pictures.contiguous(memory_format=torch.channels_last))
            scores = torch.softmax(logits, 2).numpy()
            if macs:
                shares.append(engaged_share(gates_by_layer(model), macs).numpy())
        for name, module in gated_convs(model):
            engaged[name].append(engaged_kernels(module.gate).numpy())
            units[name] = module.gate.units
        for (pixels, truth), offset, score in zip(samples, offsets.numpy(), scores, strict=True):
            height, width = pixels.shape[:2]
            kept = suppress(decode_boxes(offset, heads), score, NMS)
            boxes = kept.boxes * np.array([width, height] * 2, np.float32)
            truths.append(truth)
            predictions.append(Predictions(boxes, kept.classes - 1, kept.scores))
    table = voc_scores(truths, predictions, len(class_names))
    result: dict[str, Any] = {
        "data": data.spelling,
        "pictures": len(data),
        "map50_area": mean_ap(table),
        "map50_11point": mean_ap(table, eleven_point=True),
        "classes": {name: score.area for name, score in zip(class_names, table, strict=True)},
    }
    if macs:
        result["gates"] = gate_statistics(
            macs, units, np.concatenate(shares), {name: np.concatenate(rows) for name, rows in engaged.items()}
        )
    return result


def gate_statistics(
    macs: dict[str, int], units: dict[str, int], shares: NDArray[np.float32], engaged: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Compute the statistics of the LKAM white paper's Table 2 and Figure 3, as plain values.

    Args:
        macs: of each gated convolution with all kernels engaged.
        units: number of units of each gated convolution.
        shares: [pictures] share of these MACs that is engaged.
        engaged: [pictures, kernels] of zeros and ones per gated convolution.
    """
    saved = 100 * (1 - shares.astype(np.float64))
    use = {name: rows.mean(0) for name, rows in engaged.items()}
    all_use = np.concatenate(list(use.values()))
    return {
        "gated_macs": int(sum(macs.values())),
        "saved_percent": {
            "mean": float(saved.mean()),
            "std": float(saved.std()),
            "min": float(saved.min()),
            "max": float(saved.max()),
        },
        "used_below_5_percent": float((all_use < 0.05).mean()),
        "used_above_95_percent": float((all_use > 0.95).mean()),
        "layers": {
            name: {
                "macs": macs[name],
                "units": units[name],
                "mean_use": float(u.mean()),
                "idle": float((u < 0.05).mean()),
            }
            for name, u in use.items()
        },
    }
