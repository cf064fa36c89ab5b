"""What trtexec says: excerpts of public logs of real boards, in the forms of TensorRT 3 to 10."""

from __future__ import annotations

import pytest

from deploycc.agent.trtexec_log import Log, version_of


def read(text: str) -> Log:
    log = Log()
    for line in text.strip().splitlines():
        log.read(line)
    return log


XAVIER_NX = """
&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # /usr/src/tensorrt/bin/trtexec --loadEngine=LPR_net.engine --verbose
[10/21/2025-15:16:09] [I] Max batch: 1
[10/21/2025-15:16:09] [I] === Device Information ===
[10/21/2025-15:16:09] [I] Selected Device: Xavier
[10/21/2025-15:16:09] [I] Compute Capability: 7.2
[10/21/2025-15:16:09] [I] SMs: 6
[10/21/2025-15:16:09] [I] Compute Clock Rate: 1.109 GHz
[10/21/2025-15:16:09] [I] TensorRT version: 8.5.2
"""
BUILD_FAILS = """
[05/25/2023-10:19:15] [E] Error[10]: [optimizer.cpp::computeCosts::1855] Error Code 10: Internal Error (Could not find \
any implementation for node /neck/deblocks.1/deblocks.1.0/ConvTranspose + /neck/deblocks.1/deblocks.1.2/Relu.)
[05/25/2023-10:19:15] [E] Error[2]: [builder.cpp::buildSerializedNetwork::417] Error Code 2: Internal Error (Assertion \
enginePtr != nullptr failed.)
[05/25/2023-10:19:15] [E] Engine could not be created from network
[05/25/2023-10:19:15] [E] Building engine failed
[05/25/2023-10:19:15] [E] Failed to create engine from model or file.
[05/25/2023-10:19:15] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v8503] # trtexec --onnx=model/rpn_centerhead_sim_export.onnx --fp16
"""
PARSE_FAILS = """
[I] [TRT] Input filename:   net.onnx
[E] [TRT] ModelImporter.cpp:773: While parsing node number 5 [Loop -> "post_out"]:
[E] [TRT] ModelImporter.cpp:774: --- Begin node ---
[E] [TRT] ModelImporter.cpp:775: input: "trip"
name: "post_loop"
op_type: "Loop"
[E] [TRT] ModelImporter.cpp:776: --- End node ---
[E] [TRT] ModelImporter.cpp:778: ERROR: ModelImporter.cpp:180 In function parseGraph:
[6] Invalid Node - post_loop
[E] Failed to parse onnx file
[E] Parsing model failed
[E] Engine set up failed
"""
BATCH = """
Error[3]: [executionContext.cpp::enqueue::276] Error Code 3: Internal Error (Parameter check failed at: \
runtime/api/executionContext.cpp::enqueue::276, condition: batchSize > 0 && batchSize <= mEngine.getMaxBatchSize())
[12/12/2023-21:35:03] [E] Error occurred during inference
"""
THOR = """
&&&& RUNNING TensorRT.trtexec [TensorRT v101303] [b9] # trtexec --version
[03/29/2026-18:58:09] [E] Model missing or format not recognized
&&&& FAILED TensorRT.trtexec [TensorRT v101303] [b9] # trtexec --version
"""
LOADED = """
[03/11/2022-14:57:03] [I] Throughput: 41087.7 qps
[03/11/2022-14:57:03] [I] Latency: min = 0.387207 ms, max = 0.447357 ms, mean = 0.402238 ms, median = 0.401947 ms
&&&& PASSED TensorRT.trtexec [TensorRT v8400] # trtexec --loadEngine=mnist16.trt --batch=16
"""
TENSORRT_7 = """
&&&& RUNNING TensorRT.trtexec # /usr/src/tensorrt/bin/trtexec --loadEngine=test4.engine
WARNING: Explicit batch network detected and batch size specified, use enqueue without batch size instead.
"""
TENSORRT_3_TO_5 = """
Average over 10 runs is 12.87 ms.
Average over 1 runs is 8.40288 ms (percentile time is 8.40288).
Average over 10 runs is 0.664858 ms (host walltime is 0.811777 ms, 99% percentile time is 0.676288).
"""


@pytest.mark.parametrize(
    ("number", "version"), [("8201", (8, 2, 1)), ("8502", (8, 5, 2)), ("100300", (10, 3, 0)), ("101303", (10, 13, 3))]
)
def test_release_numbers(number: str, version: tuple[int, int, int]) -> None:
    assert version_of(number) == version


def test_release_and_gpu_are_read() -> None:
    log = read(XAVIER_NX)
    assert (log.version, log.device, log.compute_capability, log.ended) == ((8, 5, 2), "Xavier", "7.2", None)
    thor = read(THOR)
    assert (thor.version, thor.build, thor.ended) == ((10, 13, 3), 9, "FAILED")
    assert read(LOADED).ended == "PASSED"
    assert read(TENSORRT_7).version is None


@pytest.mark.parametrize(
    ("text", "said", "node"),
    [
        (
            BUILD_FAILS,
            "Could not find any implementation for node",
            "/neck/deblocks.1/deblocks.1.0/ConvTranspose + /neck/deblocks.1/deblocks.1.2/Relu",
        ),
        (PARSE_FAILS, "While parsing node number 5", "post_loop (Loop)"),
        (BATCH, "batchSize <= mEngine.getMaxBatchSize()", None),
        (THOR, "Model missing or format not recognized", None),
    ],
)
def test_the_cause_is_the_first_error_that_tells_it(text: str, said: str, node: str | None) -> None:
    log = read(text)
    assert said in log.cause()
    assert "set up failed" not in log.cause()
    assert "during inference" not in log.cause()
    assert log.node() == node


def test_where_no_error_tells_it_the_last_words_count() -> None:
    assert read("[I] fine\n[E] Engine set up failed").cause() == "[E] Engine set up failed"
    assert read("[I] fine\nKilled").cause() == "Killed"
    assert Log().cause() == "it said nothing"


def test_an_engine_that_does_not_load_is_seen_although_it_passed() -> None:
    text = "[E] [TRT] IRuntime::deserializeCudaEngine: Error Code 1: Serialization\n&&&& PASSED TensorRT.trtexec # x"
    assert read(text).engine_does_not_load()
    assert not read(BUILD_FAILS).engine_does_not_load()


def test_times_of_tensorrt_3_to_5() -> None:
    assert read(TENSORRT_3_TO_5).averages_ms == [12.87, 8.40288, 0.664858]


def test_a_long_cause_is_cut() -> None:
    assert len(read("[E] " + "x" * 5000).cause()) < 900
