"""Epochs: one number for each ownership of a slot.  It grows with every change of owner, never repeats and differs
between members even when both act on the same knowledge (docs/decisions/0004)."""

from __future__ import annotations

MEMBER_BITS = 4
MAX_MEMBERS = 1 << MEMBER_BITS
INCARNATION_BITS = 24

EPOCH_LIMIT = 1 << 63
"""Far beyond what terms can count in a cluster's life, and far below where frames could no more carry a successor."""


def make_epoch(term: int, member_index: int) -> int:
    """The epoch of ``term`` (1 and up) under the member with this index (0 to 15)."""
    return term << MEMBER_BITS | member_index


def first_term(wall_s: float) -> int:
    """The term of a cold start: hundredths of seconds, so that no process is back before its epochs lie behind."""
    return int(wall_s * 100)


def next_epoch(highest_seen: int, member_index: int) -> int:
    """The compare-and-set of a pair: whoever takes over leaves every epoch it has ever seen behind."""
    return make_epoch((highest_seen >> MEMBER_BITS) + 1, member_index)


def incarnation(epoch: int) -> int:
    """What the owner puts into the top 24 bits of every explicit AEAD IV (invariant I1)."""
    return epoch & ((1 << INCARNATION_BITS) - 1)
