"""Draws docs/images/failover.svg from one outcome of ``ipsecha lab failover --peer strongswan --fault kill --json``.

    python scripts/draw_failover.py docs/images/failover.json docs/images/failover.svg

Everything shown is in the outcome.  Probes leave every 10 ms: those that were lost are drawn where they left, the
others in between.  The picture has a background of its own, so that it reads on light and on dark pages.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, MARGIN, LEFT, RIGHT = 880, 28, 190, 842
FROM_MS, TO_MS, STEP_MS, INTERVAL_MS = -80, 200, 40, 10.0
BACKGROUND, EDGE, TEXT, DIM = "#11161d", "#3b4554", "#e6edf3", "#93a1b3"
GREEN, RED, BLUE, GREY, AMBER = "#3fb950", "#ff6b61", "#58a6ff", "#4a5565", "#e3b341"
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Drawing:
    """SVG elements, one below the other; ``y`` is where the next row goes."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 0.0

    def text(self, x: float, y: float, text: str, fill: str = TEXT, size: float = 13, **more: str) -> None:
        extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size:g}"{extra}>{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, **more: str) -> None:
        extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
        size = f'width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{fill}"{extra}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, dash: str = "") -> None:
        extra = f' stroke-dasharray="{dash}"' if dash else ""
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line {ends} stroke="{stroke}"{extra}/>')

    def svg(self, title: str) -> str:
        height = self.y + 8
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" font-family="{FONT}">'
        )
        card = f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2:.0f}" rx="10" fill="{BACKGROUND}"'
        card += f' stroke="{EDGE}" stroke-width="1.5"/>'
        return "\n".join([head, f"<title>{escape(title)}</title>", card, *self.parts, "</svg>", ""])


def at(ms: float) -> float:
    """Where a moment is; what lies outside is at the edge."""
    return LEFT + (min(max(ms, FROM_MS), TO_MS) - FROM_MS) / (TO_MS - FROM_MS) * (RIGHT - LEFT)


def draw(outcome: dict[str, Any]) -> str:
    drawing = Drawing()
    drawing.y = 38
    command = f"ipsecha lab failover --peer {outcome['peer']} --fault {outcome['fault']}"
    drawing.text(MARGIN, drawing.y, "$", GREEN, 15)
    drawing.text(MARGIN + 18, drawing.y, command, TEXT, 15, font_weight="bold")
    top = drawing.y + 40
    _moments(drawing, outcome, top - 18)
    _members(drawing, outcome, top)
    _traffic(drawing, outcome)
    _axis(drawing)
    _numbers(drawing, outcome)
    _verdicts(drawing, outcome)
    return drawing.svg("A failover: the tunnel outlives the member that held it")


def _members(drawing: Drawing, outcome: dict[str, Any], y: float) -> None:
    taken_ms = outcome["taken_over_s"] * 1000
    first, second = outcome["owner_before"], outcome["owner_after"]
    edge = at(0)
    _label(drawing, y, first, "its process dies")
    drawing.box(at(FROM_MS), y, edge - at(FROM_MS), 24, BLUE, rx="3")
    drawing.text(at(FROM_MS) + 10, y + 16.5, "owner", BACKGROUND, 12.5, font_weight="bold")
    drawing.text(edge + 12, y + 16.5, "SIGKILL", RED, 12.5, font_weight="bold")
    y += 34
    _label(drawing, y, second, "takes over")
    switch = at(taken_ms)
    drawing.box(at(FROM_MS), y, switch - at(FROM_MS), 24, GREY, rx="3")
    drawing.text(at(FROM_MS) + 10, y + 16.5, "standby, in sync", TEXT, 12.5)
    drawing.box(switch, y, RIGHT - switch, 24, BLUE, rx="3")
    text = f"owner, and says so after {taken_ms:.0f} ms"
    drawing.text(switch + 10, y + 16.5, text, BACKGROUND, 12.5, font_weight="bold")
    y += 34
    _label(drawing, y, "strongSwan", "unmodified peer")
    drawing.box(at(FROM_MS), y, RIGHT - at(FROM_MS), 24, GREEN, rx="3")
    same = f"one IKE SA, one child SA; {outcome['handshakes']} handshakes after the fault"
    drawing.text(at(FROM_MS) + 10, y + 16.5, same, BACKGROUND, 12.5, font_weight="bold")
    drawing.y = y + 34


def _label(drawing: Drawing, y: float, name: str, note: str) -> None:
    drawing.text(MARGIN, y + 11, name, TEXT, 13, font_weight="bold")
    drawing.text(MARGIN, y + 24, note, DIM, 10.5)


def _traffic(drawing: Drawing, outcome: dict[str, Any]) -> None:
    """One mark for each probe: full where it was answered, hollow where it was lost."""
    for name, report in (("A to B", outcome["a"]), ("B to A", outcome["b"])):
        y = drawing.y
        _label(drawing, y, name, f"{report['lost']} of {report['sent']} lost")
        lost = [seconds * 1000 for seconds in report["lost_s"]]
        phase = (lost[0] if lost else 0.0) % INTERVAL_MS
        count = int((TO_MS - FROM_MS) / INTERVAL_MS)
        for number in range(count):
            ms = FROM_MS + phase + number * INTERVAL_MS
            if not any(abs(ms - one) < INTERVAL_MS / 2 for one in lost):
                drawing.box(at(ms) - 4, y + 3, 8, 20, GREEN, rx="1.5")
        for ms in lost:
            if FROM_MS <= ms <= TO_MS:
                drawing.box(at(ms) - 3.25, y + 3.75, 6.5, 18.5, "none", rx="1.5", stroke=RED, stroke_width="1.5")
        drawing.y += 34


def _moments(drawing: Drawing, outcome: dict[str, Any], top: float) -> None:
    """The fault and the end of what it did, as lines behind everything else."""
    bottom = top + 190
    answered = max(outcome[side]["recovered_s"] for side in "ab") * 1000
    drawing.line(at(0), top, at(0), bottom, RED, "3 3")
    drawing.line(at(answered), top, at(answered), bottom, AMBER, "3 3")
    drawing.text(at(answered) + 6, top + 8, f"answers both ways after {answered:.0f} ms", AMBER, 11.5)


def _axis(drawing: Drawing) -> None:
    bottom = drawing.y + 2
    for ms in range(FROM_MS, TO_MS + 1, STEP_MS):
        drawing.line(at(ms), bottom, at(ms), bottom + 5, DIM)
        label = f"{ms:+d} ms" if ms else "fault"
        drawing.text(at(ms), bottom + 19, label, DIM if ms else RED, 11, text_anchor="middle")
    drawing.line(LEFT, bottom, RIGHT, bottom, DIM)
    drawing.y = bottom + 46


def _numbers(drawing: Drawing, outcome: dict[str, Any]) -> None:
    drawing.text(MARGIN, drawing.y, "ESP sequence numbers on the wire", DIM, 11.5)
    for x, title in ((430, "before the fault"), (590, "afterwards up to")):
        drawing.text(x, drawing.y, title, DIM, 11.5)
    for direction in outcome["directions"]:
        drawing.y += 20
        way = "from the cluster" if direction["outbound"] else "to the cluster"
        drawing.text(MARGIN, drawing.y, f"SPI {direction['spi']}", TEXT, 12.5)
        drawing.text(190, drawing.y, way, TEXT, 12.5)
        first, last = direction["before"]
        drawing.text(430, drawing.y, f"{first:,} to {last:,}", TEXT, 12.5)
        drawing.text(590, drawing.y, f"{direction['after'][1]:,}", TEXT, 12.5)
        if direction["outbound"]:
            drawing.text(690, drawing.y, "above every lease", DIM, 11.5)
    drawing.y += 34


def _verdicts(drawing: Drawing, outcome: dict[str, Any]) -> None:
    for verdict in outcome["verdicts"]:
        mark, colour = ("holds", GREEN) if verdict["holds"] else ("FAILS", RED)
        drawing.text(MARGIN, drawing.y, mark, colour, 12.5, font_weight="bold")
        drawing.text(MARGIN + 54, drawing.y, verdict["claim"], TEXT, 12.5)
        found = verdict["found"]
        drawing.text(RIGHT, drawing.y, found if len(found) <= 60 else found[:59] + "…", DIM, 11, text_anchor="end")
        drawing.y += 20


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write(f"usage: {sys.argv[0]} OUTCOME.json PICTURE.svg\n")
        return 2
    source, target = map(Path, arguments)
    target.write_text(draw(json.loads(source.read_text())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
