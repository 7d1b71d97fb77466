"""Panels, and the JSON by which Grafana knows them.

Schema version 42 is that of Grafana 12.2 to 13; older ones read it as their own, newer ones migrate it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from llmbatch.observability.monitoring.promql import Query

SCHEMA_VERSION = 42
SCREEN = 24
"""Columns of Grafana's grid."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
Colours = Mapping[float | None, str]
"""Colours from a value on; None is from the beginning."""


class Line(NamedTuple):
    """A query and how its series are called: ``{{label}}`` stands for a label's value."""

    query: Query
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``defaults`` are those of Grafana's fields, ``size`` is in columns and rows of its grid."""

    kind: Literal["timeseries", "stat", "bargauge"]
    title: str
    lines: Sequence[Line]
    description: str
    defaults: Mapping[str, Any]
    options: Mapping[str, Any]
    size: tuple[int, int]

    @property
    def instant(self) -> bool:
        """Whether it shows one moment, not a course."""
        return self.kind != "timeseries"

    def model(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana reads it."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.size[0], "h": self.size[1]},
            "fieldConfig": {"defaults": dict(self.defaults), "overrides": []},
            "options": dict(self.options),
            "targets": [self._target(chr(ord("A") + at), line) for at, line in enumerate(self.lines)],
        }

    def _target(self, name: str, line: Line) -> dict[str, Any]:
        return {
            "refId": name,
            "datasource": DATASOURCE,
            "expr": line.query.text,
            "legendFormat": line.legend or self.title,
            "instant": self.instant,
            "range": not self.instant,
        }


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


def graph(
    title: str, lines: Sequence[Line], *, unit: str = "short", description: str = "", stacked: bool = False
) -> Panel:
    """How values went. ``unit`` is Grafana's name of it."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 10,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    defaults = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel("timeseries", title, lines, description, defaults, options, (8, 8))


def stat(
    title: str,
    query: Query,
    *,
    legend: str = "",
    unit: str = "short",
    description: str = "",
    colours: Colours | None = None,
) -> Panel:
    """One number, or one for each series."""
    options = {**_last(), "colorMode": "value", "graphMode": "none"}
    return Panel("stat", title, [Line(query, legend)], description, _coloured(unit, colours), options, (4, 4))


def bars(title: str, lines: Sequence[Line], *, unit: str = "short", description: str = "") -> Panel:
    """A number for each series."""
    options = {**_last(), "orientation": "horizontal", "displayMode": "basic"}
    return Panel("bargauge", title, lines, description, _coloured(unit, None), options, (8, 8))


def _coloured(unit: str, colours: Colours | None) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in (colours or {None: "blue"}).items()]
    thresholds = {"mode": "absolute", "steps": steps}
    return {"unit": unit, "min": 0, "color": {"mode": "thresholds"}, "thresholds": thresholds}


def _last() -> dict[str, Any]:
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}


def dashboard(title: str, uid: str, variables: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["llmbatch"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(variables)},
        "panels": list(_arranged(rows)),
    }


def _arranged(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": SCREEN, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.size[0] > SCREEN:
                x, y = 0, y + height
            number, height = number + 1, panel.size[1]
            yield panel.model(number, x, y)
            x += panel.size[0]
        y += height


def datasource_variable(name: str, label: str) -> dict[str, Any]:
    """Lets people choose which Prometheus is asked."""
    return {"name": name, "label": label, "type": "datasource", "query": "prometheus", "refresh": 1, "current": {}}


def label_variable(name: str, label: str, query: str) -> dict[str, Any]:
    """Lets people choose values of a label; ``query`` is Grafana's ``label_values(…)``."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
