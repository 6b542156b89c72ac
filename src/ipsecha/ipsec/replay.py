"""The anti-replay window (RFC 4303 section 3.4.3) and the inference of extended sequence numbers (appendix A2).

The window is one big integer: bit i stands for the number ``top - i``.  A shift of 1024 bits costs about as much as
touching a word of a bitmap in Python, and a jump of any width is one operation.

The order is RFC 4303's: ``infer`` (with ESN), ``fresh`` before the integrity check, ``accept`` after it.
"""

from __future__ import annotations

MINIMUM_WINDOW = 32  # RFC 4303 section 3.4.3: MUST be supported
_LOW = 0xFFFFFFFF
_LOW_RANGE = 1 << 32


class ReplayWindow:
    """Which of the last ``size`` sequence numbers up to ``top`` have been accepted.

    ``floor`` makes a window in which everything up to that number counts as seen: that is how a member begins that
    has taken an SA over (invariant I3).
    """

    __slots__ = ("_mask", "bits", "size", "top")

    def __init__(self, size: int, floor: int = 0) -> None:
        self.size = max(size, MINIMUM_WINDOW)
        self._mask = (1 << self.size) - 1
        self.top = floor
        self.bits = self._mask

    def infer(self, low: int) -> int:
        """The 64-bit number whose low half came on the wire (RFC 4303 appendix A2.2); -1 where none is possible."""
        top = self.top
        top_low = top & _LOW
        high = top >> 32
        if top_low >= self.size - 1:  # case A: the window lies within one subspace
            if low < top_low - self.size + 1:
                high += 1
        elif low >= (top_low - self.size + 1) & _LOW:  # case B: it reaches back into the one before
            high -= 1
        return high * _LOW_RANGE + low if high >= 0 else -1

    def fresh(self, number: int) -> bool:
        """Whether ``number`` may still be accepted: above the window, or within it and not yet seen."""
        behind = self.top - number
        if behind < 0:
            return True
        return behind < self.size and not (self.bits >> behind) & 1 and number > 0

    def accept(self, number: int) -> None:
        """Mark ``number`` as seen, after its packet has passed the integrity check."""
        ahead = number - self.top
        if ahead <= 0:
            self.bits |= 1 << -ahead
        else:
            self.bits = ((self.bits << ahead) | 1) & self._mask if ahead < self.size else 1
            self.top = number
