"""The clusters broken on purpose that play in whole worlds."""

from __future__ import annotations

from simulation.variants import VARIANTS
from simulation.variants_deltas import DELTA_VARIANTS
from simulation.variants_numbers import NUMBER_VARIANTS
from simulation.variants_rekeys import REKEY_VARIANTS
from simulation.variants_strangers import STRANGER_VARIANTS
from simulation.variants_turns import TURN_VARIANTS
from simulation.world import Variant

FULL_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    **VARIANTS,
    **NUMBER_VARIANTS,
    **STRANGER_VARIANTS,
    **DELTA_VARIANTS,
    **TURN_VARIANTS,
    **REKEY_VARIANTS,
}
