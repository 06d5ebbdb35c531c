"""Offline questions to a store of activations; each answer is a `Result` that is kept in the store.

    >>> import analyses
    >>> analyses.names()  # doctest: +ELLIPSIS
    ['channels', 'correspondence', 'energy', 'exploration', 'features', 'motion_heads', 'perception_first', ...]

To add an analysis, write one file here with a function that carries `@register`, and import it below.
"""

from analyses._groups import RunGroup, grouped, shared_values
from analyses._registry import Found, load, names, once, register, run
from analyses._result import Result
from analyses._select import changed, parted
from analyses._shared import DIFFERENCE_INTERVAL, Difference, paired
from analyses.channels import channels
from analyses.correspondence import correspondence
from analyses.energy import energy
from analyses.errors import (
    AmbiguousScores,
    AnalysisError,
    BadOption,
    BadPlan,
    BadTruth,
    MixedRuns,
    NonFinite,
    NoRuns,
    UnknownAnalysis,
    UnknownOption,
    UnknownProbeLabel,
)
from analyses.exploration import exploration
from analyses.features import features
from analyses.motion_heads import motion_heads
from analyses.perception_first import perception_first
from analyses.probes import probes
from analyses.self_correction import self_correction
from analyses.similarity import similarity
from analyses.token_pca import token_pca
from analyses.trajectory import trajectory
from analyses.working_memory import working_memory

__all__ = [
    "DIFFERENCE_INTERVAL",
    "AmbiguousScores",
    "AnalysisError",
    "BadOption",
    "BadPlan",
    "BadTruth",
    "Difference",
    "Found",
    "MixedRuns",
    "NoRuns",
    "NonFinite",
    "Result",
    "RunGroup",
    "UnknownAnalysis",
    "UnknownOption",
    "UnknownProbeLabel",
    "changed",
    "channels",
    "correspondence",
    "energy",
    "exploration",
    "features",
    "grouped",
    "load",
    "motion_heads",
    "names",
    "once",
    "paired",
    "parted",
    "perception_first",
    "probes",
    "register",
    "run",
    "self_correction",
    "shared_values",
    "similarity",
    "token_pca",
    "trajectory",
    "working_memory",
]
