"""Handshakes by the thousand within one process: a crowd of initiators, and the responder whose cost is measured.

Only the responder is on the clock.  The initiators are IKE endpoints too; a batch of them sends its messages, the
responder answers all of them, and so on, so that reading the clock costs nothing.
"""

from __future__ import annotations

import ipaddress
import os
import struct
import time
from collections.abc import Callable

from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Effect, Transmit
from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import Protocol
from ipsecha.model.policy import Authentication, ChildPolicy, Connection, IkeLimits, Policy
from ipsecha.model.proposals import ALGORITHM_TOKENS, Proposal
from ipsecha.model.records import Address
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix

NAME = "site"
INNER_HOST = "10.1.0.100"
GATEWAY_IP, GATEWAY_ID = "192.0.2.10", "gw.example"
PSK = bytes(range(32))
NOW = 1_000_000.0
BATCH = 64

Sent = list[tuple[bytes, Address, Address]]
"""Datagram, source, destination."""


def proposal(text: str, protocol: int = Protocol.IKE) -> Proposal:
    """A proposal from tokens as in the configuration."""
    return Proposal(1, protocol, b"", tuple(ALGORITHM_TOKENS[token] for token in text.split("-")))


IKE_PROPOSAL = proposal("aes256gcm16-prfsha256-x25519")
ESP_PROPOSAL = proposal("aes256gcm16-noesn", Protocol.ESP)


def _child(local: str, remote: str) -> ChildPolicy:
    return ChildPolicy(
        name="net",
        local_ts=(selector_from_prefix(local),),
        remote_ts=(selector_from_prefix(remote),),
        proposals=(ESP_PROPOSAL,),
    )


def _connection(name: str, local: str, remote: tuple[str, ...], ids: tuple[str, str], child: ChildPolicy) -> Connection:
    return Connection(
        name=name,
        local=(local,),
        remote=remote,
        local_id=parse_identity(ids[0]),
        remote_id=parse_identity(ids[1]) if ids[1] else None,
        local_auth=Authentication.PSK,
        remote_auth=Authentication.PSK,
        proposals=(IKE_PROPOSAL,),
        children=(child,),
        dpd_s=0.0,  # nobody answers in a process that measures something else for a minute
    )


def responder_policy() -> Policy:
    """A gateway for anybody who knows the secret, each with an inner address of its own."""
    child = _child("10.1.0.0/16", "10.64.0.0/10")
    limits = IkeLimits(cookie_threshold=4 * BATCH)
    return Policy((_connection(NAME, GATEWAY_IP, (), (GATEWAY_ID, ""), child),), limits=limits)


def new_responder(incarnation: int = 1) -> IkeEndpoint:
    """An endpoint with ``responder_policy``, active."""
    endpoint = IkeEndpoint(responder_policy(), responder_credentials(), os.urandom, wall_clock=time.time)
    endpoint.activate(incarnation, NOW)
    endpoint.handle_timer(NOW)
    return endpoint


def responder_credentials() -> Credentials:
    return Credentials({NAME: ConnectionSecrets(psk=PSK)})


def address(number: int, net: int) -> str:
    """An address of client ``number``, inner ones in net 10, outer ones in net 100."""
    return f"{net}.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def identity(number: int) -> Identity:
    return parse_identity(f"client-{number}.example")


def inner_selector(number: int) -> TrafficSelector:
    """What a client reaches the gateway's network from."""
    return selector_from_prefix(f"{address(number, 10)}/32")


def inner_packet(number: int) -> bytes:
    """An IPv4 packet (UDP, without data) from behind the gateway to client ``number``."""
    ends = ipaddress.IPv4Address(INNER_HOST).packed + ipaddress.IPv4Address(address(number, 10)).packed
    header = struct.pack(">BBHHHBBH8s", 0x45, 0, 28, 0, 0, 64, 17, 0, ends)
    words = struct.unpack(">10H", header)
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return b"".join((header[:10], checksum.to_bytes(2, "big"), header[12:], struct.pack(">HHHH", 7, 7, 8, 0)))


def caller(number: int) -> str:
    """The connection by which client ``number`` reaches the gateway."""
    return f"c{number}"


def crowd(first: int, count: int) -> IkeEndpoint:
    """One endpoint that plays ``count`` clients, each with its own address, identity and inner address; none of them
    calls yet."""
    connections, secrets = [], {}
    for number in range(first, first + count):
        name, ids = caller(number), (f"client-{number}.example", GATEWAY_ID)
        child = _child(f"{address(number, 10)}/32", "10.1.0.0/16")
        connections.append(_connection(name, address(number, 100), (GATEWAY_IP,), ids, child))
        secrets[name] = ConnectionSecrets(psk=PSK)
    endpoint = IkeEndpoint(Policy(tuple(connections)), Credentials(secrets), os.urandom, wall_clock=time.time)
    endpoint.activate(2, NOW)
    endpoint.handle_timer(NOW)
    return endpoint


def datagrams(effects: list[Effect]) -> Sent:
    """What is to be sent."""
    return [
        (octets, effect.local, effect.remote)
        for effect in effects
        if isinstance(effect, Transmit)
        for octets in effect.datagrams
    ]


class Cost:
    """Seconds of CPU by exchange."""

    def __init__(self) -> None:
        self.init_s = 0.0
        self.auth_s = 0.0
        self.handshakes = 0


def handshakes(responder: IkeEndpoint, count: int, take: Callable[[list[Effect]], None], *, first: int = 0) -> Cost:
    """``count`` clients with numbers from ``first`` on; ``take`` gets the responder's effects, within the clock."""
    cost = Cost()
    for start in range(first, first + count, BATCH):
        batch = range(start, start + min(BATCH, first + count - start))
        callers = crowd(batch.start, len(batch))
        for number in batch:
            callers.initiate(caller(number), None, NOW)
        answers, seconds = _timed(responder, datagrams(callers.take_effects()), take)
        cost.init_s += seconds
        _deliver(callers, answers)
        answers, seconds = _timed(responder, datagrams(callers.take_effects()), take)
        cost.auth_s += seconds
        _deliver(callers, answers)
        cost.handshakes += len(callers.sas)
    if cost.handshakes != count:
        raise RuntimeError(f"{count - cost.handshakes} of {count} handshakes came to nothing")
    return cost


def _timed(responder: IkeEndpoint, sent: Sent, take: Callable[[list[Effect]], None]) -> tuple[Sent, float]:
    effects: list[Effect] = []
    began = time.process_time()
    for data, source, destination in sent:
        responder.receive(data, destination, source, NOW)
        step = responder.take_effects()
        take(step)
        effects += step
    return datagrams(effects), time.process_time() - began


def _deliver(callers: IkeEndpoint, sent: Sent) -> None:
    for data, source, destination in sent:
        callers.receive(data, destination, source, NOW)
