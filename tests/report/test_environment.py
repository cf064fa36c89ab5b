from __future__ import annotations

import pytest

from deploycc.report.environment import changed_clocks, cpu_count, differences, flatten, free_governors, load_average


def test_a_tree_becomes_dotted_keys() -> None:
    tree = {"cpu": {"model": "A", "clocks": [1, 2]}, "gpu": None}

    assert flatten(tree) == {"cpu.model": "A", "cpu.clocks.0": 1, "cpu.clocks.1": 2, "gpu": None}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"cpu_governor": "performance", "gpu_governor": None}, []),
        ({"cpu_governor": "schedutil"}, ["cpu_governor schedutil"]),
        ({"cpu": {"governor": "powersave"}}, ["cpu.governor powersave"]),
        ({"gpu_governor": "nvhost_podgov", "gpu_clock_min_mhz": 1300.5, "gpu_clock_max_mhz": 1300.5}, []),
        (
            {"gpu_governor": "nvhost_podgov", "gpu_clock_min_mhz": 114.75, "gpu_clock_max_mhz": 1300.5},
            ["gpu_governor nvhost_podgov"],
        ),
    ],
)
def test_a_governor_is_free_unless_its_clocks_are_fixed(environment: dict, expected: list[str]) -> None:
    assert free_governors(environment) == expected


def test_clocks_that_move_are_found_and_jitter_is_not() -> None:
    before = {
        "cpu_clocks_mhz": "0:2035 3:2035",
        "gpu_clock_cur_mhz": 1300.5,
        "gpu_clock_max_mhz": 1300.5,
        "load_1min": 1,
    }
    jitter = {
        "cpu_clocks_mhz": "0:2030 3:2040",
        "gpu_clock_cur_mhz": 1290.0,
        "gpu_clock_max_mhz": 900.0,
        "load_1min": 9,
    }
    slower = {"cpu_clocks_mhz": "0:2035 3:1200", "gpu_clock_cur_mhz": 900.0}

    assert changed_clocks(before, jitter) == []
    assert [found.key for found in changed_clocks(before, slower)] == ["cpu_clocks_mhz", "gpu_clock_cur_mhz"]
    assert changed_clocks(before, {}) == []
    assert changed_clocks({"cpu_clocks_mhz": None}, {"cpu_clocks_mhz": "0:1"}) == []


def test_facts_that_always_differ_are_no_difference() -> None:
    first = {
        "cpu_model": "A", "load_1min": 0.1, "cpu_clocks_mhz": "0:2000", "memory_available_mib": 10,
        "nvidia_smi": "H200, 570.1, 345 MHz, 2619 MHz, 30, 75 W, P8",
    }  # fmt: skip
    later = {
        "cpu_model": "A", "load_1min": 2.5, "cpu_clocks_mhz": "0:900", "memory_available_mib": 99,
        "nvidia_smi": "H200, 570.1, 1980 MHz, 2619 MHz, 60, 300 W, P0",
    }  # fmt: skip

    assert differences(first, later) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpu_model", "B"),
        ("version_onnxruntime", "1.30.0"),
        ("nvpmodel", "MAXQ"),
        ("gpu_clock_max_mhz", 900.0),
        ("emc_cap_hz", 1),
        ("memory_total_mib", 4096),
        ("nvidia_smi", "H200, 580.2, 345 MHz"),
        ("new_fact", "here"),
    ],
)
def test_facts_that_matter_are_differences(key: str, value: object) -> None:
    first = {
        "cpu_model": "A", "version_onnxruntime": "1.31.1", "nvpmodel": "MAXN", "gpu_clock_max_mhz": 1300.5,
        "emc_cap_hz": 0, "memory_total_mib": 8192, "nvidia_smi": "H200, 570.1, 345 MHz",
    }  # fmt: skip

    (found,) = differences(first, {**first, key: value})

    assert (found.key, found.candidate) == (key, value)
    assert str(found) == f"{key}: {first.get(key, 'not stated')} -> {value}"


def test_load_and_cpus() -> None:
    assert load_average({"load_1min": 1.5, "load_5min": 0.2}) == 1.5
    assert load_average({"load_1min": None}) is None
    assert cpu_count({"cpus_online": 6}) == 6
    assert cpu_count({}) == 1


def test_what_the_agent_reads_here_is_understood() -> None:
    from deploycc.agent.environment import probe, state

    now = probe()

    assert cpu_count(now) >= 1
    assert load_average(now) == now["load_1min"]
    assert differences(now, {**now, **state()}) == []
