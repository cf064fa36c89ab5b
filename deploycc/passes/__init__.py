"""The compiler: literal lists of passes, one per stage, each pass with the reason it is where it is.

`FOLD` and `DROP_DEAD` read no options: what they return is the same for every target.
"""

from __future__ import annotations

from deploycc.passes.check_backend import check_backend
from deploycc.passes.convert_precision import convert_precision
from deploycc.passes.drop_dead_priors import drop_dead_priors
from deploycc.passes.fit_parser import fit_parser
from deploycc.passes.fold_affine import fold_affine
from deploycc.passes.fold_constants import fold_constants
from deploycc.passes.fold_gates import fold_gates
from deploycc.passes.fuse_relu6 import fuse_relu6
from deploycc.passes.lower_detection import lower_detection
from deploycc.passes.lower_gates import lower_gates
from deploycc.passes.options import Options
from deploycc.passes.prune_channels import prune_channels
from deploycc.passes.runner import Compiled, Pass, Result, Step, run
from deploycc.passes.trim_kernels import trim_kernels

# fmt: off
FOLD: tuple[Pass, ...] = (
    fold_constants,     # first: exporters spell shapes as little graphs; the patterns below need plain numbers
    fuse_relu6,         # before affine nodes move: the two mirrors "6 - x" around a ReLU must still be side by side
    fold_affine,        # after constants are numbers: BatchNorm, Scale, Power, Bias vanish into their convolution
    trim_kernels,       # after folding fixed the weights: zero borders that Caffe needs for uneven padding cost MACs
)
DROP_DEAD: tuple[Pass, ...] = (
    drop_dead_priors,   # after folding made activations of plain biases; before detection is lowered over all priors
)
PRUNE: tuple[Pass, ...] = (
    fold_gates,         # before pruning: a gate that becomes a constant must not hold on to its kernels
    prune_channels,     # after affines are folded, which would make constants of zeros; before anything hides layers
    fold_affine,        # again: constants that replaced gates; not before pruning, where a kernel is zero and no shift
)
LOWER: tuple[Pass, ...] = (
    lower_detection,    # after folding: what it adds (decoding, suppression) is not part of the network to fold
    lower_gates,        # after all passes that follow channels or fold: none of them looks into a branch
)
FIT: tuple[Pass, ...] = (
    convert_precision,  # after every node of the network exists, so that none is left without a type
    fit_parser,         # near the end: opset, IR, INT64 and attribute spellings, whatever the passes above emitted
)
CHECK: tuple[Pass, ...] = (
    check_backend,      # last: names every node that the target's parser would still refuse
)
# fmt: on

PIPELINE = FOLD + DROP_DEAD + PRUNE + LOWER + FIT + CHECK

__all__ = [
    "CHECK",
    "DROP_DEAD",
    "FIT",
    "FOLD",
    "LOWER",
    "PIPELINE",
    "PRUNE",
    "Compiled",
    "Options",
    "Pass",
    "Result",
    "Step",
    "run",
]
