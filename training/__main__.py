"""Train, export, measure and describe `tinywan`.

    python -m training --out build/tinywan --device cuda --compile
    python -m training measure install card --out build/tinywan

Stages run in the order in which they are named here; each continues or skips what an earlier try has done.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from interp.worlds import worlds
from training import card, evaluate, measure, model, transformer, vae
from training.config import Config, preset

MODELS = Path(__file__).parent.parent / "interp" / "models"
CARD = Path(__file__).parent.parent / "docs" / "model-card.md"
STAGES = ("vae", "transformer", "export", "evaluate", "measure", "install", "card")
TRAINING = STAGES[:4]
log = logging.getLogger("training")


def main() -> None:
    """Run the stages that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", help=f"of {', '.join(STAGES)}; by default {', '.join(TRAINING)}")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, results and the model")
    parser.add_argument("--preset", choices=("full", "dry"), default="full", help="dry runs every line in minutes")
    parser.add_argument("--families", nargs="+", default=["maze"], help=f"of {', '.join(worlds.names())}")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument("--vae-steps", type=int, help="instead of the preset's")
    parser.add_argument("--steps", type=int, help="of the transformer, instead of the preset's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = sorted(set(options.stages) - set(STAGES))
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = preset(
        options.preset,
        out=options.out,
        families=tuple(options.families),
        seed=options.seed,
        device=options.device,
        compile=options.compile,
    )
    if options.vae_steps:
        config = replace(config, vae=replace(config.vae, steps=options.vae_steps))
    if options.steps:
        config = replace(config, transformer=replace(config.transformer, steps=options.steps))
    for stage in STAGES:
        if stage in (options.stages or TRAINING):
            log.info("stage %s", stage)
            run(stage, config)


def run(stage: str, config: Config) -> None:
    """Run one stage."""
    if stage == "evaluate":
        evaluate.evaluate(config)
    elif stage == "measure":
        measure.measure(config)
    elif stage == "install":
        shutil.copytree(config.model_folder, MODELS / "tinywan", dirs_exist_ok=True)
    elif stage == "card":
        CARD.write_text(card.render(config))
    else:
        _train(stage, config)


def _train(stage: str, config: Config) -> None:
    parts = model.build(config.model, seed=config.seed)
    for part in (parts.vae, parts.text_encoder, parts.transformer):
        part.to(config.device)
    if stage == "vae":
        return vae.train(config, parts)
    vae.load(config, parts)
    parts.vae.eval().requires_grad_(False)
    if stage == "transformer":
        return transformer.train(config, parts)
    transformer.load(config, parts)
    model.export(parts, config, guidance=config.evaluation.guidances[0])
    return None


if __name__ == "__main__":
    main()
