"""What a training of gates does besides teaching the network: it presses, freezes, holds or fits the gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from deploycc.distillation.gating_settings import GatingSettings
from deploycc.distillation.loop import Task
from deploycc.trainable.gated import GatedNetwork
from deploycc.trainable.sparsity import engaged_share, gate_price

_CORRECTION = 0.5  # logits for a batch that is as far from its share as can be


class GateTask(Task):
    """Presses kernels to go off, then freezes the gates and holds their share; or fits gates that never learn.

    Args:
        network: with the gates.
        settings: of the training.
        plain_shares: returns the share of the gated MACs that whole pictures engage.
        learns: whether gates learn until they are frozen.
        recalibrate: fits gates to the weights as they are now (`deploycc.distillation.gate_calibration`); None: their
            share is held by views.

    What views engage differs from what whole pictures do, by 4 points on street_ssd: at each check both are compared,
    and views are then held to a share at which pictures engage the one that was asked for.

    Gates that never learn read maps that change, and left alone the network lets them see less of what pictures differ
    in: on a MobileNet-SSD of 21 classes their spread fell from 2.5 to 1.7 points within 250 steps. So at each check
    they are fitted to the average of the weights before it is judged, and then to the weights that are trained on,
    like statistics of batch normalisation. Fitted to the average only, with a share held by views, the engaged share
    swung between 62 and 88 % after 2,500 steps.
    """

    def __init__(
        self,
        network: GatedNetwork,
        settings: GatingSettings,
        plain_shares: Callable[[], Sequence[float]],
        *,
        learns: bool = True,
        recalibrate: Callable[[], None] | None = None,
    ) -> None:
        self._network, self._settings, self._plain_shares = network, settings, plain_shares
        self._recalibrate, self._learns = recalibrate, learns
        self._settled = False
        self._keep = settings.keep  # of views
        self._shares: list[Tensor] = []
        self.retired = 0
        network.gates.requires_grad_(self._learns)

    def begin_step(self, progress: float) -> None:
        """Freeze gates, and retire their units, when it is time."""
        settings = self._settings
        if self._settled or (progress < settings.freeze and (self._learns or settings.retire)):
            return
        self._settled, self._learns = True, False
        self._network.gates.requires_grad_(False)
        if settings.retire:
            self.retired = self._network.retire(settings.retire)

    def price(self, progress: float) -> Tensor | None:
        """Count what a batch engages; press gates that learn, hold the share of those that do not."""
        network, settings = self._network, self._settings
        network.count_use()
        shares = engaged_share(network.by_layer, network.macs)
        self._shares.append(shares)
        if not self._learns:
            if self._keep is not None and self._recalibrate is None:  # the maps that gates read still change
                network.shift_gates(_CORRECTION * (self._keep - float(shares.mean())))
            return None
        return settings.press.at(progress) * gate_price(
            network.by_layer,
            network.macs,
            gain=settings.gain,
            target=self._keep,
            spread=settings.spread,
            spread_weight=settings.spread_weight,
        )

    def adapt(self) -> None:
        """Fit gates to the weights as they are now."""
        if self._recalibrate is not None:
            self._recalibrate()

    def facts(self) -> dict[str, float]:
        """Return what whole pictures engage, and what views did since the last record."""
        plain = np.array(self._plain_shares())
        in_views, self._shares = float(torch.cat(self._shares).mean()), []
        facts = {"engaged": float(plain.mean()), "engaged_std": float(plain.std()), "engaged_in_views": in_views}
        self.aim(facts)
        return facts

    def aim(self, record: Mapping[str, float]) -> None:
        """Hold views to the share at which pictures engage the one that was asked for, by a record of the history."""
        if self._settings.keep is not None:
            self._keep = self._settings.keep + record["engaged_in_views"] - record["engaged"]

    def may_keep(self, progress: float) -> bool:
        """Return whether gates no longer change by learning."""
        return self._settled
