"""The values of the configuration: durations, sizes, addresses, selectors.

Each function raises ``Wrong`` with what it expects and what it found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ipsecha.gateway.config_problems import nearest_name, shown
from ipsecha.model.errors import PolicyError
from ipsecha.model.records import Address
from ipsecha.model.selectors import FULL_PORT_RANGE, TrafficSelector, selector_from_prefix

E = TypeVar("E", bound=Enum)
T = TypeVar("T")

NEVER_S = 100 * 365 * 86400.0
"""A lifetime without an end: a century, so that nobody needs a special case."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kKMGTP]i?)?B?", re.ASCII)
_SIZE_STEPS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_COUNT = re.compile(r"(\d{1,19})([kMG]?)", re.ASCII)
_COUNT_UNIT = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62})")
_MEMBER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_SELECTOR = re.compile(r"([^\[\]]+?)(?:\[([^\[\]]*)\])?")
_PROTOCOLS = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "ospf": 89, "sctp": 132}
_ICMP = (1, 58)


class Wrong(ValueError):  # noqa: N818 - it is the value that is wrong
    """A value is not what was expected."""

    def __init__(self, text: str, nearest: str = "") -> None:
        self.text = text
        self.nearest = nearest
        super().__init__(text)


def expected(what: str, value: object, nearest: str = "") -> Wrong:
    return Wrong(f"expected {what}, found {shown(value)}", nearest)


def text(value: object) -> str:
    """A text that is not empty and has no control characters."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise expected("a text", value)
    return value.strip()


def name(value: object) -> str:
    """A name of the operator's: letters, digits, ``_ . -``; at most 63."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise expected("a name of letters, digits, '_', '.' and '-' (at most 63)", value)
    return value


def member_name(value: object) -> str:
    """A member's name: it stands in certificates, so it follows the rules of a DNS label."""
    if not isinstance(value, str) or not _MEMBER_NAME.fullmatch(value):
        raise expected("a member's name of small letters, digits and '-' (at most 63)", value)
    return value


def interface(value: object) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value) or not value.isprintable() or value in (".", ".."):
        raise expected("the name of an interface (at most 15 characters)", value)
    if len(value.encode()) > 15:
        raise expected("the name of an interface (at most 15 octets)", value)
    return value


def path_below(base: Path) -> Callable[[object], Path]:
    """A path; a relative one is counted from the directory of the file that names it."""

    def convert(value: object) -> Path:
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 4000:
            raise expected("a path", value)
        return base / Path(value)

    return convert


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def integer(low: int, high: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise expected(f"a whole number from {low} to {high}", value)
        return value

    return convert


def number(low: float, high: float) -> Callable[[object], float]:
    def convert(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise expected(f"a number from {low:g} to {high:g}", value)
        return float(value)

    return convert


def choice(kind: type[E]) -> Callable[[object], E]:
    """One of the values of ``kind``, by its text."""
    names = [str(member.value) for member in kind]

    def convert(value: object) -> E:
        if isinstance(value, str) and value in names:
            return kind(value)
        *first, last = (f'"{each}"' for each in names)
        listed = f"{', '.join(first)} or {last}" if first else last
        raise expected(listed, value, nearest_name(value, names) if isinstance(value, str) else "")

    return convert


def duration(low: float, high: float, *, word: str = "", word_s: float = 0.0) -> Callable[[object], float]:
    """Seconds from ``"4h"``, ``"1h30m"``, ``"100ms"``; ``word`` (``"never"``, ``"off"``) stands for ``word_s``."""
    also = f' or "{word}"' if word else ""
    wanted = f'a duration from {duration_text(low)} to {duration_text(high)} such as "30s", "1h30m"{also}'

    def convert(value: object) -> float:
        if word and value == word:
            return word_s
        seconds = _seconds(value) if isinstance(value, str) else None
        if seconds is None or not low <= seconds <= high:
            raise expected(wanted, value)
        return seconds

    return convert


def _seconds(value: str) -> float | None:
    if len(value) > 40:
        return None
    parts = _DURATION.findall(value)
    if not parts or "".join(amount + unit for amount, unit in parts) != value.replace(" ", ""):
        return None
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in parts)


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration: ``90m``, ``4h``, ``100ms``."""
    if seconds < 1:
        return f"{seconds * 1000:.10g}ms"
    for unit in ("w", "d", "h", "m"):
        if seconds >= _UNIT_S[unit] and seconds % _UNIT_S[unit] == 0:
            return f"{seconds / _UNIT_S[unit]:.10g}{unit}"
    return f"{seconds:.10g}s"


def size(value: object) -> int:
    """Octets from ``"10GB"`` (10^10), ``"10GiB"`` or a whole number; ``"never"`` is 0."""
    if value == "never":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 10**6 <= value <= 10**18:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
    if match is not None:
        unit = match.group(2) or ""
        base = 1024 if unit.endswith("i") else 1000
        octets = int(float(match.group(1)) * base ** _SIZE_STEPS.get(unit[:1], 0))
        if 10**6 <= octets <= 10**18:
            return octets
    raise expected('an amount from 1MB to 1000PB such as "10GB" or "4GiB", or "never"', value)


def packets(value: object) -> int:
    """Packets from a whole number or ``"500M"``; ``"never"`` is 0."""
    if value == "never":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1000 <= value <= 2**63:
        return value
    match = _COUNT.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        count = int(match.group(1)) * _COUNT_UNIT[match.group(2)]
        if 1000 <= count <= 2**63:
            return count
    raise expected('a number of packets from 1000 such as 1000000 or "500M", or "never"', value)


def address(value: object) -> str:
    """One IPv4 or IPv6 address in its usual form."""
    try:
        parsed = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or "%" in str(parsed):
        raise expected('an IP address such as "192.0.2.1"', value)
    return str(parsed)


def unicast_address(value: object) -> str:
    """An address that a host can have as its own."""
    result = address(value)
    parsed = ipaddress.ip_address(result)
    if parsed.is_multicast or parsed.is_unspecified or result == "255.255.255.255":
        raise expected("an address that a host can have", value)
    return result


def network(value: object) -> str:
    """An address or a prefix, without bits beyond the prefix length."""
    if isinstance(value, str) and "%" not in value:
        try:
            parsed = ipaddress.ip_network(value)
        except ValueError as error:
            hint = "" if "host bits" not in str(error) else str(ipaddress.ip_network(value, strict=False))
            raise expected('an address or a prefix such as "203.0.113.0/24"', value, hint) from None
        return str(parsed.network_address) if parsed.prefixlen == parsed.max_prefixlen else str(parsed)
    raise expected('an address or a prefix such as "203.0.113.0/24"', value)


def address_with_prefix(value: object) -> tuple[str, int]:
    """``"192.0.2.10/24"``: an address as it is put on an interface."""
    wanted = 'an address with the length of its prefix such as "192.0.2.10/24"'
    if not isinstance(value, str) or "/" not in value or "%" in value:
        raise expected(wanted, value)
    try:
        parsed = ipaddress.ip_interface(value)
    except ValueError:
        raise expected(wanted, value) from None
    return unicast_address(str(parsed.ip)), parsed.network.prefixlen


def endpoint(value: object) -> Address:
    """``"10.0.0.1:4600"`` or ``"[fd00::1]:4600"``."""
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        port_number = int(port) if port.isdecimal() and port.isascii() and len(port) <= 5 else 0
        try:
            parsed = address(host[1:-1] if bracketed else host)
        except Wrong:
            parsed = ""
        if parsed and bracketed == (":" in parsed) and 1 <= port_number <= 65535:
            return parsed, port_number
    raise expected('an address with a port such as "10.0.0.1:4600" or "[fd00::1]:4600"', value)


def selector(value: object) -> TrafficSelector:
    """``"10.1.0.0/16"``, ``"10.0.0.1-10.0.0.9"``, ``"10.1.0.0/24[tcp/80]"``, ``"10.1.0.0/24[udp/5000-5010]"``."""
    wanted = 'a prefix, an address or a range such as "10.1.0.0/16" or "10.1.0.0/24[tcp/80]"'
    match = _SELECTOR.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 200 else None
    if match is None or "%" in match.group(1):
        raise expected(wanted, value)
    protocol, ports = _protocol_and_ports(match.group(2), value)
    try:
        return selector_from_prefix(match.group(1), protocol, ports)
    except PolicyError:
        raise expected(wanted, value, _without_host_bits(match.group(1))) from None


def _without_host_bits(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value.strip(), strict=False))
    except ValueError:
        return ""


def _protocol_and_ports(suffix: str | None, value: object) -> tuple[int, tuple[int, int]]:
    if suffix is None:
        return 0, FULL_PORT_RANGE
    protocol_text, slash, ports_text = suffix.partition("/")
    protocol = _PROTOCOLS.get(protocol_text, -1)
    if protocol_text.isdecimal() and len(protocol_text) <= 3:
        protocol = int(protocol_text)
    if not 0 <= protocol <= 255:
        names = ", ".join(_PROTOCOLS)
        found = nearest_name(protocol_text, _PROTOCOLS)
        raise expected(f"a protocol ({names} or a number up to 255) in the brackets", value, found)
    if not slash:
        return protocol, FULL_PORT_RANGE
    low_text, dash, high_text = ports_text.partition("-")
    low, high = _port(low_text), _port(high_text if dash else low_text)
    if low is None or high is None or low > high:
        raise expected('a port or a range of ports such as "80" or "5000-5010" behind the protocol', value)
    if protocol in _ICMP and not dash and low <= 255:
        return protocol, (low << 8, (low << 8) | 255)  # the type; all its codes (RFC 4301 section 4.4.1.1)
    return protocol, (low, high)


def _port(value: str) -> int | None:
    if not value.isdecimal() or not value.isascii() or len(value) > 5:
        return None
    return int(value) if int(value) <= 65535 else None


def optional(convert: Callable[[object], T], word: str) -> Callable[[object], T | None]:
    """What ``convert`` makes of the value; None for ``word``."""

    def either(value: object) -> T | None:
        return None if value == word else convert(value)

    return either
