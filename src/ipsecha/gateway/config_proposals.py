"""Proposals as the operator writes them, in strongSwan's notation: ``aes256gcm16-prfsha256-x25519``.

Several algorithms of one type in one proposal are alternatives.  What ipsecha refuses, and why, stands in a table.
"""

from __future__ import annotations

from collections.abc import Callable

from ipsecha.crypto.key_lengths import GMAC_KEY_LENGTH
from ipsecha.gateway.config_problems import nearest_name
from ipsecha.gateway.config_values import Wrong, expected
from ipsecha.model.numbers import Encr, Integ, Prf, Protocol, TransformType
from ipsecha.model.proposals import ALGORITHM_TOKENS, Proposal, Transform

_BROKEN = "RFC 8247 forbids it (MUST NOT)"
_WEAK = "too weak (RFC 8247: SHOULD NOT)"
_RETIRING = "SHA-1 is being retired (RFC 8247: MUST-)"
_ABSENT = "not implemented by ipsecha"
_KEYS = (128, 192, 256)
_MLKEM = (512, 768, 1024)


def _named(pattern: str, numbers: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in numbers)


REFUSED: dict[str, str] = {
    "des": _BROKEN,
    "3des": "64-bit blocks collide within a busy hour (Sweet32; RFC 8221: SHOULD NOT)",
    "blowfish": "64-bit blocks collide within a busy hour (Sweet32; RFC 8221: MUST NOT)",
    "cast128": "64-bit blocks collide within a busy hour (Sweet32; RFC 8221: MUST NOT)",
    "idea": "64-bit blocks collide within a busy hour (Sweet32; RFC 8221: MUST NOT)",
    "md5": _BROKEN,
    "prfmd5": _BROKEN,
    "md5_128": _BROKEN,
    "sha": _RETIRING,
    "sha1": _RETIRING,
    "sha1_160": _RETIRING,
    "prfsha1": _RETIRING,
    "modp768": _BROKEN,
    "modp1024": _WEAK,
    "modp1536": _WEAK,
    "modp1024s160": _BROKEN,
    "modp2048s224": _WEAK,
    "modp2048s256": _WEAK,
    "ecp192": "too weak (96 bits of security)",
    "ecp224": "too weak (112 bits of security on a curve that nothing else uses)",
    "sha256_96": "truncates against RFC 4868 (96 bits)",
    **dict.fromkeys(_named("aes{}gcm8", _KEYS) + _named("aes{}gcm12", _KEYS), "its ICV is shortened: use gcm16"),
    **dict.fromkeys(_named("aes{}ctr", _KEYS) + _named("camellia{}", _KEYS), _ABSENT),
    **dict.fromkeys(_named("aes{}ccm8", _KEYS) + _named("aes{}ccm12", _KEYS) + _named("aes{}ccm16", _KEYS), _ABSENT),
    **dict.fromkeys(("aesxcbc", "aescmac", "prfaesxcbc", "prfaescmac"), _ABSENT),
    **dict.fromkeys(("modp6144", "modp8192", "x448", "curve448"), _ABSENT),
    **dict.fromkeys(_named("ecp{}bp", (224, 256, 384, 512)), _ABSENT),
    **dict.fromkeys(_named("mlkem{}", _MLKEM) + _named("ke1_mlkem{}", _MLKEM), _ABSENT),
}

SPELLINGS: dict[str, str] = {
    **{f"aes{bits}gcm": f"aes{bits}gcm16" for bits in _KEYS},
    **{f"aes{bits}gcm128": f"aes{bits}gcm16" for bits in _KEYS},
    "aes": "aes128",
    "chacha20": "chacha20poly1305",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
}
"""Other ways in which strongSwan lets the same algorithms be written."""

_AEAD = (Encr.AES_GCM_16, Encr.CHACHA20_POLY1305)
_PRF_OF_INTEG = {
    Integ.HMAC_SHA2_256_128: Prf.HMAC_SHA2_256,
    Integ.HMAC_SHA2_384_192: Prf.HMAC_SHA2_384,
    Integ.HMAC_SHA2_512_256: Prf.HMAC_SHA2_512,
}
_GROUPS = "x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048"
DEFAULT_IKE = (
    f"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-{_GROUPS}",
    f"aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-{_GROUPS}",
)
DEFAULT_AH = (f"sha256-sha384-sha512-{_GROUPS}-esn-noesn", "sha256-sha384-sha512-esn-noesn")
DEFAULT_CHILD = (
    f"aes256gcm16-aes128gcm16-chacha20poly1305-{_GROUPS}-esn-noesn",
    "aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn",
    f"aes256-aes128-sha256-sha384-sha512-{_GROUPS}-esn-noesn",
    "aes256-aes128-sha256-sha384-sha512-esn-noesn",
)
"""With and without a key exchange of its own (PFS): the defaults meet peers that have it and peers that do not."""

_MAX_TOKENS = 40


def parse_ike(value: object) -> Proposal:
    """One proposal for an IKE SA (number 0: the caller counts).  Raises Wrong with the reason."""
    chosen = _transforms(value, 'algorithms such as "aes256gcm16-prfsha256-x25519"')
    if any(transform.id == Encr.NULL for transform in chosen[TransformType.ENCR]):
        raise Wrong(f'"null" is refused for IKE: {_BROKEN}')
    if chosen[TransformType.ESN]:
        raise Wrong('"esn" and "noesn" belong to the proposals of children, not to those of a connection')
    _check_encryption(chosen, value)
    if not chosen[TransformType.PRF]:
        integ = chosen[TransformType.INTEG]
        if not integ:
            raise expected('a PRF beside an AEAD, such as "prfsha256"', value)
        chosen[TransformType.PRF] = [Transform(TransformType.PRF, _PRF_OF_INTEG[Integ(each.id)]) for each in integ]
    if not chosen[TransformType.KE]:
        raise expected('a key exchange such as "x25519"', value)
    return _proposal(Protocol.IKE, chosen)


def parse_child(value: object) -> Proposal:
    """One ESP proposal for a child SA (number 0: the caller counts).  Raises Wrong with the reason."""
    chosen = _of_child(value, 'algorithms such as "aes256gcm16-x25519" or "aes256-sha256"')
    _check_encryption(chosen, value)
    return _proposal(Protocol.ESP, chosen)


def parse_ah(value: object) -> Proposal:
    """One AH proposal for a child SA (number 0: the caller counts).  Raises Wrong with the reason."""
    chosen = _of_child(value, 'integrity algorithms such as "sha256" or "aes128gmac-x25519"')
    if chosen[TransformType.ENCR]:
        raise Wrong("AH encrypts nothing: an encryption algorithm belongs to ESP (RFC 4302)")
    if not chosen[TransformType.INTEG]:
        raise expected('an integrity algorithm such as "sha256"', value)
    return _proposal(Protocol.AH, chosen)


def _of_child(value: object, wanted: str) -> dict[int, list[Transform]]:
    chosen = _transforms(value, wanted)
    if chosen[TransformType.PRF]:
        raise Wrong("a PRF belongs to the proposals of a connection, not to those of a child")
    if not chosen[TransformType.ESN]:
        chosen[TransformType.ESN] = [Transform(TransformType.ESN, 1), Transform(TransformType.ESN, 0)]
    return chosen


def numbered(proposals: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    """The proposals with their numbers, from 1 (RFC 7296 section 3.3.1)."""
    return tuple(
        Proposal(number, proposal.protocol, proposal.spi, proposal.transforms)
        for number, proposal in enumerate(proposals, start=1)
    )


def defaults(texts: tuple[str, ...], parse: Callable[[object], Proposal]) -> tuple[Proposal, ...]:
    return numbered(tuple(parse(text) for text in texts))


def without_encryption(proposal: Proposal) -> bool:
    """Whether the proposal allows ENCR_NULL: authentic, but readable by everybody on the way."""
    return any(transform.id == Encr.NULL for transform in proposal.of_type(TransformType.ENCR))


def _transforms(value: object, wanted: str) -> dict[int, list[Transform]]:
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise expected(wanted, value)
    tokens = value.strip().lower().split("-")
    if len(tokens) > _MAX_TOKENS:
        raise Wrong(f"expected at most {_MAX_TOKENS} algorithms in a proposal, found {len(tokens)}")
    chosen: dict[int, list[Transform]] = {kind: [] for kind in TransformType}
    for token in tokens:
        transform = _transform(token, wanted)
        if transform not in chosen[transform.type]:
            chosen[transform.type].append(transform)
    return chosen


def _transform(token: str, wanted: str) -> Transform:
    transform = ALGORITHM_TOKENS.get(SPELLINGS.get(token, token))
    if transform is not None:
        return transform
    if token in REFUSED:
        raise Wrong(f'"{token}" is refused: {REFUSED[token]}')
    if not token:
        raise Wrong(f"expected {wanted}, found nothing between two hyphens")
    raise Wrong(f'unknown algorithm "{_printable(token)}"', nearest_name(token, ALGORITHM_TOKENS))


def _printable(token: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in token[:40])


def _check_encryption(chosen: dict[int, list[Transform]], value: object) -> None:
    encryption = chosen[TransformType.ENCR]
    if any(transform.id in GMAC_KEY_LENGTH for transform in chosen[TransformType.INTEG]):
        raise Wrong("AES-GMAC as an integrity algorithm is for AH only (RFC 4543 section 5.3)")
    if not encryption:
        raise expected('an encryption algorithm such as "aes256gcm16"', value)
    aead = [transform.id in _AEAD for transform in encryption]
    if any(aead) and not all(aead):
        raise Wrong(
            "AEAD and other encryption algorithms cannot share a proposal: write two proposals (RFC 7296 section 3.3)"
        )
    if all(aead) and chosen[TransformType.INTEG]:
        raise Wrong("an AEAD needs no integrity algorithm: leave it out (RFC 7296 section 3.3)")
    if not any(aead) and not chosen[TransformType.INTEG]:
        raise expected('an integrity algorithm such as "sha256" beside the encryption', value)


def _proposal(protocol: int, chosen: dict[int, list[Transform]]) -> Proposal:
    return Proposal(0, protocol, b"", tuple(transform for kind in TransformType for transform in chosen[kind]))
