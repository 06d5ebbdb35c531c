"""Multi-path, superposition or single: three numbers of a sample, and a classifier that never saw its task family."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from analyses._paths import Mix
from analyses._stats import LEVEL

KINDS: Final = ("multi-path", "superposition", "single")
"""What a sample can be; `SampleRecord.labels["kind"]`."""
FEATURES: Final = ("effective", "apart", "together")
"""What `features` gives, in this order."""
RESAMPLES: Final = 1000
"""Bootstrap resamples of the samples."""


class Interval(NamedTuple):
    """A number and its bootstrap interval, arrays of one shape."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Calibration(NamedTuple):
    """The classifier, fitted on every sample that has a kind; what `apply` needs and nothing more."""

    mean: NDArray[np.float64]
    """Of each feature, `[feature]`."""
    scale: NDArray[np.float64]
    """Standard deviation of each feature, `[feature]`."""
    coefficient: NDArray[np.float64]
    """`[kind, feature]`."""
    intercept: NDArray[np.float64]
    """`[kind]`."""

    def apply(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of each kind, `[sample, kind]`, from features `[sample, feature]`."""
        scores = (features - self.mean) / self.scale @ self.coefficient.T + self.intercept
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


class HeldOut(NamedTuple):
    """How well kinds are told in families that the classifier never saw."""

    probability: NDArray[np.float64]
    """Of each kind, `[sample, kind]`, each sample judged without its family."""
    auroc: Interval
    """One against the rest, `[kind]`."""
    mean_auroc: Interval
    """Mean over kinds, `[]`."""
    confusion: Interval
    """Share of samples of a kind (row) that are called each kind (column), `[kind, kind]`."""
    calibration: Calibration


def features(mix: Mix) -> NDArray[np.float64]:
    """What tells the kinds apart, each a mean over the sample's runs at the step where the second is strongest.

    - `effective`: effective number of candidates; 1 where there is no second.
    - `apart`: evidence of the second times the share of their places that is not common. High: multi-path.
    - `together`: evidence of the second times the share that is. High: superposition.
    """
    second, effective, shared = mix.second(), mix.effective(), mix.shared()
    at = (np.arange(len(second)), second.argmax(axis=1))
    strength = second[at]
    common = np.where(strength > 0, np.nan_to_num(shared[at]), 0)
    number = np.where(strength > 0, effective[at], 1)
    return np.array([number.mean(), (strength * (1 - common)).mean(), (strength * common).mean()])


def can_hold_out(kinds: NDArray[np.str_], families: NDArray[np.str_]) -> bool:
    """Whether every kind is left when any one family is held out."""
    return all(len(set(families[kinds == kind])) > 1 for kind in KINDS)


def held_out(values: NDArray[np.float64], kinds: NDArray[np.str_], families: NDArray[np.str_], *, seed: int) -> HeldOut:
    """Train on all families but one, judge that one, in turn.

    A multinomial logistic regression on standardised features, kinds weighted alike. The bootstrap draws samples with
    replacement among those that were judged; the classifiers are not trained again.

    Args:
        values: `[sample, feature]`.
        kinds: One of `KINDS` for each sample.
        families: Task family of each sample; `can_hold_out` must hold.
        seed: Of the bootstrap.
    """
    probability = np.empty((len(values), len(KINDS)))
    for family in np.unique(families):
        out = families == family
        probability[out] = _fit(values[~out], kinds[~out]).apply(values[out])
    truth = np.array([KINDS.index(kind) for kind in kinds])
    drawn = _drawn(truth, np.random.default_rng(seed))
    auroc, confusion = _auroc(truth, probability, drawn), _confusion(truth, probability, drawn)
    return HeldOut(
        probability=probability,
        auroc=_interval(auroc),
        mean_auroc=_interval(auroc.mean(axis=1)),
        confusion=_interval(confusion),
        calibration=_fit(values, kinds),
    )


def _fit(values: NDArray[np.float64], kinds: NDArray[np.str_]) -> Calibration:
    scaler = StandardScaler().fit(values)
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(scaler.transform(values), kinds)
    order = [list(model.classes_).index(kind) for kind in KINDS]
    return Calibration(
        np.asarray(scaler.mean_), np.asarray(scaler.scale_), model.coef_[order], np.asarray(model.intercept_)[order]
    )


def _drawn(truth: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each sample is drawn, `[1 + RESAMPLES, sample]`: once each at first, then in each resample.

    A resample that lost a kind is drawn again.
    """
    rows = [np.ones(len(truth))]
    while len(rows) <= RESAMPLES:
        row = np.bincount(rng.integers(len(truth), size=len(truth)), minlength=len(truth))
        if len(np.unique(truth[row > 0])) == len(KINDS):
            rows.append(row.astype(np.float64))
    return np.stack(rows)


def _auroc(
    truth: NDArray[np.intp], probability: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each kind against the rest, `[draw, kind]`: share of pairs that are ordered rightly, ties counted half."""
    found = np.empty((len(drawn), len(KINDS)))
    for kind in range(len(KINDS)):
        own, rest = truth == kind, truth != kind
        above = np.subtract.outer(probability[own, kind], probability[rest, kind])
        right = ((drawn[:, own] @ ((np.sign(above) + 1) / 2)) * drawn[:, rest]).sum(axis=1)
        found[:, kind] = right / (drawn[:, own].sum(axis=1) * drawn[:, rest].sum(axis=1))
    return found


def _confusion(
    truth: NDArray[np.intp], probability: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of each kind that is called each kind, `[draw, kind, kind]`."""
    one_hot = np.eye(len(KINDS))
    counts = np.einsum("bn,ni,nj->bij", drawn, one_hot[truth], one_hot[probability.argmax(axis=1)])
    return counts / counts.sum(axis=2, keepdims=True)


def _interval(drawn: NDArray[np.float64]) -> Interval:
    """The first row, and where the middle 95 % of the others lie."""
    low, high = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    # With few samples the middle of the resamples can miss the value itself.
    return Interval(drawn[0], np.minimum(low, drawn[0]), np.maximum(high, drawn[0]))
