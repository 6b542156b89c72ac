"""Key exchange methods (RFC 7296 section 3.4): X25519 (RFC 8031), ECP groups (RFC 5903), MODP groups (RFC 3526).

Private values come from the injected entropy and can be restored from a record, so that the next owner of an IKE SA
can finish an exchange that another member began.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Group
from ipsecha.model.spi import Entropy

X25519_LENGTH = 32
_ECDH = ec.ECDH()


class KeyExchange:
    """Our half of one key exchange.  ``public`` goes into the KE payload; ``private`` (kept with the exchange in the
    record) is what ``restore_key_exchange`` takes."""

    __slots__ = ("group", "private", "public")

    def __init__(self, group: int, public: bytes, private: bytes) -> None:
        self.group = group
        self.public = public
        self.private = private

    def shared(self, peer_public: bytes) -> bytes:
        """The shared secret g^ir in the form that goes into SKEYSEED (RFC 7296 section 2.14).

        Raises CryptoError for a public value of the wrong length or outside of the group.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"KeyExchange(group {self.group})"


class _X25519(KeyExchange):
    __slots__ = ("_key",)

    def __init__(self, group: int, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        super().__init__(group, self._key.public_key().public_bytes_raw(), private)

    def shared(self, peer_public: bytes) -> bytes:
        if len(peer_public) != X25519_LENGTH:
            raise CryptoError(f"an X25519 public value has 32 octets, not {len(peer_public)}")
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:
            # the library refuses the all-zero result of a point of small order (RFC 8031 section 4)
            raise CryptoError("the X25519 public value is a point of small order") from None


class _Curve(NamedTuple):
    curve: ec.EllipticCurve
    length: int  # octets of one coordinate
    order: int


_CURVES: dict[int, _Curve] = {
    Group.ECP_256: _Curve(ec.SECP256R1(), 32, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
    Group.ECP_384: _Curve(
        ec.SECP384R1(),
        48,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    ),
    Group.ECP_521: _Curve(
        ec.SECP521R1(),
        66,
        (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    ),
}


class _Ecp(KeyExchange):
    """The public value is x | y, the shared secret x alone (RFC 5903 section 7)."""

    __slots__ = ("_curve", "_key")

    def __init__(self, group: int, private: bytes) -> None:
        self._curve = _CURVES[group]
        self._key = ec.derive_private_key(int.from_bytes(private, "big"), self._curve.curve)
        point = self._key.public_key().public_numbers()
        length = self._curve.length
        super().__init__(group, point.x.to_bytes(length, "big") + point.y.to_bytes(length, "big"), private)

    def shared(self, peer_public: bytes) -> bytes:
        curve = self._curve
        if len(peer_public) != 2 * curve.length:
            raise CryptoError(f"a public value of group {self.group} has {2 * curve.length} octets")
        try:
            # checks that the point is on the curve (RFC 6989 section 2.3)
            peer = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, b"\x04" + peer_public)
            return self._key.exchange(_ECDH, peer)
        except ValueError:
            raise CryptoError(f"the public value is not a point of group {self.group}") from None


_PI = int(
    "C90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5"
    "AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD96"
    "1C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E8603"
    "9B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA051015728E5A8AAAC42D"
    "AD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7ABF5AE8CDB0933D7"
    "1E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200CBBE117577A615D6C"
    "770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D788719A10BDBA5B26"
    "99C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6287C59474E6BC05D"
    "99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA993B4EA988D8FDDC1"
    "86FFB7DC90A6C08F4DF435C934028492",
    16,
)
"""[2^3966 pi]: all of RFC 3526's primes are made of the leading bits of pi."""


def _modp_prime(bits: int, offset: int) -> int:
    """2^bits - 2^(bits - 64) - 1 + 2^64 * ([2^(bits - 130) pi] + offset)"""
    return (1 << bits) - (1 << (bits - 64)) - 1 + (((_PI >> (4096 - bits)) + offset) << 64)


class _Modp(NamedTuple):
    prime: int
    length: int  # octets of the prime
    exponent: int  # octets of the private value: twice the strength of RFC 3526 section 8's upper estimate


_MODP: dict[int, _Modp] = {
    Group.MODP_2048: _Modp(_modp_prime(2048, 124476), 256, 40),
    Group.MODP_3072: _Modp(_modp_prime(3072, 1690314), 384, 53),
    Group.MODP_4096: _Modp(_modp_prime(4096, 240904), 512, 60),
}


class _ModpExchange(KeyExchange):
    """Values are padded on the left to the length of the prime (RFC 7296 section 2.14)."""

    __slots__ = ("_modp",)

    def __init__(self, group: int, private: bytes) -> None:
        self._modp = _MODP[group]
        public = pow(2, int.from_bytes(private, "big"), self._modp.prime)
        super().__init__(group, public.to_bytes(self._modp.length, "big"), private)

    def shared(self, peer_public: bytes) -> bytes:
        modp = self._modp
        if len(peer_public) != modp.length:
            raise CryptoError(f"a public value of group {self.group} has {modp.length} octets, not {len(peer_public)}")
        peer = int.from_bytes(peer_public, "big")
        if not 1 < peer < modp.prime - 1:  # RFC 6989 section 2.1
            raise CryptoError(f"the public value is out of the range of group {self.group}")
        return pow(peer, int.from_bytes(self.private, "big"), modp.prime).to_bytes(modp.length, "big")


SUPPORTED_GROUPS: tuple[int, ...] = (Group.CURVE25519, *_CURVES, *_MODP)


def new_key_exchange(group: int, entropy: Entropy) -> KeyExchange:
    """A fresh key pair of ``group``; raises CryptoError where the group is not supported."""
    if group == Group.CURVE25519:
        return _X25519(group, entropy(X25519_LENGTH))
    if group in _CURVES:
        curve = _CURVES[group]
        # eight octets more than needed make the bias of the reduction negligible (FIPS 186-5, A.2.1)
        scalar = int.from_bytes(entropy(curve.length + 8), "big") % (curve.order - 1) + 1
        return _Ecp(group, scalar.to_bytes(curve.length, "big"))
    if group in _MODP:
        octets = entropy(_MODP[group].exponent)
        return _ModpExchange(group, bytes((octets[0] | 0x80,)) + octets[1:])  # never a tiny exponent
    raise CryptoError(f"key exchange method {group} is not supported")


def restore_key_exchange(group: int, private: bytes) -> KeyExchange:
    """The key exchange with this private value; raises CryptoError where the value does not belong to the group."""
    if group == Group.CURVE25519 and len(private) == X25519_LENGTH:
        return _X25519(group, private)
    if group in _CURVES and len(private) == _CURVES[group].length:
        if not 0 < int.from_bytes(private, "big") < _CURVES[group].order:
            raise CryptoError(f"the private value is out of the range of group {group}")
        return _Ecp(group, private)
    if group in _MODP and len(private) == _MODP[group].exponent:
        return _ModpExchange(group, private)
    raise CryptoError(f"{len(private)} octets are no private value of key exchange method {group}")
