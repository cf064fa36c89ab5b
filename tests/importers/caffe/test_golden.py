"""One small detector as ONNX text: names, operators and attributes that the importer writes, to be read as a diff."""

from __future__ import annotations

import numpy as np
from caffe_files import import_text, run
from golden_files import assert_golden

from deploycc.graph.text import to_text

DETECTOR = """
name: "small_ssd"
input: "data" input_shape { dim: 1 dim: 3 dim: 20 dim: 24 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 bias_term: false } }
layer { name: "conv1_bn" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "conv1_scale" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "conv1_relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "branch" type: "ConvolutionDepthwise" bottom: "pool1" top: "branch"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "pool1" bottom: "branch" top: "sum" eltwise_param { coeff: 1 coeff: 0.5 } }
layer { name: "norm" type: "Normalize" bottom: "sum" top: "norm"
  norm_param { across_spatial: false channel_shared: false scale_filler { type: "constant" value: 20 } } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_perm" top: "conf_rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_rows" softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_rows" top: "conf_flat" }
layer { name: "priors" type: "PriorBox" bottom: "norm" bottom: "data" top: "priors"
  prior_box_param { min_size: 6 max_size: 12 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors" top: "out"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 } } }
"""


def test_small_detector_is_the_golden_text() -> None:
    detector = import_text(DETECTOR, seed=1)
    outputs = run(detector, np.zeros((1, 3, 20, 24), np.float32))
    assert {name: values.shape for name, values in outputs.items()} == {"loc_flat": (1, 240), "conf_flat": (1, 180)}
    assert_golden("caffe_small_ssd.txt", to_text(detector.graph))
