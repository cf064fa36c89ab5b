"""Every hypothesis strategy of the test suite, one file a subject."""

from .caffe import (
    CaffeLayer,
    CaffePriors,
    caffe_activations,
    caffe_convolutions,
    caffe_deconvolutions,
    caffe_messages,
    caffe_poolings,
    caffe_priors,
)
from .detection import (
    AccuracyCase,
    HeadsCase,
    SuppressionCase,
    accuracy_cases,
    heads_cases,
    ssd_heads,
    suppression_cases,
    suppression_parameters,
)
from .fits import FitCase, fit_cases
from .gates import branching_networks, gate_spellings
from .networks import channel_networks, constant_networks, reshaping_networks, stacks
from .planning import planned_rows
from .samples import latency_samples, pictures
from .ssd import PriorLayer, anchor_networks, exported_networks, prior_layers, ssd_tails

__all__ = [
    "AccuracyCase",
    "CaffeLayer",
    "CaffePriors",
    "FitCase",
    "HeadsCase",
    "PriorLayer",
    "SuppressionCase",
    "accuracy_cases",
    "anchor_networks",
    "branching_networks",
    "caffe_activations",
    "caffe_convolutions",
    "caffe_deconvolutions",
    "caffe_messages",
    "caffe_poolings",
    "caffe_priors",
    "channel_networks",
    "constant_networks",
    "exported_networks",
    "fit_cases",
    "gate_spellings",
    "heads_cases",
    "latency_samples",
    "pictures",
    "planned_rows",
    "prior_layers",
    "reshaping_networks",
    "ssd_heads",
    "ssd_tails",
    "stacks",
    "suppression_cases",
    "suppression_parameters",
]
