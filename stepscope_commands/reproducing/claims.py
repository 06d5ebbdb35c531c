"""The paper's claims E1 to E11, and those beyond it: what is reported, which part of a plan tests each, and our number.

The paper is "Demystifying Video Reasoning" (arXiv 2603.16870). Where it gives no number, its claim stands in words. The
rule of a verdict is that of the experiment or analysis; none is decided here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SEVERAL: Final = "samples_with_several_answers"


class Number(NamedTuple):
    """A number of a result's summary."""

    words: str
    """What it is."""
    key: str
    """Its name in the summary; `a.b` is `b` of `a`. Its interval is there as `…_low` and `…_high`, or with these in the
    place of `{}`."""
    digits: int = 2
    share: bool = False
    """Whether it is told in per cent."""


class Claim(NamedTuple):
    """One row of the page."""

    id: str
    title: str
    paper: str
    """The figure or number that it reports; in words where it gives none."""
    place: str
    """Where in the paper."""
    test: str
    """The part of a plan whose verdict it has."""
    numbers: tuple[Number, ...]
    """Ours, the first one beside the paper's."""
    beside: tuple[str, ...] = ()
    """Parts that show more of it, as evidence."""
    larger: str = ""
    """What of it concerns the paper's own model alone."""
    n: str = ""
    """The entry of the summary that counts its samples, where these are not all of the result's."""
    verdict: str = ""
    """The entry of the summary with its verdict, where a result decides more claims than one."""


CLAIMS: Final = (
    Claim(
        "E1",
        "x̂0 by step: several candidates early, one at the end",
        "many candidates early, one at the end; no number",
        "x̂0 trajectories (Chain-of-Steps)",
        "exploration",
        (
            Number("effective number of valid answers in x̂0 of the first step", "effective_at_first_step"),
            Number("step from which one answer alone is shown", "commit", 1),
        ),
        ("trajectory",),
        "how many candidates natural prompts raise, where nobody lists the valid answers",
        SEVERAL,
    ),
    Claim(
        "E2",
        "Alternatives in several places (multi-path) or at one (superposition)",
        "about 72 % of 200 samples show one of the two; no criterion",
        "multi-path and superposition",
        "exploration",
        (
            Number("samples with two answers at some step and one at the end", "several_then_one", 0, True),
            Number("AUROC of multi-path, superposition and single in held-out families", "auroc_masks"),
        ),
        larger="the share of 72 %, which is of its own 200 samples",
        n=SEVERAL,
    ),
    Claim(
        "E3",
        "Noise in all frames at one step destroys the answer",
        "score 0.685 → below 0.3",
        "perturbation of steps",
        "noise",
        (
            Number("score lost under plain noise at one step", "step_drop"),
            Number("score of the clean runs", "clean_score"),
            Number("score lost under σ-matched noise (control)", "matched_drop"),
        ),
        larger="the two scores, which are of VBVR-Bench",
        verdict="step_verdict",
    ),
    Claim(
        "E4",
        "Noise in one frame at all steps hardly matters",
        "far smaller drop than E3; no number",
        "perturbation of frames",
        "noise",
        (
            Number("score lost under plain noise in one latent frame", "frame_drop"),
            Number("less than under noise at a step by", "difference_drop"),
        ),
        verdict="frame_verdict",
    ),
    Claim(
        "E5",
        "Early noise never heals, and middle steps are the most sensitive",
        "early noise never heals; peak at steps 20–30 of 50",
        "propagation of noise (1 − CKA)",
        "propagation",
        (
            Number("dissimilarity at the last step, less half of that at the injected one", "not_healed", 3),
            Number("most sensitive step, plain noise", "peak_plain", 0),
            Number("most sensitive step, σ-matched noise (control)", "peak_matched", 0),
        ),
        larger="whether its peak at steps 20–30 is the change of experts, at about step 18 to 21 of 50",
    ),
    Claim(
        "E6",
        "Early layers care for the background, later ones for the objects",
        "layers 0–9 of 40 background, later ones foreground and prompt object; no number",
        "token energy",
        "energy",
        (
            Number("specialisation on the foreground, later layers less early ones, raw energy", "raw_rise", 3),
            Number("the same without massive channels (control)", "masked_rise", 3),
        ),
        larger="the layers: 40 of them have room for a division of work that a few do not need",
    ),
    Claim(
        "E7",
        "Swapping one layer's tokens at the first step turns the answer",
        "layer 20 of 40 flips the answer; no rate",
        "layer swap",
        "swap",
        (
            Number("answers flipped at the best layer, first step alone", "flip_at_first_step", 0, True),
            Number("best layer", "best_layer", 0),
            Number("answers flipped, all windows of steps (control)", "flip_of_all_arms", 0, True),
        ),
        larger="layer 20, which has no counterpart in a model of another depth",
    ),
    Claim(
        "E8",
        "Averaging three seeds inside the model raises the score",
        "0.685 → 0.716 on VBVR-Bench (+0.031)",
        "latent ensemble",
        "ensemble",
        (
            Number("gain in score", "gain", 3),
            Number("gain over one longer run of as many forwards (control)", "gain_over_longer_run", 3),
            Number("score of the first seed alone", "one_seed", 3),
        ),
        ("ensemble_grid",),
        larger="a gain of 0.031, for which its score leaves more room",
    ),
    Claim(
        "E9",
        "A certain number of frames is needed, and too many add noise",
        "about 17 frames needed; too many add noise",
        "number of frames",
        "frames",
        (
            Number("smallest sufficient number of frames", "smallest_sufficient", 0),
            Number("score lost at the fewest frames", "fewest_lost"),
            Number("score lost at the most frames", "most_lost"),
        ),
        larger="the number 17 of a model that was trained on more than one length",
    ),
    Claim(
        "E10",
        "A distilled few-step model no longer explores",
        "exploration collapses from 50 steps to 4 distilled ones; no number",
        "few steps and distillation",
        "steps",
        (
            Number("answers in the first x̂0, student less teacher", "first_difference"),
            Number("fewest sufficient steps of the student", "smallest_sufficient_student", 0),
            Number("fewest sufficient steps of the teacher", "smallest_sufficient_teacher", 0),
        ),
        larger="what the distillation of its size and method does to it",
    ),
    Claim(
        "E11a",
        "Working memory: a hidden object is kept in mind",
        "examples; no number",
        "emergent behaviours",
        "working_memory",
        (
            Number("colour of the hidden object told by a probe", "colour.score{}_there", 0, True),
            Number("its place told by a probe (R²)", "place.score{}_there"),
        ),
        larger="objects that reappear in natural scenes",
    ),
    Claim(
        "E11b",
        "Self-correction: wrong answers turn right",
        "examples; no number",
        "emergent behaviours",
        "self_correction",
        (
            Number("changes from wrong to right in a run", "corrections"),
            Number("changes from right to wrong in a run (control)", "spoilings"),
        ),
        larger="late changes of mind in long sampling",
    ),
    Claim(
        "E11c",
        "Perception before action: what and where before how",
        "examples; no number",
        "emergent behaviours",
        "perception_first",
        (Number("step of what and where, less that of how", "difference"),),
        larger="whether it holds where what and where are hard to see in the first frame",
    ),
)
"""In the paper's order. The paper's numbers are those that it prints; none was read off a figure."""

BEYOND: Final = (
    Claim(
        "B1",
        "The answer is decided in the first steps, and can be exchanged only there",
        "not in it",
        "Chain-of-Steps, tested by exchanging states",
        "windows",
        (
            Number("answers flipped by a donor's states in the block of steps that decides", "flip", 0, True),
            Number("step at which x̂0 has settled", "settled_at", 0),
        ),
    ),
    Claim(
        "B2",
        "The answer sits in the target's tokens, in the inner layers",
        "not in it",
        "activation patching",
        "patch",
        (
            Number("evidence recovered by the target's tokens less that by all others", "target_over_background"),
            Number("by inner blocks of layers less the first and the last", "inner_over_outer"),
        ),
    ),
    Claim(
        "B3",
        "Which seed will be right shows in the first steps",
        "not in it",
        "early selection (arXiv 2603.30043)",
        "early-selection",
        (
            Number("gain in score", "gain", 3),
            Number("gain over one longer run of as many forwards (control)", "gain_over_longer_run", 3),
            Number("what choosing by the truth would gain", "best_seed_gain", 3),
        ),
    ),
    Claim(
        "B4",
        "Labels of the task can be read from token means by a line",
        "not in it",
        "linear probes (arXiv 2606.05328)",
        "probes",
        (
            Number("path length of a maze, R² in the cell that other samples chose", "path_length.best_score"),
            Number("from latents alone (control)", "path_length.latent_score_there"),
        ),
    ),
    Claim(
        "B5",
        "Queries and keys track what moves",
        "not in it",
        "temporal correspondence (arXiv 2506.17220)",
        "correspondence",
        (
            Number("moved tokens found, in the cell that other samples chose", "best_accuracy", 0, True),
            Number("found by the nearest colour (control)", "colour", 0, True),
        ),
    ),
    Claim(
        "B6",
        "Some heads separate frames",
        "not in it",
        "motion heads (arXiv 2603.02919)",
        "motion_heads",
        (Number("separability of the head that other samples chose, above the mean of all heads", "excess"),),
    ),
    Claim(
        "B7",
        "Tokens are made of sparse features that other samples share",
        "not in it",
        "sparse dictionaries",
        "features",
        (Number("features found again in the other half of the samples", "stable", 0, True),),
    ),
    Claim(
        "B8",
        "Layers and steps differ in what they represent",
        "not in it",
        "similarity across layers and steps (arXiv 2602.10095)",
        "similarity",
        (
            Number("likeness (debiased CKA) of neighbouring layers", "neighbours"),
            Number("of the farthest ones", "farthest"),
        ),
        ("similarity_of_steps", "channels"),
    ),
    Claim(
        "B9",
        "Which states carry the answer can be told without patching any",
        "not in it",
        "attribution patching (arXiv 2310.10348)",
        "attribution",
        (
            Number("rank correlation of gradients with real patches", "rho"),
            Number("above that of the size of the change alone (control)", "rho_above_size"),
        ),
    ),
)
"""Questions that the paper leaves open, asked of the same runs. Only plans that have their parts show them."""
ALL: Final = CLAIMS + BEYOND


def chosen(only: str | None) -> tuple[Claim, ...]:
    """Claims by `E3,E7,B1`; `E11` is all three of it, None all there are.

    Raises:
        ValueError: naming what there is no claim for.
    """
    if only is None:
        return ALL
    wanted = [word.strip().upper() for word in only.split(",") if word.strip()]
    names = {claim: {claim.id.upper(), claim.id.rstrip("abc")} for claim in ALL}
    found = [claim for claim in ALL if names[claim] & set(wanted)]
    if wrong := [one for one in wanted if not any(one in known for known in names.values())]:
        raise ValueError(f"there is no {wrong[0]}; there are E1 to E11, and B1 to B9 beyond the paper")
    if not found:
        raise ValueError("no claim is named; write --only E3,E7")
    return tuple(found)


def parts(claims: tuple[Claim, ...]) -> set[str]:
    """Ids of the parts of a plan that claims are tested by or shown beside."""
    return {id for claim in claims for id in (claim.test, *claim.beside)}
