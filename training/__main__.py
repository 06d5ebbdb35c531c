"""Train, export, measure and describe a model that ships: `tinywan`, or the one that `--model` names.

    python -m training --out build/tinywan --compile
    torchrun --nproc-per-node 4 -m training --out build/tinywan --compile
    python -m training measure install card --out build/tinywan
    python -m training adopt restore vae export_vae --out build/more --vae-hold 1 --vae-minutes 5   # trains on

Stages run in the order in which they are named here; each continues or skips what an earlier try has done.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from interp.worlds import worlds
from training import card, evaluate, experts, families, few_step, measure, model, parallel, ship, transformer, vae
from training.config import MODELS, Config, Fit, preset
from training.session import Session

ROOT = Path(__file__).parent.parent
TRAINING = ("vae", "transformer", "export", "choose", "few_step", "experts", "evaluate")
VARIANTS = ("few_step", "experts")
"""Stages of families that have variants."""
DRY = ("maze", "tic_tac_toe", "rotation")
"""Families of a dry run."""
F = TypeVar("F", bound=Fit)
log = logging.getLogger("training")


def stages(session: Session, *, parcel: Path, root: Path) -> dict[str, Callable[[], object]]:
    """Every stage by name, in order. The first rank alone runs those that only write.

    Args:
        session: Of the run.
        parcel: Folder that `ship` writes and `unship` reads.
        root: Repository in which the model is installed and described.
    """
    config = session.config
    alone: dict[str, Callable[[], object]] = {
        "unship": partial(ship.unship, config, parcel),
        "adopt": partial(ship.adopt, config, root / "interp" / "models" / config.model.name),
        "restore": partial(ship.restore, config),
        "export": lambda: model.export(session.parts(), config, guidance=config.evaluation.guidances[0]),
        "export_vae": lambda: model.export_vae(session.parts(), config),
        "ship": partial(ship.ship, config, parcel),
        "measure": partial(measure.measure, config),
        "install": partial(ship.install, config, root / "interp" / "models" / config.model.name),
        "card": partial(card.write, config, root / "docs" / card.file_name(config)),
    }
    together: dict[str, Callable[[], object]] = {
        "vae": partial(vae.train, session),
        "transformer": partial(transformer.train, session),
        "choose": partial(evaluate.choose, session),
        "few_step": partial(few_step.train, session),
        "experts": partial(experts.train, session),
        "evaluate": partial(evaluate.evaluate, session),
    }
    every = together | {name: partial(first_alone, call) for name, call in alone.items()}
    before, after = TRAINING[:2], TRAINING[2:]
    order = ("unship", "adopt", "restore", *before, "export_vae", *after, "ship", "measure", "install", "card")
    left_out = () if families.named(config.model).variants else VARIANTS
    return {name: every[name] for name in order if name not in left_out}


def first_alone(call: Callable[[], object]) -> None:
    """Run `call` on the first rank while the others wait."""
    if parallel.first():
        call()
    parallel.barrier()


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", help=f"by default {', '.join(TRAINING)}")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, results and the model")
    parser.add_argument("--model", choices=tuple(MODELS), default="tinywan", help="which one")
    parser.add_argument("--preset", choices=("full", "dry"), default="full", help="dry runs every line in minutes")
    parser.add_argument("--families", nargs="+", help=f"all where not given: {', '.join(worlds.names())}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the autoencoder and the transformer's blocks")
    parser.add_argument("--vae-minutes", type=float, help="end the VAE by the clock, not by steps")
    parser.add_argument("--minutes", type=float, help="likewise for the transformer, filling its pool included")
    parser.add_argument("--few-step-minutes", type=float, help="likewise for the few-step LoRA")
    parser.add_argument("--expert-minutes", type=float, help="likewise for each expert")
    parser.add_argument("--vae-decoder-only", action="store_true", help="train on without a change to the latents")
    parser.add_argument("--vae-hold", type=float, default=0.0, help="train on at this price for a move of the latents")
    parser.add_argument("--vae-steps", type=int, help="instead of the preset's")
    parser.add_argument("--steps", type=int, help="of the transformer, instead of the preset's")
    parser.add_argument("--batch", type=int, help="of the transformer, on each device")
    parser.add_argument("--rate", type=float, help="of the transformer, at its peak")
    parser.add_argument("--vae-rate", type=float, help="of the VAE, at its peak")
    parser.add_argument("--pool", type=int, help="samples whose latents each device holds")
    parser.add_argument("--n", type=int, help="test samples for each family, split and difficulty")
    parser.add_argument("--eval-dtype", choices=("float32", "bfloat16"), help="of the denoiser when it is measured")
    parser.add_argument("--workers", type=int, help="scoring processes on each device; 0 scores in the main one")
    parser.add_argument("--ship", type=Path, metavar="DIR", help="folder that `ship` writes and `unship` reads")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def configure(options: argparse.Namespace) -> Config:
    """The run's configuration: a preset with what the command line changes."""
    cuda = options.device == "cuda"
    known = worlds.names()
    dry = tuple(name for name in DRY if name in known)
    config = preset(
        options.preset,
        trained=options.model,
        out=options.out,
        families=tuple(options.families or (dry if options.preset == "dry" else known)),
        seed=options.seed,
        device=options.device,
        compile=options.compile,
    )
    if cuda and options.preset == "full":
        config = replace(config, chunk=8192)
    cores = (os.cpu_count() or 1) // int(os.environ.get("WORLD_SIZE", "1"))
    evaluation = replace(
        config.evaluation,
        n=options.n or config.evaluation.n,
        dtype=options.eval_dtype or ("bfloat16" if cuda else "float32"),
        workers=(max(1, cores - 1) if cuda else 0) if options.workers is None else options.workers,
    )
    main = replace(
        config.transformer,
        batch=options.batch or config.transformer.batch,
        rate=options.rate or config.transformer.rate,
        pool=options.pool or config.transformer.pool,
    )
    vae = replace(
        config.vae,
        rate=options.vae_rate or config.vae.rate,
        decoder_only=options.vae_decoder_only,
        hold=options.vae_hold,
    )
    return replace(
        config,
        vae=_until(vae, options.vae_steps, options.vae_minutes),
        transformer=_until(main, options.steps, options.minutes),
        few_step=_until(config.few_step, None, options.few_step_minutes),
        experts=_until(config.experts, None, options.expert_minutes),
        evaluation=evaluation,
    )


def _until(fit: F, steps: int | None, minutes: float | None) -> F:
    """`fit` until `steps` or `minutes`, whichever comes first; where only minutes are given, until then."""
    if minutes is not None:
        return replace(fit, steps=steps, minutes=minutes)
    return replace(fit, steps=steps or fit.steps)


def main() -> None:
    """Run the stages that the command line names."""
    parser = arguments()
    options = parser.parse_args()
    config = configure(options)
    root = ROOT if options.preset == "full" else config.out / "installed"  # a dry run leaves the repository alone
    calls = stages(Session(config), parcel=options.ship or config.out / "ship", root=root)
    unknown = sorted(set(options.stages) - set(calls))
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(calls)}")
    with parallel.ranks(config.device):
        level = logging.INFO if parallel.first() else logging.WARNING
        logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        for name, call in calls.items():
            if name in (options.stages or TRAINING):
                log.info("stage %s", name)
                start = time.monotonic()
                call()
                log.info("stage %s took %.0f s", name, time.monotonic() - start)


if __name__ == "__main__":
    main()
