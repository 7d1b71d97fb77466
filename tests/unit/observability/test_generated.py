"""The dashboard, the alerts and the reference are those of the metrics in the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from llmbatch.observability.metrics import Metrics
from llmbatch.observability.monitoring.__main__ import PAGE, files
from llmbatch.observability.monitoring.alerts import COST_PER_HOUR, alerts
from llmbatch.observability.monitoring.dashboard import document

ROOT = Path(__file__).resolve().parents[3]
METRICS = Metrics()
ALERTS = {alert.name: alert for alert in alerts(METRICS)}
MONITORING = ROOT / "docs" / "monitoring.md"


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, rows not counted."""
    return [panel for panel in json.loads(document(METRICS))["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Of the dashboard and the alerts."""
    yield from (target["expr"] for panel in panels() for target in panel["targets"])
    yield from (str(alert.rule()["expr"]) for alert in ALERTS.values())


@pytest.mark.parametrize("path", files(ROOT), ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path):
    """`make generate` leaves no difference: a metric that is renamed changes all of them."""
    assert path.read_text(encoding="utf-8") == files(ROOT)[path]


def test_a_page_that_lost_its_marks_is_not_overwritten(tmp_path: Path):
    """Whoever deletes a mark is told, and the text of the page stays."""
    (tmp_path / "docs").mkdir()
    (tmp_path / PAGE).write_text("# Metrics\n", encoding="utf-8")

    with pytest.raises(ValueError, match="lacks the marks"):
        files(tmp_path)


def test_every_metric_is_shown_or_alerted_upon():
    """What nobody looks at need not be measured."""
    looked_at = set(re.findall(r"\b(?:llmbatch|process)_\w+", " ".join(expressions())))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in looked_at} | looked_at

    assert {family.name for family in METRICS.families.values()} - shown == set()


def test_legends_name_only_labels_that_their_series_have():
    """Grafana shows an unknown label as it is written."""
    grouped = re.compile(r"(?:sum|max|count) by \(([^)]*)\)")
    wrong = [
        (panel["title"], label)
        for panel in panels()
        for target in panel["targets"]
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
        if label not in (grouped.search(target["expr"]) or [""])[0]
    ]

    assert wrong == []


def test_panels_have_ids_and_places_of_their_own():
    """No two overlap, and none is wider than the screen."""
    found = json.loads(document(METRICS))["panels"]
    places = [panel["gridPos"] for panel in found]

    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return all(
            one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
            for at, size in (("x", "w"), ("y", "h"))
        )

    assert len({panel["id"] for panel in found}) == len(found)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def test_every_panel_asks_the_chosen_prometheus_about_the_chosen_pods():
    """Two installations in one cluster are told apart."""
    variables = {variable["name"] for variable in json.loads(document(METRICS))["templating"]["list"]}

    chosen = 'cluster=~"$cluster", namespace=~"$namespace", pod=~"$pod"'

    assert variables == {"datasource", "cluster", "namespace", "pod"}
    for panel in panels():
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["expr"].count(chosen) == target["expr"].count("{")


def test_every_alert_has_its_entry_in_the_order_of_the_rules_and_no_other_has_one():
    """Whoever is woken finds what the alert means and what to do, under the alert's name."""
    headings = re.findall(r"^### (\w+)$", MONITORING.read_text(encoding="utf-8"), re.MULTILINE)

    assert headings == list(ALERTS)


def test_every_selector_of_an_alert_has_the_place_of_the_releases_namespace():
    """The chart puts its own namespace there; as it stands it is any."""
    for alert in ALERTS.values():
        expression = str(alert.rule()["expr"])
        assert expression.count('namespace=~".*"') == expression.count("{") > 0


def test_no_alert_adds_up_over_clusters():
    """A Prometheus that knows several tells of each on its own; only that there is no operator at all is about all."""
    without = [
        (alert.name, grouping)
        for alert in ALERTS.values()
        for grouping in re.findall(r"\b(?:sum|max|count)\b( by \([^)]*\))?", str(alert.rule()["expr"]))
        if "cluster" not in grouping
    ]

    assert without == [("LLMBatchOperatorAbsent", "")]


def test_the_panel_and_the_alert_agree_on_which_deployments_are_not_ready():
    """Those that are suspended or being deleted are in neither."""
    (panel,) = (panel for panel in panels() if panel["title"] == "Deployments not ready")
    matcher = 'reason!~"Suspended|DeletionWaits"'

    assert matcher in panel["targets"][0]["expr"]
    assert matcher in str(ALERTS["LLMBatchDeploymentNotReady"].rule()["expr"])


def test_what_an_alert_tells_of_is_in_its_series():
    """A label that is gone after an aggregation would be shown as nothing."""
    wrong = [
        (alert.name, label)
        for alert in ALERTS.values()
        for label in re.findall(r"\$labels\.(\w+)", alert.description)
        if not all(label in condition.value.labels for condition in alert.conditions)
    ]

    assert wrong == []


def test_the_threshold_of_the_cost_is_the_end_of_its_expression():
    """The chart puts its own value into the place of the number there."""
    assert ALERTS["LLMBatchCostRate"].rule()["expr"].endswith(f" > {COST_PER_HOUR}")
