"""Gated convolutions."""

from __future__ import annotations

from gated_networks import DECISIONS, GROUPS, LAYERS, LAYOUTS, POOLS, PRODUCTS, Spelling
from hypothesis import strategies as st


def gate_spellings() -> st.SearchStrategy[Spelling]:
    """Every way to write a gate: pooling, layers, decision, groups, place and product."""
    return st.builds(
        Spelling,
        pool=st.sampled_from(sorted(POOLS)),
        layer=st.sampled_from(sorted(LAYERS)),
        decision=st.sampled_from(sorted(DECISIONS)),
        group=st.sampled_from([None, *sorted(GROUPS)]),
        layout=st.sampled_from(sorted(LAYOUTS)),
        product=st.sampled_from(sorted(PRODUCTS)),
    )
