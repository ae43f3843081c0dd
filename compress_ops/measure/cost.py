"""What one inference costs besides time: bytes moved, where its nodes ran, copies between providers, peak memory.

Bytes moved = sum over executed nodes of (activations read + weights read + outputs written), taken from
onnxruntime's profile (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html). It is an upper
bound of the traffic to memory, since caches keep a part, and the nearest thing to energy that can be measured here.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..files.temporary import temporary_folder
from ..runtime import Feeds, Provider, open_session, short_name

_READ_A_PART = {"Gather", "GatherElements", "GatherND", "GatherBlockQuantized", "Slice"}
_HAVE_A_BODY = {"If", "Loop", "Scan"}  # the nodes of their bodies are in the profile too


@dataclass(frozen=True)
class Profile:
    """One inference. ``nodes_by_provider`` counts nodes as fused; ``copies`` counts copies between providers."""

    bytes_moved: int
    nodes_by_provider: dict[str, int]
    copies: int


def profile_run(path: Path, feeds: Feeds, providers: Sequence[Provider], threads: int) -> Profile:
    """Run the model once under onnxruntime's profiler."""
    with temporary_folder() as folder:
        session = open_session(path, providers, threads=threads, profile_to=folder / "profile", pack=False)
        session.run(feeds)
        written = Path(session.raw.end_profiling()).read_bytes()
    return read_profile(read_events(written))


def read_events(written: bytes) -> list[dict[str, Any]]:
    """Older versions of onnxruntime write names as they are: a line break does no harm, a quote does."""
    try:
        events: list[dict[str, Any]] = json.loads(written, strict=False)
    except ValueError as error:
        raise ModelError(f"onnxruntime's profile cannot be read ({error})") from error
    return events


def read_profile(events: Iterable[dict[str, Any]]) -> Profile:
    """Sum up the events of one inference."""
    runs = [event for event in events if event.get("cat") == "Node" and "provider" in event.get("args", {})]
    nodes = {(event["name"], event["args"]["node_index"], event["args"]["provider"]) for event in runs}
    return Profile(
        bytes_moved=sum(_bytes_moved(event["args"]) for event in runs),
        nodes_by_provider=dict(sorted(Counter(short_name(provider) for _, _, provider in nodes).items())),
        copies=sum(event["args"]["op_name"].startswith("Memcpy") for event in runs),
    )


def _bytes_moved(node: dict[str, Any]) -> int:
    if node["op_name"] in _HAVE_A_BODY:
        return 0
    read, written = int(node["activation_size"]) + int(node["parameter_size"]), int(node["output_size"])
    return written + (min(read, written) if node["op_name"] in _READ_A_PART else read)


def peak_memory() -> int | None:
    """The largest number of bytes that this process has held in memory so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
