"""What a failover would cost, and what the last one did cost: each SA's exposure and gap, and the sums of both."""

from __future__ import annotations

from ipsecha.dataplane.plane import Traffic
from ipsecha.gateway.views import AfterTakeoverView, GapView, LossBound
from ipsecha.ike.endpoint import IkeEndpoint


class Exposures:
    """Sums over the child SAs that are shown to it one after the other."""

    def __init__(self) -> None:
        self.bound = LossBound()
        self.refused = self.open_gaps = self.closed_gaps = self.learnt = 0

    def add(self, traffic: Traffic) -> None:
        self.bound.packets = max(self.bound.packets, traffic.in_gap)
        self.bound.seconds = max(self.bound.seconds, exposure_s(traffic) or 0.0)
        gap = traffic.gap
        if gap is not None:
            self.refused += gap.refused
            self.open_gaps += not gap.closed_at
            self.closed_gaps += bool(gap.closed_at)
            self.learnt += bool(gap.learnt)

    def after_takeover(self, endpoint: IkeEndpoint) -> AfterTakeoverView | None:
        """None where there is nothing to tell."""
        progress = endpoint.after_takeover.progress
        if not (self.open_gaps or self.closed_gaps or any(progress)):
            return None
        return AfterTakeoverView(
            *progress,
            refused=self.refused,
            open_gaps=self.open_gaps,
            closed_gaps=self.closed_gaps,
            learnt=self.learnt,
        )


def exposure_s(traffic: Traffic) -> float | None:
    """For how long a failover now would refuse inbound packets, at the present rate.

    None where nothing comes at present, and where it would be one packet, which is the least there is.
    """
    return traffic.in_gap / traffic.in_rate if traffic.in_gap > 1 and traffic.in_rate > 0 else None


def gap_view(traffic: Traffic, now: float) -> GapView | None:
    gap = traffic.gap
    if gap is None:
        return None
    closed_s = now - gap.closed_at if gap.closed_at else None
    return GapView(gap.floor, gap.refused, gap.remaining, closed_s, bool(gap.learnt))
