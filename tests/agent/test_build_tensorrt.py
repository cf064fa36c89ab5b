"""TensorRT's Python API by release, against a stand-in that has each release's names; without a GPU nothing is built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploycc.agent import build_tensorrt, gpu
from deploycc.agent.outcome import Failed, NotPossible
from deploycc.agent.trt_log import node_of_message, parser_failure


def tensorrt(version: tuple[int, int]) -> SimpleNamespace:
    """The names a release has (NvInfer.h of its branch): what was removed is missing."""
    flags, creation = {"TF32": "tf32"} if version >= (7, 1) else {}, {}
    if version < (11, 0):
        flags["FP16"] = "fp16"
        flags["OBEY_PRECISION_CONSTRAINTS" if version >= (8, 2) else "STRICT_TYPES"] = "obey"
    if version < (11, 0):
        creation["EXPLICIT_BATCH"] = 0
    if version >= (9, 0):
        creation["STRONGLY_TYPED"] = 1
    names = {"BuilderFlag": SimpleNamespace(**flags), "NetworkDefinitionCreationFlag": SimpleNamespace(**creation)}
    if version >= (8, 2):
        names["ProfilingVerbosity"] = SimpleNamespace(DETAILED="detailed")
    if version >= (8, 4):
        names["MemoryPoolType"] = SimpleNamespace(WORKSPACE="workspace")
    return SimpleNamespace(__version__="{}.{}".format(*version), float32="float32", **names)


class Config:
    """A builder configuration; the old attribute and the new method exclude one another from 10.0 on."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.cleared: list[str] = []
        self.pools: dict[str, int] = {}
        self.profiling_verbosity = "names"

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def clear_flag(self, flag: str) -> None:
        self.cleared.append(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size


class Network:
    """Two layers."""

    def __init__(self) -> None:
        self.layers = [SimpleNamespace(name="conv1", precision=None), SimpleNamespace(name="head", precision=None)]
        self.num_layers = 2

    def get_layer(self, index: int) -> SimpleNamespace:
        return self.layers[index]


@pytest.mark.parametrize(
    ("version", "typed", "expected"),
    [((7, 1), False, 1), ((8, 6), False, 1), ((10, 3), False, 0), ((10, 3), True, 2), ((11, 0), True, 0)],
)
def test_network_flags(version: tuple[int, int], typed: bool, expected: int) -> None:
    assert build_tensorrt._network_flags(tensorrt(version), version, typed) == expected


def configure(version: tuple[int, int], keep: list[str], fp16: bool = True) -> tuple[Config, Network]:
    config, network = Config(), Network()
    plan = {"target": {"workspace_mib": 256}}
    build_tensorrt._configure(
        tensorrt(version), version, config, network, plan, {"fp16_flag": fp16}, {"keep_fp32": keep}
    )
    return config, network


@pytest.mark.parametrize("version", [(7, 1), (8, 2), (8, 4), (10, 3)])
def test_fp16_with_kept_layers(version: tuple[int, int]) -> None:
    config, network = configure(version, ["head"])
    assert config.flags == ["fp16", "obey"]
    assert [layer.precision for layer in network.layers] == [None, "float32"]
    size = config.pools["workspace"] if version >= (8, 4) else config.max_workspace_size
    assert size == 256 * 1024 * 1024


def test_fp32_sets_no_flag_and_is_no_tf32() -> None:
    for version in ((7, 1), (8, 2), (11, 0)):
        config, _ = configure(version, [], fp16=False)
        assert (config.flags, config.cleared) == ([], ["tf32"])
        assert config.profiling_verbosity == ("detailed" if version >= (8, 2) else "names")
    assert configure((7, 0), [], fp16=False)[0].cleared == []


def test_a_kept_layer_that_is_not_there() -> None:
    with pytest.raises(Failed, match="no layer tail"):
        configure((8, 2), ["tail"])


def test_11_has_no_flag() -> None:
    with pytest.raises(Failed, match="no FP16 flag"):
        configure((11, 0), [])


def test_a_timing_cache_of_another_build_is_left_out(tmp_path: Path) -> None:
    taken: list[bytes] = []

    class Caching(Config):
        def create_timing_cache(self, data: bytes) -> bytes:
            return data

        def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            taken.append(cache)
            return cache != b"of another build"

    kept = tmp_path / "cache"
    assert build_tensorrt._use_timing_cache(Caching(), str(kept)) == b""
    for data, used in ((b"ours", b"ours"), (b"of another build", b"")):
        kept.write_bytes(data)
        assert build_tensorrt._use_timing_cache(Caching(), str(kept)) == used
    assert taken == [b"", b"ours", b"of another build", b""]


def test_without_a_gpu_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: [])
    with pytest.raises(NotPossible, match="only on the GPU it builds for"):
        build_tensorrt.build({}, {}, {}, "network.onnx", "engine.partial")


def parser(**error: Any) -> SimpleNamespace:
    """A parser with one error, or with none."""
    methods = SimpleNamespace(**{name: (lambda value=value: value) for name, value in error.items()})
    return SimpleNamespace(num_errors=1 if error else 0, get_error=lambda index: methods)


def test_parser_errors_of_old_and_new_releases() -> None:
    new = parser_failure(parser(node=3, node_name="gate", node_operator="If", desc="no\n  such"), [])
    assert (new.reason, new.node) == ("the parser refuses the network: no such", "gate (If)")
    old = parser_failure(parser(node=3, desc="no such"), [])
    assert old.node == "number 3"
    assert parser_failure(parser(node=-1, desc="cut short"), []).node is None
    assert "last words" in parser_failure(parser(), ["first", "last words"]).reason


def test_the_longest_name_in_a_message_wins() -> None:
    layers = [{"name": name, "type": "NMS"} for name in ("", "nms", "nms_1", "other")]
    assert node_of_message("nms_1 has no runners", layers) == "nms_1 (NMS)"
    assert node_of_message("out of memory", layers) is None
