"""What cannot work is refused in the words of the RFC towards the peer, and in one clear line towards the operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest
from interop_session import Connect, Session

from ipsecha.lab import network, stage
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.pki import Authority
from ipsecha.lab.processes import LabError
from ipsecha.lab.stage import CHILD, CONNECTION, GATEWAY_ID, PEER_ID, Certificates, Tunnel
from ipsecha.lab.vici import Section

pytestmark = [pytest.mark.root, pytest.mark.peer]

SETTLE_S = 0.7
"""For a second line of log, which must not come."""

OTHER_SECRET = "not the secret that was agreed on"


class Case(NamedTuple):
    """``spoil`` makes strongSwan's side wrong; ``by_peer`` is what it must be told when it initiates, ``told`` and
    ``asked`` what our operator must read when strongSwan and when we initiate (all words of one of the tuples)."""

    tunnel: Tunnel
    spoil: Callable[[Session], None]
    by_peer: str
    told: tuple[str, ...]
    asked: tuple[str, ...]
    keeps_ike: bool = False


def peer_section(session: Session, *path: str) -> Section:
    section = cast("Section", session.peer.connections[CONNECTION])
    for name in path:
        section = cast("Section", section[name])
    return section


def leave(session: Session) -> None:
    """Nothing to spoil: the tunnel's two sides are configured differently."""


def other_secret(session: Session) -> None:
    session.peer.secrets.clear()
    session.peer.add_secret(OTHER_SECRET, GATEWAY_ID, PEER_ID)


def other_peer(session: Session) -> None:
    peer_section(session, "local")["id"] = "other.example"
    session.peer.add_secret(stage.PSK_TEXT, GATEWAY_ID, "other.example")


def other_gateway(session: Session) -> None:
    peer_section(session, "remote")["id"] = "gw2.example"
    session.peer.add_secret(stage.PSK_TEXT, "gw2.example", PEER_ID)


def other_method(session: Session) -> None:
    """The peer proves itself with a certificate, where a shared secret is configured."""
    authority = Authority("another")
    session.peer.add_authority("another", authority.certificate)
    session.peer.add_credential("another", authority.issue(PEER_ID))
    peer_section(session, "local").update({"auth": "pubkey", "certs": "another.pem"})


CASES = {
    "secret": Case(
        Tunnel(),
        other_secret,
        "AUTHENTICATION_FAILED",
        ("peer.example", "secret"),
        ("refuses us", "AUTHENTICATION_FAILED"),
    ),
    "method": Case(
        Tunnel(), other_method, "AUTHENTICATION_FAILED", ("peer.example", "signature"), ("authentication", "signature")
    ),
    "peer identity": Case(
        Tunnel(),
        other_peer,
        "AUTHENTICATION_FAILED",
        ("other.example", "identity"),
        ("AUTHENTICATION_FAILED", "identity"),
    ),
    "gateway identity": Case(
        Tunnel(), other_gateway, "AUTHENTICATION_FAILED", ("gw2.example",), ("AUTHENTICATION_FAILED", "identity")
    ),
    "IKE proposals": Case(
        Tunnel(
            gateway_options={"proposals": ["aes256gcm16-prfsha256-x25519"]},
            peer_options={"proposals": "aes128-sha256-ecp256"},
        ),
        leave,
        "NO_PROPOSAL_CHOSEN",
        ("algorithms", network.PEER_OUTER),
        ("NO_PROPOSAL_CHOSEN", network.PEER_OUTER),
    ),
    "ESP proposals": Case(
        Tunnel(
            gateway_child_options={"proposals": ["aes256gcm16"]}, peer_child_options={"esp_proposals": "aes128-sha256"}
        ),
        leave,
        "NO_PROPOSAL_CHOSEN",
        ("peer.example", "algorithms", CHILD),
        ("NO_PROPOSAL_CHOSEN", CHILD),
        keeps_ike=True,
    ),
    "selectors": Case(
        Tunnel(peer_child_options={"local_ts": "10.77.0.0/24", "remote_ts": "10.78.0.0/24"}),
        leave,
        "TS_UNACCEPTABLE",
        ("peer.example", "10.77.0.0", "10.78.0.0"),
        ("TS_UNACCEPTABLE", CHILD),
        keeps_ike=True,
    ),
}


def certificate_case(told: tuple[str, ...]) -> Case:
    asked = ("authentication", network.PEER_OUTER, *told)
    return Case(Tunnel(auth="ecdsa"), leave, "AUTHENTICATION_FAILED", told, asked)


CERTIFICATES = {
    "unknown CA": certificate_case(("peer.example", "CA")),
    "expired": certificate_case(("peer.example", "expired")),
    "not theirs": certificate_case(("peer.example", "identity")),
}


def spoiled_certificates(name: str) -> Certificates:
    """The gateway's side is good; strongSwan's own certificate is the one that is wrong."""
    root = Authority("lab root")
    if name == "unknown CA":
        peer = Authority("lab root").issue(PEER_ID)
    elif name == "expired":
        peer = root.issue(PEER_ID, lifetime_days=-1)
    else:
        peer = root.issue("other.example")
    return Certificates(root.certificate, root.issue(GATEWAY_ID), peer)


def complaints(session: Session) -> list[str]:
    """What the operator is warned of."""
    lines = session.gateway.log.read_text().splitlines()
    return [line for line in lines if line.startswith(("WARNING", "ERROR", "CRITICAL"))]


def the_only_complaint(session: Session, *words: str) -> None:
    """One line, which names the connection or the peer and says what is wrong; no secret anywhere in the log."""
    session.gateway.wait_for("line of log", lambda _: complaints(session))
    time.sleep(SETTLE_S)
    lines = complaints(session)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], lines[0]
    assert CONNECTION in lines[0] or PEER_ID in lines[0] or network.PEER_OUTER in lines[0]
    log = session.gateway.log.read_text()
    assert "Traceback" not in log
    for secret in (stage.PSK_TEXT[2:], bytes.fromhex(stage.PSK_TEXT[2:]).decode(), OTHER_SECRET, "PRIVATE KEY"):
        assert secret not in log


def outcome(session: Session, case: Case) -> None:
    """Failures of the child SA leave the IKE SA up on both sides; others leave nothing (RFC 7296 section 2.21)."""
    expected = 1 if case.keeps_ike else 0
    session.gateway.wait_for(
        f"{expected} IKE SAs on both sides",
        lambda gateway: len(gateway.sas()) == len(session.peer.sas()) == expected,
    )
    assert session.gateway.children() == []
    assert session.peer.children() == []
    assert session.gateway.running


def prepared(topology: Topology, connect: Connect, case: Case, certificates: Certificates | None = None) -> Session:
    session = connect(topology, case.tunnel, certificates)
    case.spoil(session)
    session.peer.load()
    return cast("Session", session)


def refused_as_responder(session: Session, case: Case) -> None:
    with pytest.raises(LabError, match=f"received {case.by_peer} notify"):
        session.peer.initiate(CHILD)
    the_only_complaint(session, *case.told)
    outcome(session, case)


def refused_as_initiator(session: Session, case: Case) -> None:
    session.gateway.initiate(CONNECTION, CHILD)
    the_only_complaint(session, *case.asked)
    outcome(session, case)


ROLES: dict[str, Callable[[Session, Case], None]] = {
    "strongswan": refused_as_responder,
    "ipsecha": refused_as_initiator,
}


@pytest.mark.parametrize("initiator", list(ROLES))
@pytest.mark.parametrize("name", list(CASES))
def test_what_does_not_fit_is_refused(direct: Topology, connect: Connect, name: str, initiator: str) -> None:
    """RFC 7296 sections 1.2, 2.9, 2.15, 2.21.2 and 3.3.6."""
    case = CASES[name]
    ROLES[initiator](prepared(direct, connect, case), case)


@pytest.mark.parametrize("initiator", list(ROLES))
@pytest.mark.parametrize("name", list(CERTIFICATES))
def test_certificates_that_do_not_hold_are_refused(
    direct: Topology, connect: Connect, name: str, initiator: str
) -> None:
    """RFC 7296 section 2.15, RFC 4945: where we have initiated, strongSwan learns by an INFORMATIONAL exchange that its
    IKE SA does not stand (section 2.21.2)."""
    case = CERTIFICATES[name]
    ROLES[initiator](prepared(direct, connect, case, spoiled_certificates(name)), case)


def test_a_refused_child_can_be_had_once_it_fits(direct: Topology, connect: Connect) -> None:
    """The IKE SA that stayed up carries the child SA as soon as the peer asks for the right one."""
    case = CASES["selectors"]
    session = prepared(direct, connect, case)
    refused_as_responder(session, case)
    before = session.gateway.sas()[0].spi_i
    wrong: dict[str, Any] = cast("dict[str, Any]", peer_section(session, "children", CHILD))
    wrong |= {"local_ts": [network.NET_B], "remote_ts": [network.NET_A]}
    session.peer.load()
    session.bring_up("strongswan")
    session.traffic()
    assert [sa.spi_i for sa in session.gateway.sas()] == [before]
