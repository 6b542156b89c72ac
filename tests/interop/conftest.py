"""One network for the tests of a module; in it, for each test, an ipsecha and a real strongSwan with a tunnel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop_session import Connect, Session

from ipsecha.lab import namespaces, network, stage, strongswan
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.stage import Certificates, Tunnel
from ipsecha.lab.strongswan import StrongSwan
from ipsecha.lab.vici import Section


@pytest.fixture(scope="module")
def direct() -> Iterator[Topology]:
    if namespaces.available():
        pytest.skip(str(namespaces.available()))
    with network.standing() as topology:
        yield topology


@pytest.fixture(scope="module")
def natted() -> Iterator[Topology]:
    if namespaces.available():
        pytest.skip(str(namespaces.available()))
    with network.standing(nat=True) as topology:
        yield topology


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Starts both sides: ``connect(topology, tunnel, certificates=None, peer_settings=None)`` gives a Session."""
    if strongswan.available():
        pytest.skip(str(strongswan.available()))
    with ExitStack() as running:

        def start(
            topology: Topology,
            tunnel: Tunnel,
            certificates: Certificates | None = None,
            peer_settings: Section | None = None,
        ) -> Session:
            gateway = running.enter_context(stage.single(topology, tmp_path / "gw", tunnel, certificates))
            peer = running.enter_context(StrongSwan(topology["peer"], tmp_path / "peer", peer_settings))
            stage.configure_strongswan(peer, tunnel, certificates)
            return Session(topology, gateway, peer, tmp_path)

        yield start


@pytest.fixture(scope="session")
def certificates() -> Callable[[str], Certificates]:
    """Credentials per kind of key, made once: RSA keys take their time."""
    made: dict[str, Certificates] = {}

    def of(kind: str) -> Certificates:
        if kind not in made:
            made[kind] = stage.make_certificates(kind, depth=1)
        return made[kind]

    return of
