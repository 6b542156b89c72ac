"""Numbers as people read them."""

from __future__ import annotations

_STEPS = ("", "k", "M", "G", "T", "P", "E")


def scaled(number: float, unit: str = "") -> str:
    """``1234567`` as ``1.23 M``; three digits that count."""
    step = 0
    while abs(number) >= 999.5 and step < len(_STEPS) - 1:
        number /= 1000
        step += 1
    digits = f"{number:.0f}" if step == 0 or abs(number) >= 99.95 else f"{number:.1f}" if abs(number) >= 9.995 else ""
    return f"{digits or f'{number:.2f}'} {_STEPS[step]}{unit}".rstrip()


def octets(number: int) -> str:
    return scaled(number, "B")


def lasting(seconds: float) -> str:
    """A duration with its two largest units: ``3d 4h``, ``12m 5s``, ``340ms``."""
    if seconds < 0:
        return f"-{lasting(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms" if seconds >= 0.001 or not seconds else "under 1ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, lesser_size, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // lesser_size
            return f"{whole // size}{unit} {rest}{lesser}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def due(seconds: float | None) -> str:
    """When something will happen: ``in 12m``, ``now``, ``never``."""
    if seconds is None:
        return "never"
    return f"in {lasting(seconds)}" if seconds > 0 else "now"


def counted(number: int, noun: str) -> str:
    """``1 packet``, ``1,234 packets``."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def grouped(number: int) -> str:
    """``12345678`` as ``12,345,678``: sequence numbers are compared digit by digit."""
    return f"{number:,}"
