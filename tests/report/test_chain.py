from __future__ import annotations

import sample_reports
from sample_reports import ENGINE, NETWORK, TRAINED, latency, run, samples, unmeasured

from deploycc.documents.latency import EngineFile
from deploycc.report.chain import breaks, links

OTHER = "f" * 64


def test_the_chain_walks_from_the_trained_file_to_the_engine() -> None:
    found = links(sample_reports.compiled(), latency())

    assert [(link.what, link.sha256) for link in found] == [
        ("trained files", TRAINED),
        ("network", NETWORK),
        ("engine", ENGINE),
    ]
    assert breaks(sample_reports.compiled(), latency()) == ()
    assert breaks(sample_reports.compiled(), None) == ()


def test_every_trained_and_pruned_file_has_its_own_digest() -> None:
    trained = sample_reports.compiled().source.model_copy(update={"file_sha256": ("1" * 64, "2" * 64)})
    source = trained.model_copy(update={"files": ("small.onnx",), "sha256": OTHER, "file_sha256": (OTHER,)})
    network = sample_reports.compiled().networks[0].model_copy(update={"source_sha256": OTHER})
    record = sample_reports.pruning(source=trained)
    report = sample_reports.compiled(source=source, prunings=(record,), networks=(network,))

    assert [(link.what, link.name, link.sha256[0]) for link in links(report, None)[:3] if link.sha256] == [
        ("trained file", "ssd.prototxt", "1"),
        ("trained file", "ssd.caffemodel", "2"),
        ("pruned file", "small.onnx", "f"),
    ]
    assert breaks(report, None) == ()
    original = network.model_copy(update={"variant": "original", "sha256": "e" * 64, "source_sha256": TRAINED})
    both = report.model_copy(update={"networks": (network, original), "engines": ()})
    assert breaks(both, None) == ()
    swapped = both.model_copy(update={"networks": (network, original.model_copy(update={"source_sha256": OTHER}))})
    assert "other trained files" in breaks(swapped, None)[0]


def test_an_engine_built_on_the_board_joins_the_chain() -> None:
    board = sample_reports.compiled_for_board()
    measured = latency(target="jetson-tx2-jp461")

    assert [link.sha256 for link in links(board, measured)] == [TRAINED, NETWORK, None, ENGINE]
    assert breaks(board, measured) == ()


def test_the_original_network_has_a_chain_of_its_own() -> None:
    report = sample_reports.compiled()
    network = report.networks[0].model_copy(update={"variant": "original", "sha256": OTHER, "file": "original.onnx"})
    engine = report.engines[0].model_copy(
        update={"variant": "original", "network_sha256": OTHER, "sha256": "e" * 64, "file": "engine-original.onnx"}
    )
    both = sample_reports.compiled(networks=(*report.networks, network), engines=(*report.engines, engine))
    file = EngineFile(file="engine-original.onnx", sha256="e" * 64, runtime="onnxruntime")
    original = run(samples(), variant="original", network_sha256=OTHER, engine=file)

    assert breaks(both, latency(run(samples()), original)) == ()
    assert "original.onnx (fp32 original)" in [link.name for link in links(both, None)]
    swapped = latency(run(samples()), original.model_copy(update={"network_sha256": NETWORK}))
    assert breaks(both, swapped) == ("the fp32 original latency was measured on another network",)


def test_figures_of_something_else_are_named() -> None:
    report = sample_reports.compiled()
    engine = report.engines[0].model_copy(update={"sha256": OTHER})
    network = report.networks[0].model_copy(update={"source_sha256": OTHER})

    assert "another engine" in breaks(sample_reports.compiled(engines=(engine,)), latency())[0]
    assert "other trained files" in breaks(sample_reports.compiled(networks=(network,)), None)[0]
    assert "another network" in breaks(report, latency(run(samples(), network_sha256=OTHER)))[0]
    assert "for target other" in breaks(report, latency(target="other"))[0]
    unknown = latency(run(samples(), precision="fp16", network_sha256=None))
    assert "the fp16 latency was measured on another network" in breaks(report, unknown)[0]
    assert breaks(report, latency(unmeasured())) == ()
