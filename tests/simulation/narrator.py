"""Tells a run as a dialogue: who says what to whom, in the words of the RFCs.

IKE messages are opened with the keys of their senders, so that a reader sees payloads; commits, acknowledgements,
leases and what members decide stand where they happen; ESP packets are gathered.  Beats and pulses are left out: what
follows from their silence is said by the member that notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipsecha.cluster import frames
from ipsecha.model.errors import IpsecHaError
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import decode_record
from ipsecha.wire.chain import RawPayload, split_payloads
from ipsecha.wire.header import FLAG_RESPONSE, Header, parse_header
from ipsecha.wire.payloads.notify import parse_notify
from simulation.gateways import CLUSTER
from simulation.keyring import Keyring
from simulation.network import Datagram, Host
from simulation.world import World

ESP_PORTS = (-50, -51)
NAT_PORT = 4500
SHORT = {Payload.NONCE: "Ni", Payload.TSI: "TSi", Payload.TSR: "TSr", Payload.IDI: "IDi", Payload.IDR: "IDr"}
UNTOLD = ("Pulse", "HalfOpen")
MEMBERS = "abcd"
SPI_LENGTH = 8


class Narrator:
    """Lines of what has happened in ``world`` since ``begin``; seconds count from there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: list[str] = []
        self._began = 0.0
        self._telling = False
        self._run: tuple[str, str, int, int] | None = None  # ESP packets: between whom, first and last number
        self._run_at = 0.0
        self._seen: dict[bytes, str] = {}
        self._keyring = Keyring(world)
        self._note = world.record.note
        world.record.note = self._noted  # type: ignore[method-assign]
        self._tap = world.network.tap
        world.network.tap = self._sent
        self._frame = world.synch.tap
        world.synch.tap = self._received

    def begin(self) -> None:
        self._keyring.learn()
        self._telling, self._began = True, self.world.time

    def say(self, who: str, text: str) -> None:
        if self._telling:
            self._flush()
            self._line(self.world.time, who, text)

    def title(self, text: str) -> None:
        """What is done to the cluster from here on."""
        self._flush()
        self.lines += ["", f"--- {text}"]

    def end(self) -> str:
        self._flush()
        return "\n".join(self.lines)

    def _line(self, time: float, who: str, text: str) -> None:
        self.lines.append(f"{time - self._began:9.4f}  {who:8} {text}".rstrip())

    # What members and peers say of themselves

    def _noted(self, who: str, text: str | Callable[..., str], *arguments: Any) -> None:
        self._note(who, text, *arguments)
        if isinstance(text, str):
            self.say(who[:1] if who[:1] in MEMBERS else who[:2], text)

    # IKE and ESP

    def _sent(self, host: Host, datagram: Datagram, *more: Any) -> None:
        self._tap(host, datagram, *more)
        if not self._telling:
            return
        to = "cluster" if datagram.destination[0] == CLUSTER else self._name(datagram.destination[0])
        data, port = datagram.data, datagram.source[1]
        if port in ESP_PORTS or (port == NAT_PORT and data[:4] != bytes(4)):
            if len(data) > SPI_LENGTH:
                self._esp(f"{host.name} -> {to}", f"ESP {data[:4].hex()}", int.from_bytes(data[4:8], "big"))
            return
        message = data[4:] if port == NAT_PORT else data
        again = message in self._seen
        text = self._seen.setdefault(message, "") or self._ike(host, message)
        self._seen[message] = text
        self.say(host.name, f"-> {to:8} {text}{', octet for octet as before' if again else ''}")

    def _name(self, address: str) -> str:
        return next((site.name for site in self.world.sites if site.address == address), address)

    def _esp(self, between: str, spi: str, number: int) -> None:
        if self._run is not None:
            was, sa, first, last = self._run
            if (was, sa) == (between, spi) and number == last + 1:
                self._run = was, sa, first, number
                return
            self._flush()
        self._run, self._run_at = (between, spi, number, number), self.world.time

    def _flush(self) -> None:
        if self._run is not None:
            (between, spi, first, last), self._run = self._run, None
            who, _, to = between.partition(" -> ")
            numbers = f"number {first}" if first == last else f"numbers {first} to {last}"
            self._line(self._run_at, who, f"-> {to:8} {spi} {numbers}")

    def _ike(self, host: Host, message: bytes) -> str:
        header = parse_header(message)
        kind = "response" if header.flags & FLAG_RESPONSE else "request"
        return f"{_called(ExchangeType, header.exchange)} {kind} {header.message_id}: {self._payloads(header, message)}"

    def _payloads(self, header: Header, message: bytes) -> str:
        try:
            if header.exchange == ExchangeType.IKE_SA_INIT:
                found = split_payloads(header.next_payload, message[28:])
            else:
                self._keyring.learn()
                found = self._keyring.opened(header, message)
        except IpsecHaError:
            return "(sealed)"
        response = bool(header.flags & FLAG_RESPONSE)
        return " ".join(_payload(payload, response) for payload in found) or "nothing"

    # The synch channel

    def _received(self, sender: int, receiver: int, data: bytes) -> None:
        self._frame(sender, receiver, data)
        frame = frames.decode_frame(data)
        if frame is not None and type(frame).__name__ not in UNTOLD:
            self.say(MEMBERS[sender], f"=> {MEMBERS[receiver]:8} {self._told(frame)}")

    def _told(self, frame: Any) -> str:
        if isinstance(frame, frames.Commit):
            changes = ", ".join(self._change(*change) for change in frame.changes)
            return f"commit {frame.number}: {changes or 'a handshake'}"
        if isinstance(frame, frames.Leases):
            entries = frames.unpack_leases(frame.packed)
            ceilings = (f"{entry.spi_in:08x} in {entry.in_ceiling}, out {entry.out_ceiling}" for entry in entries)
            return f"leases {frame.number}: {'; '.join(ceilings) or 'nothing more'}"
        if isinstance(frame, frames.Bequest):
            return f"bequest: {', '.join(self._change(*record) for record in frame.records)}"
        if isinstance(frame, frames.Touched):
            return f"touched: IKE SA {', '.join(key[:3].hex() for key in frame.keys)}"
        if isinstance(frame, frames.Handover):
            entries = frames.unpack_leases(frame.packed)
            used = (f"{entry.spi_in:08x} in {entry.in_ceiling}, out {entry.out_ceiling}" for entry in entries)
            return f"handover, used so far: {'; '.join(used) or 'nothing'}"
        if isinstance(frame, frames.Hello):
            return f"hello: {'owner' if frame.active else 'not owner'}, epoch {frame.epoch & 0xFFF:#x}"
        if isinstance(frame, frames.Ack):
            return f"ack {frame.number}"
        text = type(frame).__name__
        return f"{text[0].lower()}{text[1:]}"

    def _change(self, key: bytes, data: bytes | None) -> str:
        if data is None:
            return f"IKE SA {key[:3].hex()} is gone"
        sa = decode_record(data)
        self._keyring.add(sa)
        waiting = f", {sa.exchange.message_id} under way" if sa.exchange is not None else ""
        children = " ".join(f"{child.spi_in:08x}" for child in sa.children)
        return (
            f"IKE SA {key[:3].hex()} (requests: next out {sa.next_request_id}{waiting}, next in "
            f"{sa.expected_request_id}; child SAs {children or 'none'})"
        )


def narrated(world: World) -> Callable[[], str]:
    """Tells the world from now on; the text so far."""
    narrator = Narrator(world)
    narrator.begin()
    return narrator.end


def _called(kind: Any, number: int) -> str:
    try:
        return str(kind(number).name)
    except ValueError:
        return str(number)


def _payload(payload: RawPayload, response: bool) -> str:
    if payload.type == Payload.NOTIFY:
        return f"N({_called(Notify, parse_notify(payload.body).type)})"
    if payload.type == Payload.DELETE:
        protocol, size, count = payload.body[0], payload.body[1], int.from_bytes(payload.body[2:4], "big")
        if protocol == 1:
            return "D(this IKE SA)"
        spis = [payload.body[4 + size * index :][:size].hex() for index in range(count)]
        return f"D({' '.join(spis)})"
    if payload.type == Payload.NONCE:
        return "Nr" if response else "Ni"
    if payload.type == Payload.KE:
        return "KEr" if response else "KEi"
    return SHORT.get(Payload(payload.type)) or _called(Payload, payload.type)
