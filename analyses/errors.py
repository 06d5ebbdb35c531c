"""What can go wrong in an analysis; each error says what was asked, what there is, and what to do."""


class AnalysisError(Exception):
    """Base of every error that `analyses` raises."""

    def __str__(self) -> str:
        """The plain sentence (KeyError would put it in quotes)."""
        return " ".join(str(part) for part in self.args)


class UnknownAnalysis(AnalysisError, KeyError):
    """No analysis has that name."""


class UnknownOption(AnalysisError, TypeError):
    """An analysis has no such option."""


class BadOption(AnalysisError, ValueError):
    """An option of an analysis has a value that it cannot have."""


class NoRuns(AnalysisError, LookupError):
    """The selection holds no run with the arrays that the analysis needs."""


class MixedRuns(AnalysisError, ValueError):
    """The selection mixes runs that must not be averaged: other weights, settings or interventions."""


class BadPlan(AnalysisError, ValueError):
    """Options of an experiment that do not fit the model or its settings."""


class NonFinite(AnalysisError, ValueError):
    """A captured array holds NaN or infinity, so that its means say nothing."""


class AmbiguousScores(AnalysisError, ValueError):
    """Two scorers gave the same run the same metric."""


class BadTruth(AnalysisError, ValueError):
    """A sample's own truth contradicts itself."""


class UnknownProbeLabel(AnalysisError, ValueError):
    """A label that is to be probed is not there, or cannot be told from these samples."""
