"""Experiments: what is changed and what is compared, decided before anything runs. One file each.

An experiment plans its arms here, `interp.experimenting` makes their runs, and the experiment compares what the store
then holds. To add one, write one file here with a class that carries `@register`, and import it below.
"""

from analyses.experiments._base import Arm, Experiment, Frame, get, names, register
from analyses.experiments.attribution import Attribution
from analyses.experiments.early_selection import EarlySelection
from analyses.experiments.ensemble import Ensemble
from analyses.experiments.frames import Frames
from analyses.experiments.noise import Noise
from analyses.experiments.patch import Patch
from analyses.experiments.propagation import Propagation
from analyses.experiments.steps import Steps
from analyses.experiments.swap import Swap
from analyses.experiments.windows import Windows

__all__ = [
    "Arm",
    "Attribution",
    "EarlySelection",
    "Ensemble",
    "Experiment",
    "Frame",
    "Frames",
    "Noise",
    "Patch",
    "Propagation",
    "Steps",
    "Swap",
    "Windows",
    "get",
    "names",
    "register",
]
