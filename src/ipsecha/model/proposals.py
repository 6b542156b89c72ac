"""Proposals as offered (RFC 7296 section 3.3) and suites as chosen."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ipsecha.model.numbers import Encr, Group, Integ, Prf, Protocol, TransformType


class Transform(NamedTuple):
    """One algorithm on offer; ``key_bits`` 0 stands for "no Key Length attribute"."""

    type: int
    id: int
    key_bits: int = 0


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One proposal: all transforms of one type are alternatives, the types go together."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    def of_type(self, kind: int) -> tuple[Transform, ...]:
        return tuple(transform for transform in self.transforms if transform.type == kind)


class IkeSuite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The algorithms of an IKE SA: code points of RFC 7296 section 3.3.2; ``integ`` is 0 with an AEAD."""

    encr: int
    key_bits: int
    integ: int
    prf: int
    group: int

    def transforms(self) -> tuple[Transform, ...]:
        """The suite as the transforms of a chosen proposal."""
        integ = (Transform(TransformType.INTEG, self.integ),) if self.integ else ()
        return (
            Transform(TransformType.ENCR, self.encr, self.key_bits),
            *integ,
            Transform(TransformType.PRF, self.prf),
            Transform(TransformType.KE, self.group),
        )

    def __str__(self) -> str:
        integ = f"-{_INTEG_NAMES.get(self.integ, str(self.integ))}" if self.integ else ""
        prf = f"-prf{_PRF_NAMES.get(self.prf, str(self.prf))}"
        return f"{encr_name(self.encr, self.key_bits)}{integ}{prf}-{group_name(self.group)}"


class ChildSuite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The algorithms of a child SA; ``group`` is the key exchange of the exchange that made it (0: no PFS)."""

    protocol: int
    encr: int
    key_bits: int
    integ: int
    group: int
    esn: bool

    def transforms(self) -> tuple[Transform, ...]:
        """The suite as the transforms of a chosen proposal."""
        encr = (Transform(TransformType.ENCR, self.encr, self.key_bits),) if self.protocol == Protocol.ESP else ()
        integ = (Transform(TransformType.INTEG, self.integ),) if self.integ else ()
        group = (Transform(TransformType.KE, self.group),) if self.group else ()
        return (*encr, *integ, *group, Transform(TransformType.ESN, int(self.esn)))

    def __str__(self) -> str:
        encr = "ah" if self.protocol == Protocol.AH else encr_name(self.encr, self.key_bits)
        integ = f"-{_INTEG_NAMES.get(self.integ, str(self.integ))}" if self.integ else ""
        group = f"-{group_name(self.group)}" if self.group else ""
        return f"{encr}{integ}{group}{'-esn' if self.esn else ''}"


_ENCR_NAMES: dict[tuple[int, int], str] = {
    (Encr.AES_GCM_16, 128): "aes128gcm16",
    (Encr.AES_GCM_16, 192): "aes192gcm16",
    (Encr.AES_GCM_16, 256): "aes256gcm16",
    (Encr.AES_CBC, 128): "aes128",
    (Encr.AES_CBC, 192): "aes192",
    (Encr.AES_CBC, 256): "aes256",
    (Encr.CHACHA20_POLY1305, 0): "chacha20poly1305",
    (Encr.NULL, 0): "null",
}
_INTEG_NAMES: dict[int, str] = {
    Integ.HMAC_SHA2_256_128: "sha256",
    Integ.HMAC_SHA2_384_192: "sha384",
    Integ.HMAC_SHA2_512_256: "sha512",
    Integ.AES_128_GMAC: "aes128gmac",
    Integ.AES_192_GMAC: "aes192gmac",
    Integ.AES_256_GMAC: "aes256gmac",
}
_PRF_NAMES: dict[int, str] = {Prf.HMAC_SHA2_256: "sha256", Prf.HMAC_SHA2_384: "sha384", Prf.HMAC_SHA2_512: "sha512"}
_GROUP_NAMES: dict[int, str] = {
    Group.MODP_2048: "modp2048",
    Group.MODP_3072: "modp3072",
    Group.MODP_4096: "modp4096",
    Group.ECP_256: "ecp256",
    Group.ECP_384: "ecp384",
    Group.ECP_521: "ecp521",
    Group.CURVE25519: "x25519",
}


def encr_name(encr: int, key_bits: int) -> str:
    """The algorithm as configured, e.g. ``aes256gcm16``."""
    return _ENCR_NAMES.get((encr, key_bits), f"encr{encr}-{key_bits}")


def group_name(group: int) -> str:
    """The key exchange as configured, e.g. ``x25519``."""
    return _GROUP_NAMES.get(group, f"group{group}")


ALGORITHM_TOKENS: dict[str, Transform] = {
    **{name: Transform(TransformType.ENCR, encr, bits) for (encr, bits), name in _ENCR_NAMES.items()},
    **{name: Transform(TransformType.INTEG, number) for number, name in _INTEG_NAMES.items()},
    **{f"prf{name}": Transform(TransformType.PRF, number) for number, name in _PRF_NAMES.items()},
    **{name: Transform(TransformType.KE, number) for number, name in _GROUP_NAMES.items()},
    "curve25519": Transform(TransformType.KE, Group.CURVE25519),
    "esn": Transform(TransformType.ESN, 1),
    "noesn": Transform(TransformType.ESN, 0),
}
"""What a proposal string may contain, e.g. ``aes256gcm16-prfsha256-x25519`` (the notation of strongSwan)."""
