"""Offline questions to a store of activations; each answer is a `Result` that is kept in the store.

    >>> import analyses
    >>> analyses.names()
    ['correspondence', 'energy', 'exploration', 'features', 'motion_heads', 'probes', 'similarity', 'trajectory']

To add an analysis, write one file here with a function that carries `@register`, and import it below.
"""

from analyses._registry import Found, load, names, once, register, run
from analyses._result import Result
from analyses.correspondence import correspondence
from analyses.energy import energy
from analyses.errors import (
    AmbiguousScores,
    AnalysisError,
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
from analyses.probes import probes
from analyses.similarity import similarity
from analyses.trajectory import trajectory

__all__ = [
    "AmbiguousScores",
    "AnalysisError",
    "BadPlan",
    "BadTruth",
    "Found",
    "MixedRuns",
    "NoRuns",
    "NonFinite",
    "Result",
    "UnknownAnalysis",
    "UnknownOption",
    "UnknownProbeLabel",
    "correspondence",
    "energy",
    "exploration",
    "features",
    "load",
    "motion_heads",
    "names",
    "once",
    "probes",
    "register",
    "run",
    "similarity",
    "trajectory",
]
