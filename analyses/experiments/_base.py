"""What an experiment is: a plan of arms, a rule for the verdict, and a comparison of stored runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from analyses._result import Result
from analyses.errors import UnknownAnalysis
from store import ActivationStore, CaptureItem, CaptureSpec, Json, Run, Sample


class Frame(NamedTuple):
    """What a plan must know of the model and its settings."""

    steps: int
    """Denoising steps."""
    layers: int
    latent_frames: int
    held: int
    """Latent frames, from the first on, that the pipeline holds fixed."""
    frames: int = 0
    """Video frames."""
    seeds: tuple[int, ...] = (0,)
    """Of each sample's clean runs."""
    tokens: tuple[int, int, int] = (0, 0, 0)
    """Frames, rows and columns of the tokens inside blocks."""
    sites: tuple[str, ...] = ()
    """Sites inside blocks that the model has."""
    text_sites: tuple[str, ...] = ()
    """Those whose values hold text tokens, in every layer that has the site."""
    branches: tuple[str, ...] = ("cond",)
    """Branches that run."""


class Arm(NamedTuple):
    """One condition of an experiment: the clean runs, changed in one way.

    Interventions and other settings do not go together in an arm.
    """

    labels: Mapping[str, str | int | float | bool]
    """What tells it from the others; coordinates of the result."""
    interventions: tuple[Json, ...]
    """As a run's record keeps them."""
    settings: Mapping[str, int | float] = {}
    """Sampler settings that are others than those of the clean runs."""
    variant: str = ""
    """Another model of the same weights: a name, folder or hub id, or `lora:SOURCE`; empty for the clean runs' own."""
    seeds: tuple[int, ...] | None = None
    """Which of the seeds it has; None for all."""


Given = Callable[[Arm, Sample, int], "tuple[Json, ...] | None"]
"""The interventions of an arm's run of a sample and a seed; None where the arm has no such run."""


class Sought(NamedTuple):
    """What is wanted beside changed runs: attributions, by gradients, of a donor's states in a clean run."""

    run: Run
    """The clean run that would receive."""
    donor: Run
    """The clean run that would give."""
    sites: tuple[str, ...]
    """Sites inside blocks, at all layers."""
    steps: tuple[int, ...]
    points: int = 0
    """Points between both runs' states at which gradients are taken; 0 for one at the receiver's own."""


class Experiment(ABC):
    """A question with its arms and its rule.

    Options are fields of a frozen dataclass, so that a command line can ask for them by name.
    """

    name: ClassVar[str]
    claim: ClassVar[str]
    """What the paper says, in one sentence."""
    rule: ClassVar[str]
    """How the verdict is reached, in words; the code that reaches it is `compare`."""
    clean: ClassVar[CaptureSpec] = CaptureSpec(items=(CaptureItem(site="latent", reduction="full"),))
    """What clean runs keep: x_s of every step, so that changed runs can begin with it."""
    child: ClassVar[CaptureSpec] = CaptureSpec(items=())
    """What changed runs keep beside their video and its scores."""
    takes_gradients: ClassVar[bool] = False
    """Whether it compares attributions (`sought`), which are made by gradients."""
    twins: bool = False
    """Whether each sample comes with its twin, which has another answer."""

    def keeps(self, frame: Frame) -> tuple[CaptureSpec, CaptureSpec]:
        """What clean and changed runs of a model keep."""
        return self.clean, self.child

    def given(self, acts: ActivationStore, clean: Sequence[tuple[Sample, Run]], frame: Frame) -> Given | None:
        """How an arm's interventions depend on the run that they change; None where they do not.

        Args:
            acts: The store, which may hold the clean runs by now.
            clean: The clean runs and their samples.
            frame: The model.
        """
        return None

    def sought(self, clean: Sequence[tuple[Sample, Run]], frame: Frame) -> tuple[Sought, ...]:
        """Attributions that it compares, of the clean runs and their samples; none unless it `takes_gradients`."""
        return ()

    @abstractmethod
    def plan(self, frame: Frame) -> tuple[Arm, ...]:
        """The arms for a model, in the order of the result.

        Raises:
            BadPlan: if the options do not fit the model.
        """

    @abstractmethod
    def compare(self, acts: ActivationStore, *, runs: Sequence[str] | None = None, where: str | None = None) -> Result:
        """Compare the stored runs of this experiment's arms with their clean runs; computed once.

        Args:
            acts: The store.
            runs: Ids to choose from, clean and changed ones; None takes all that belong to the experiment.
            where: SQL over the `runs` view joined with `samples`.
        """


T = TypeVar("T", bound=Experiment)
_EXPERIMENTS: dict[str, type[Experiment]] = {}


def register(experiment: type[T]) -> type[T]:
    """Make an experiment known under its name (a decorator)."""
    _EXPERIMENTS[experiment.name] = experiment
    return experiment


def names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(_EXPERIMENTS)


def get(name: str) -> type[Experiment]:
    """The experiment called `name`.

    Raises:
        UnknownAnalysis: if there is none.
    """
    if name not in _EXPERIMENTS:
        raise UnknownAnalysis(f"There is no experiment {name!r}; there are {', '.join(names())}.")
    return _EXPERIMENTS[name]
