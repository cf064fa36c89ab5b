"""Fields of Caffe's schema that no layer of this importer reads, so that only unknown ones are refused."""

from __future__ import annotations

LAYER_FIELDS = frozenset(
    (
        *("name", "type", "bottom", "top", "include", "exclude", "phase", "param", "loss_weight", "propagate_down"),
        *("blobs", "blobs_lr", "weight_decay", "blob_share_mode"),
        # Forks choose a library or a precision for one layer: Intel's engine; NVIDIA's types.
        *("engine", "forward_type", "backward_type", "forward_math", "backward_math", "cudnn_math_override", "debug"),
    )
)
"""Fields of a layer that do not change what it computes, other than parameters."""

OTHER_PARAMS = frozenset(
    f"{name}_param"
    for name in (
        *("accuracy", "annotated_data", "contrastive_loss", "data", "detection_evaluate", "dummy_data", "embed"),
        *("hdf5_data", "hdf5_output", "hinge_loss", "image_data", "infogain_loss", "input", "loss", "lstm"),
        *("memory_data", "multibox_loss", "parameter", "python", "recurrent", "roi_pooling", "smooth_l1_loss", "spp"),
        *("transform", "video_data", "window_data"),
    )
)
"""Parameters of types that have no emitter. Caffe ignores the parameters of another type."""
