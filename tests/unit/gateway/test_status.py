"""What ``status`` counts: losses at the devices and strangers on the cluster link are not hidden."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from ipsecha.gateway.status import _counters
from ipsecha.ipsec.counters import PlaneCounters


def _gateway() -> Any:
    plane = SimpleNamespace(
        counters=PlaneCounters(replayed=2), device_counters=lambda: {"outer-send-failed": 3, "inner-refused": 0}
    )
    faults = SimpleNamespace(count=1)
    return SimpleNamespace(endpoint=SimpleNamespace(counters={"no-proposal": 4, "x": 0}), plane=plane, faults=faults)


def test_a_single_gateway_counts_what_was_lost_at_its_devices() -> None:
    assert _counters(_gateway(), None) == {"no-proposal": 4, "esp-replayed": 2, "outer-send-failed": 3, "faults": 1}


def test_a_member_counts_strangers_on_the_cluster_link() -> None:
    member = SimpleNamespace(counters=Counter(fenced=5), listener=SimpleNamespace(refused=6))
    channel = SimpleNamespace(frames_sent=1, bytes_sent=2, frames_received=3, bytes_received=4, refused_peers=7)
    beats = SimpleNamespace(foreign=8)
    side: Any = SimpleNamespace(
        member=member, channel=channel, beats=beats, counters=Counter({"packets forwarded": 9, "never": 0})
    )
    found = _counters(_gateway(), side)
    assert {name: count for name, count in found.items() if name.startswith("cluster-")} == {
        "cluster-fenced": 5,
        "cluster-packets-forwarded": 9,
        "cluster-refused-beats": 14,
        "cluster-refused-connections": 7,
    }
    assert not [name for name in found if " " in name]
