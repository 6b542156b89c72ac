"""Figures for people and for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import Figure, Topic
from ipsecha import __version__

Results = Sequence[tuple[Topic, list[Figure]]]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(topic: Topic, figures: list[Figure]) -> Table:
    """One topic's figures."""
    shown = Table(title=topic.title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    shown.add_column("measured")
    shown.add_column("value", justify="right")
    shown.add_column("reference")
    shown.add_column("its value", justify="right")
    shown.add_column("ratio", justify="right")
    shown.add_column("goal")
    for figure in figures:
        reference = "" if figure.reference_value is None else f"{number(figure.reference_value)} {figure.unit}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}x"
        shown.add_row(
            figure.name, f"{number(figure.value)} {figure.unit}", figure.reference, reference, ratio, _goal(figure)
        )
    return shown


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"[green]{figure.goal} met[/]" if figure.goal.met(figure) else f"[red]{figure.goal} missed[/]"


def show(console: Console, results: Results, left_out: Sequence[tuple[str, str]]) -> None:
    """All tables, the notes below them, and what was left out."""
    for topic, figures in results:
        console.print(table(topic, figures))
        for note in dict.fromkeys(figure.note for figure in figures if figure.note):
            console.print(f"  {note}", style="dim")
        console.print()
    for name, reason in left_out:
        console.print(f"left out: {name}: {reason}", style="yellow")


def as_json(results: Results, left_out: Sequence[tuple[str, str]]) -> bytes:
    """The same as JSON: figures with their ratios, by topic."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for topic, figures in results:
        topics[topic.name] = [
            {
                **msgspec.to_builtins(figure),
                "ratio": figure.ratio,
                "goal_met": figure.goal.met(figure) if figure.goal is not None else None,
            }
            for figure in figures
        ]
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cpu": _cpu()}
    whole = {"version": __version__, "machine": machine, "topics": topics, "left_out": dict(left_out)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.machine()
