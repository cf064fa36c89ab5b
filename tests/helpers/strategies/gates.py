"""Gated convolutions."""

from __future__ import annotations

from branching_networks import BLOCKS, UNITS, Block, Branching, Wish
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


def branching_networks(*kinds: str, shared: bool = False) -> st.SearchStrategy[Branching]:
    """Up to three blocks of gated layers, and a plan for them; or only blocks of some kinds."""
    four = st.tuples(*[st.integers(0, 11)] * 4)
    block = st.builds(Block, st.sampled_from(kinds or BLOCKS), st.sampled_from(sorted(UNITS)), four)
    lowering = st.sampled_from(["widths", "widths", "widths", "blocks", "multiply"])
    wish = st.builds(Wish, lowering, st.integers(0, 2**16), st.sampled_from([True, True, False]))
    return st.builds(
        Branching,
        st.lists(block, min_size=1, max_size=3).map(tuple),
        st.lists(wish, min_size=3, max_size=5).map(tuple),
        st.integers(0, 2**16),
        st.just(shared),
    )
