"""Every exception that this package raises on purpose."""

from __future__ import annotations

from ipsecha.model.numbers import Notify


class IpsecHaError(Exception):
    """The root of all errors of this package."""


class WireError(IpsecHaError):
    """Octets that are not what they claim to be: truncated, overlapping, out of range."""


class CryptoError(IpsecHaError):
    """An integrity check, a signature or a key exchange failed, or an algorithm is not supported."""


class PeerError(IpsecHaError):
    """An exchange failed; ``notify`` is the RFC 7296 section 3.10.1 type that goes (or came) on the wire."""

    def __init__(self, notify: int, reason: str = "", data: bytes = b"") -> None:
        self.notify = notify
        self.reason = reason
        self.data = data
        name = Notify(notify).name if notify in Notify._value2member_map_ else str(notify)
        super().__init__(f"{name}: {reason}" if reason else name)


class PolicyError(IpsecHaError):
    """The configuration is wrong or forbids what was asked for; the text names file, key and what was expected."""


class DataPlaneError(IpsecHaError):
    """The data plane could not do what it was told to do."""


class ClusterError(IpsecHaError):
    """The cluster refuses an operation."""
