"""The README's pair of gateways, step by step as a reader would: its own commands, its own files, its own strongSwan
configuration, on machines that are namespaces with an /etc, /run and /var/lib of their own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsecha.lab.namespaces import Namespace, Topology
from ipsecha.lab.processes import run, stop
from ipsecha.lab.strongswan import StrongSwan

pytestmark = [pytest.mark.root, pytest.mark.peer]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HOST_A, HOST_B = "10.1.0.100", "10.2.0.100"

# What a machine has and a namespace lacks: systemd, ssh.
SYSTEMCTL = """#!/bin/sh
[ "$*" = "enable --now ipsecha" ] || exit 0
command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/ipsecha.service)
bound=$(sed -n 's/^CapabilityBoundingSet=//p' /etc/systemd/system/ipsecha.service)
bound=$(echo "$bound" | sed 's/CAP_/+/g; s/ /,/g' | tr A-Z a-z)
setpriv --no-new-privs --bounding-set "-all,$bound" $command >/var/lib/daemon.log 2>&1 </dev/null &
"""
SCP = """#!/bin/sh
cp -p "{alpha}${{2#alpha:}}" "$3"
"""


def blocks() -> list[tuple[str, str]]:
    """Where each block of commands is to be typed, and the block."""
    return re.findall(r"^```sh (\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def swanctl_of_the_readme(secret: str) -> str:
    found = re.search(r"^```\n(connections \{.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].replace("0x...", secret)


class Machine:
    """A namespace with an /etc, a /run and a /var/lib that are its own."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.commands = directory / "bin"
        self.commands.mkdir(parents=True)
        private = directory / "private"
        script = [f"mkdir -p {private} && mount -t tmpfs tmpfs {private}"]
        for name in ("etc", "var/lib"):
            upper, work = private / name / "upper", private / name / "work"
            script.append(f"mkdir -p {upper} {work}")
            script.append(f"mount -t overlay overlay -o lowerdir=/{name},upperdir={upper},workdir={work} /{name}")
        script += ["mount -t tmpfs tmpfs /run", "echo ready", "exec sleep 600"]
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-ec", "\n".join(script)]
        self.holder = subprocess.Popen(namespace.command(argv), stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.holder.pid}/root")

    def install(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(script)
        path.chmod(0o755)

    def argv(self, command: str) -> list[str]:
        path = f"{self.commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = f"cd {shlex.quote(str(ROOT))}\nexport PATH={shlex.quote(path)} COLUMNS=110\n{command}"
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-n", "--", "bash", "-ec", shell]

    def type(self, command: str) -> str:
        """Runs commands as typed by a reader; returns what they print."""
        done = run(self.argv(command), timeout_s=60)
        return done.stdout

    def daemon_log(self) -> str:
        log = self.root / "var/lib/daemon.log"
        return log.read_text() if log.exists() else "(no log)"


@contextmanager
def offices(directory: Path) -> Iterator[tuple[Topology, dict[str, Machine]]]:
    """The network that the README describes."""
    with Topology() as topology:
        topology.namespace("sw")
        for bridge in ("br-eth0", "br-eth1", "br-eth2"):
            topology.bridge("sw", bridge)
        for role, number in (("alpha", 1), ("beta", 2)):
            topology.namespace(role)
            for interface in ("eth0", "eth1", "eth2"):
                topology.plug(role, interface, "sw", f"br-{interface}")
            topology.address(role, "eth0", f"192.0.2.1{number}/24")
            topology.address(role, "eth2", f"10.99.0.{number}/24")
            topology[role].run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
        topology.namespace("isp")
        topology.plug("isp", "eth0", "sw", "br-eth0")
        topology.address("isp", "eth0", "192.0.2.1/24")
        for role in ("alpha", "beta"):
            topology.route(role, "default", "192.0.2.1")
        topology.namespace("peer")
        topology.cable("isp", "eth1", "peer", "eth0")
        topology.address("isp", "eth1", "203.0.113.1/24")
        topology.address("peer", "eth0", "203.0.113.7/24")
        topology.route("peer", "default", "203.0.113.1")
        topology.namespace("hosta")
        topology.plug("hosta", "eth0", "sw", "br-eth1")
        topology.address("hosta", "eth0", f"{HOST_A}/16")
        topology.route("hosta", "default", "10.1.0.1")
        topology.namespace("hostb")
        topology.cable("peer", "eth1", "hostb", "eth0")
        topology.address("peer", "eth1", "10.2.0.1/16")
        topology.address("hostb", "eth0", f"{HOST_B}/16")
        topology.route("hostb", "default", "10.2.0.1")
        machines = {role: Machine(topology[role], directory / role) for role in ("alpha", "beta")}
        machines["alpha"].install("systemctl", SYSTEMCTL)
        machines["beta"].install("systemctl", SYSTEMCTL)
        machines["beta"].install("scp", SCP.format(alpha=machines["alpha"].root))
        try:
            yield topology, machines
        except BaseException as error:
            error.add_note("\n".join(f"--- {role}\n{machine.daemon_log()}" for role, machine in machines.items()))
            raise
        finally:
            for machine in machines.values():
                stop(machine.holder)


def follow_the_readme(machines: dict[str, Machine]) -> None:
    """Types every block of commands where it belongs; the invitation waits while the other member joins."""
    invitation: subprocess.Popen[str] | None = None
    token = ""
    for place, text in blocks():
        if place == "install":
            continue
        for role in ("alpha", "beta") if place == "both" else (place,):
            machine = machines[role]
            commands = text.replace("ipsecha1-...", token)
            if "cluster invite" in commands:
                before, _, invite = commands.rstrip().rpartition("\n")
                machine.type(before)
                argv = machine.argv(f"exec {invite}")
                invitation = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
                assert invitation.stdout is not None
                while not (found := re.search(r"ipsecha1-\S+", invitation.stdout.readline())):
                    assert invitation.poll() is None
                token = found[0]
                continue
            sys.stdout.write(f"--- {role}\n{machine.type(commands)}")
            if "--token" in commands:
                assert invitation is not None
                assert invitation.wait(10) == 0


def _load(peer: StrongSwan, configuration: Path) -> None:
    environment = {"SWANCTL_DIR": str(peer.directory), "STRONGSWAN_CONF": str(peer.directory / "strongswan.conf")}
    argv = ["swanctl", "--load-all", "--file", str(configuration), "--uri", f"unix://{peer.socket}"]
    done = run(argv, environment=environment)
    assert "failed" not in done.stdout + done.stderr


def until_protected(machine: Machine) -> None:
    for _ in range(100):
        if run(machine.argv("ipsecha status --check"), check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(machine.daemon_log())


def test_a_pair_of_gateways_in_five_minutes(tmp_path: Path) -> None:
    """The tunnel comes up, survives a switchover and the death of the active member, and both members are protected."""
    with offices(tmp_path) as (topology, machines), StrongSwan(topology["peer"], tmp_path / "peer") as peer:
        follow_the_readme(machines)
        secret = (machines["alpha"].root / "etc/ipsecha/paris.psk").read_text().strip()
        configuration = peer.directory / "swanctl.conf"
        configuration.write_text(swanctl_of_the_readme(secret))
        _load(peer, configuration)
        for machine in machines.values():
            until_protected(machine)
        sys.stdout.write(machines["alpha"].type("ipsecha status"))
        assert topology["hosta"].ping(HOST_B, count=40, timeout_s=10)
        active = next(machine for machine in machines.values() if '"active"' in machine.type("ipsecha status --json"))
        sys.stdout.write(active.type("ipsecha sas\nipsecha status"))
        sas = active.type("ipsecha sas --json")
        active.type("ipsecha switchover\nsleep 1\nipsecha status")
        assert topology["hostb"].ping(HOST_A, count=3)
        survivor = next(machine for machine in machines.values() if machine is not active)
        assert '"active"' in survivor.type("ipsecha status --json")
        spis = re.findall(r'"spi_in": "\w+"', sas)
        assert spis
        assert spis == re.findall(r'"spi_in": "\w+"', survivor.type("ipsecha sas --json"))
        survivor.type("ipsecha stop\nsleep 1")
        assert '"active"' in active.type("ipsecha status --json")
        assert topology["hosta"].ping(HOST_B, count=3)
