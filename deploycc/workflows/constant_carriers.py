"""Useless kernels that stay, of zeros, so that the others can go where a reader pads with zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.graph.channels.groups import ChannelGroups
    from deploycc.pruning.decide import Choice, Kernels


def constant_carriers(graph: gs.Graph, groups: ChannelGroups, choice: Choice) -> Kernels:
    """Return the carriers with which most useless kernels can go, by layer (`deploycc.graph.channels.carriers`).

    They are the least used, so that they also serve where fewer of the kernels go than here.

    Args:
        graph: nothing removed.
        groups: of the graph.
        choice: the useless kernels.
    """
    from deploycc.graph.channels.carriers import pick_carriers
    from deploycc.graph.channels.constants import channel_constants
    from deploycc.passes.options import Prune
    from deploycc.passes.prune_channels import choose
    from deploycc.pruning.decide import group_use, kernels_of

    constants = channel_constants(graph, groups, choice.kernels)
    use = {group: group_use(groups, group, choice) for group in groups.of_kernels(choice.kernels)}
    while picked := pick_carriers(graph, groups, constants, use):
        carriers = kernels_of(groups, choice, picked)
        idle = picked - choose(graph, groups, Prune(choice.kernels, carriers=carriers))[1].carriers
        if not idle:
            return carriers
        use = {group: value for group, value in use.items() if group not in idle}
    return {}
