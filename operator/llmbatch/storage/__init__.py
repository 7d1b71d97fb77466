"""Sources and sinks of JSON lines: inline, ConfigMap and Secret keys, S3."""

from llmbatch.storage.ambient import Ambient
from llmbatch.storage.objects import Objects, OutputKind
from llmbatch.storage.sink import ERRORS, OUTPUT, SUMMARY, File, Sink, Writer, sink_for
from llmbatch.storage.source import Source, source_for

__all__ = [
    "ERRORS",
    "OUTPUT",
    "SUMMARY",
    "Ambient",
    "File",
    "Objects",
    "OutputKind",
    "Sink",
    "Source",
    "Writer",
    "sink_for",
    "source_for",
]
