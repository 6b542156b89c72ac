"""The lab builds networks that work and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipsecha.lab.namespaces import NETNS_DIRECTORY, Topology, remove_leftovers, set_cables

pytestmark = pytest.mark.root


def names_of(pid: int) -> list[str]:
    return [entry.name for entry in NETNS_DIRECTORY.iterdir() if entry.name.startswith(f"iha-{pid}.")]


def build(topology: Topology) -> None:
    for role in ("sw", "a", "b"):
        topology.namespace(role)
    topology.bridge("sw", "br0")
    for number, role in enumerate(("a", "b"), 1):
        topology.plug(role, "eth0", "sw", "br0")
        topology.address(role, "eth0", f"192.0.2.{number}/24", f"2001:db8::{number}/64")


def test_bridge_carries_both_families_and_a_pulled_cable_does_not() -> None:
    with Topology() as topology:
        build(topology)
        assert topology["a"].ping("192.0.2.2")
        assert topology["a"].ping("2001:db8::2")
        set_cables(topology["sw"], "b", ["eth0"], connected=False)
        assert not topology["a"].ping("192.0.2.2", timeout_s=1)
        set_cables(topology["sw"], "b", ["eth0"], connected=True)
        assert topology["a"].ping("192.0.2.2")
    assert names_of(os.getpid()) == []


def test_namespaces_go_with_an_exception_and_end_their_processes(tmp_path: Path) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def fail() -> None:
        with Topology() as topology:
            build(topology)
            processes.append(topology["a"].start(["sleep", "1000"], tmp_path / "log"))
            raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        fail()
    assert processes[0].wait(5) != 0
    assert names_of(os.getpid()) == []


SCRIPT = """
import sys, time
from ipsecha.lab.namespaces import Topology
with Topology() as topology:
    topology.namespace("x")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_namespaces_go_with_a_signal(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == b"ready\n"
        assert len(names_of(lab.pid)) == 1
        lab.send_signal(number)
        lab.wait(10)
    assert names_of(lab.pid) == []


def test_leftovers_of_a_killed_run_are_removed_and_those_of_a_live_one_are_not() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE) as lab:
        assert lab.stdout is not None
        assert lab.stdout.readline() == b"ready\n"
        left = names_of(lab.pid)
        remove_leftovers()
        assert names_of(lab.pid) == left
        lab.kill()
        lab.wait(10)
    assert names_of(lab.pid) == left
    time.sleep(0.1)
    assert set(left) <= set(remove_leftovers())
    assert names_of(lab.pid) == []
