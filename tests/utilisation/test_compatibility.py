"""A profile of another network is refused."""

from __future__ import annotations

import pytest
from gated_networks import KERNELS, Spelling, gated
from graph_text import network
from utilisation_profiles import profile

from deploycc.errors import ArtefactError
from deploycc.utilisation.compatibility import check_profile, kernels_of

TWO_CONVOLUTIONS = """<ir_version: 8, opset_import: ["" : 13]>
n (float[1,3,6,6] x, float[4,3,1,1] v, float[2,4,1,1] w) => (float[1,2,6,6] y) {
 [first] z = Conv(x, v)
 [second] y = Conv(z, w)
}"""


def test_kernels_are_output_channels() -> None:
    assert kernels_of(network(TWO_CONVOLUTIONS).graph) == {"first": 4, "second": 2}
    assert kernels_of(gated(Spelling(layer="gemm")).graph)["gated"] == KERNELS


def test_a_profile_is_accepted_for_its_own_network() -> None:
    check_profile(profile(), "a" * 64, None, {"conv0": 9, "other": 4})


@pytest.mark.parametrize(
    ("sha256", "seed", "kernels", "code", "message"),
    [
        ("c" * 64, None, {"conv0": 9}, "profile-other-model", "another network"),
        ("a" * 64, 7, {"conv0": 9}, "profile-other-model", "another network"),
        ("a" * 64, None, {"conv1": 9}, "profile-other-layers", "does not exist"),
        ("a" * 64, None, {"conv0": 8}, "profile-other-layers", "has 8 kernels"),
    ],
)
def test_a_profile_of_another_network_is_refused(
    sha256: str, seed: int | None, kernels: dict[str, int], code: str, message: str
) -> None:
    with pytest.raises(ArtefactError) as caught:
        check_profile(profile(), sha256, seed, kernels)
    assert caught.value.code == code
    assert message in caught.value.message
