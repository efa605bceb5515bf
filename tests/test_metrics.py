"""Each Metrics has a registry of its own, and renders what Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from fmedge import __version__
from fmedge.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    text = metrics.render().decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_two_servers_in_one_process_do_not_share_counts():
    one, other = Metrics(), Metrics()
    one.generated_tokens.labels("m").inc(3)
    assert samples(one)["fmedge_generated_tokens_total['m']"] == 3
    assert "fmedge_generated_tokens_total['m']" not in samples(other)


def test_histograms_count_and_sum():
    metrics = Metrics()
    metrics.ttft_seconds.labels("m").observe(0.3)
    metrics.ttft_seconds.labels("m").observe(700)
    rendered = samples(metrics)
    assert rendered["fmedge_time_to_first_token_seconds_count['m']"] == 2
    assert rendered["fmedge_time_to_first_token_seconds_bucket['0.3', 'm']"] == 1
    assert rendered["fmedge_time_to_first_token_seconds_bucket['600.0', 'm']"] == 1


def test_the_process_and_the_version_are_told():
    rendered = samples(Metrics())
    assert rendered[f"fmedge_build_info['{__version__}']"] == 1
    assert rendered["process_resident_memory_bytes[]"] > 1 << 20
    assert 0 < rendered["process_open_fds[]"] <= rendered["process_max_fds[]"]


def test_names_follow_prometheus_conventions():
    for family in text_string_to_metric_families(Metrics().render().decode()):
        if family.name.startswith("process_"):
            continue  # prometheus_client's own
        assert family.name.startswith("fmedge_")
        assert family.documentation.endswith(".")
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_ratio"))
