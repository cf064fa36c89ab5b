"""Gated layers to plan."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from planned_layers import layer, prefixes

from deploycc.gate_planning.regions import PlannedLayer


@st.composite
def planned_rows(draw: st.DrawFn) -> list[PlannedLayer]:
    """One to four gated layers, nested or kernel by kernel, some joined to the one before."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, pictures = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    inputs, layers = 48, list[PlannedLayer]()
    for number in range(count):
        kernels = draw(st.sampled_from([32, 48, 96]))
        nested = draw(st.booleans())
        if nested:
            ends = list(range(0, kernels + 1, 16))
            active = prefixes(pictures, kernels, ends, seed=int(random.integers(1 << 30)))
        else:
            active = random.random((pictures, kernels)) < random.random(kernels) ** draw(st.sampled_from([0.3, 1, 4]))
        unit_of = tuple(k // 16 if nested else k for k in range(kernels))
        joins = number > 0 and draw(st.booleans())
        changes = {"unit_of": unit_of, "nested": nested, "joins": joins, "movable": draw(st.booleans()),
                   "divisible": draw(st.booleans())}  # fmt: skip
        layers.append(layer(f"layer{number}", active, inputs, **changes))
        inputs = kernels
    return layers
