"""Looks for secrets where there must be none, in all the forms that a careless line would give them (invariant I6)."""

from __future__ import annotations

import base64
from collections.abc import Iterable

PART = 8
"""So many octets of a key in a row are a leak; 64 bits do not turn up by chance."""


class Needles:
    """Secrets, to be looked for in texts."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._forms)

    def add(self, name: str, secret: bytes) -> None:
        """Every stretch of the secret that begins at a multiple of PART; shorter ones are not secrets."""
        for part in parts(secret):
            for form in forms(part):
                self._forms[form] = name
        if len(secret) >= PART:
            self._forms[base64.b64encode(secret)[: PART + 2].decode()] = name

    def found(self, texts: Iterable[str]) -> set[str]:
        """The names of the secrets that stand in one of the texts."""
        whole = "\n".join(texts)
        return {name for form, name in self._forms.items() if form in whole}


def parts(secret: bytes) -> list[bytes]:
    """Every stretch that begins at a multiple of PART."""
    return [secret[start : start + PART] for start in range(0, len(secret) - PART + 1, PART)]


def forms(part: bytes) -> list[str]:
    """As text, as Python shows octets, as numbers, as hexadecimal digits of several styles."""
    digits = part.hex()
    return [
        repr(part)[2:-1],
        repr(bytearray(part))[12:-2],
        ", ".join(map(str, part)),
        ",".join(map(str, part)),
        digits,
        digits.upper(),
        part.hex(" "),
        part.hex(":"),
        str(int.from_bytes(part, "big")),
    ]
