"""Stages `choose` and `evaluate`: what the exported folder can do, sampled through the real pipeline.

Guidance is chosen on validation samples, see `chosen`; the table is measured on test samples. Both come
from seeds that training never uses. Ranks share the work, and the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.worlds import SPLITS, worlds
from training import ambiguity, data, experts, failures, families, loop, model, parallel, scoring, ship, success
from training.config import Config
from training.sampling import Sampler
from training.scoring import Cell
from training.session import Session
from training.success import Request, Settings

FAILURES = "model-failures.webp"
log = logging.getLogger("training")


def path(config: Config) -> Path:
    """What `evaluate` writes, for the card."""
    return config.out / "evaluation.json"


def choices(config: Config) -> Path:
    """What `choose` writes."""
    return config.out / "choices.json"


def choose(session: Session) -> None:
    """Sample validation samples with each guidance and write the one of `chosen` into the exported folder."""
    config = session.config
    options, cells = config.evaluation, success.validation(config)
    asked = [Settings(options.steps, guidance) for guidance in options.guidances]
    with scoring.executor(options.workers) as pool:
        found = success.measure(Sampler(session), pool, [Request(settings, cells) for settings in asked])
    rows = [success.by_family(found, settings, cells) for settings in asked]
    row = chosen(rows)
    log.info("guidance %s", {row["guidance"]: row["solved"]["value"] for row in rows})
    if parallel.first():
        model.set_guidance(config, row["guidance"])
        _write(choices(config), {"guidance": row["guidance"], "by_guidance": rows})
    parallel.barrier()


def chosen(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The row that is shipped: the lowest guidance that solves no fewer than the lower end of the best one's interval.

    Guidance sharpens: what it gains within the noise of the measurement it pays for with valid answers that no longer
    come, so of those that cannot be told from the best, the lowest is the fairest.

    Args:
        rows: One for each guidance, as `success.by_family` makes them; `solved` has its 95 % Wilson interval.
    """
    best = max(rows, key=lambda row: (row["solved"]["value"], row["overall"]))
    enough = [row for row in rows if row["solved"]["value"] >= best["solved"]["low"]]
    return min(enough, key=lambda row: row["guidance"])


def evaluate(session: Session) -> None:
    """Measure the exported folder and its variants; writes `evaluation.json` and a picture of failures.

    What an earlier try has measured of the same files with the same options is taken from there.
    """
    config, options = session.config, session.config.evaluation
    choice = json.loads(choices(config).read_text())
    shipped = Settings(options.steps, choice["guidance"])
    sampler = Sampler(session)
    with scoring.executor(options.workers) as pool:
        parts = {
            "table": lambda: _table(sampler, pool, shipped),
            "variants": lambda: _variants(sampler, pool, shipped),
            "ambiguous": lambda: ambiguity.measure(sampler, pool, steps=shipped.steps, guidance=shipped.guidance),
            "reconstruction": lambda: reconstruction(sampler, pool),
        }
        done = {name: _once(config, name, call) for name, call in parts.items()}
    if parallel.first():
        table = done["table"]["found"]
        failed = [failures.Failure(Cell(*cell), overall) for cell, overall in table["failed"]]
        failures.draw(sampler, failed, shipped, config.out / FAILURES)
        result = {
            "families": list(config.families),
            "steps": options.steps,
            "guidance": choice["guidance"],
            "dtype": options.dtype,
            "cells": table["cells"],
            "by_guidance": choice["by_guidance"],
            **done["variants"]["found"],
            **({"high_steps": experts.high_steps(config)} if families.named(config.model).variants else {}),
            "ambiguous": done["ambiguous"]["found"],
            "reconstruction": done["reconstruction"]["found"],
            "training": training(config),
            "device": torch.cuda.get_device_name() if config.device == "cuda" else "CPU",
            "devices": parallel.size(),
            "seconds": sum(part["seconds"] for part in done.values()),
        }
        _write(path(config), result)
    parallel.barrier()


def _once(config: Config, name: str, call: Callable[[], Any]) -> dict[str, Any]:
    """What `call` finds and how long it takes, from the file of an earlier try where there is one."""
    file, wanted = config.measured / f"{name}.json", _fingerprint(config)
    if file.exists() and (known := json.loads(file.read_text()))["fingerprint"] == wanted:
        return known
    start = time.monotonic()
    result = {"found": call(), "seconds": time.monotonic() - start, "fingerprint": wanted}
    if parallel.first():  # all ranks are through: each measurement ends by gathering
        _write(file, result)
    log.info("measured %s in %.0f s", name, result["seconds"])
    return result


def _fingerprint(config: Config) -> str:
    """Hash of the exported folder and of all that decides what is measured."""
    options = replace(config.evaluation, batch=0, workers=0)
    sha = hashlib.sha256(repr((config.families, options)).encode())
    for file in sorted(file for file in config.model_folder.rglob("*") if file.is_file()):
        sha.update(f"{file.relative_to(config.model_folder)}\n".encode() + file.read_bytes())
    return sha.hexdigest()


def _table(sampler: Sampler, pool: Executor, shipped: Settings) -> dict[str, Any]:
    """Success on the test samples, cell by cell, and a choice of failed ones."""
    options = sampler.config.evaluation
    cells = tuple(
        Cell(family, split, difficulty, success.TEST_SEED, options.n)
        for family in sampler.config.families
        for split in SPLITS
        for difficulty in worlds[family].difficulties
    )
    found = success.measure(sampler, pool, [Request(shipped, cells)])
    return {
        "cells": [
            {"family": c.family, "split": c.split, "difficulty": c.difficulty, **success.summary(found[shipped, c])}
            for c in cells
        ],
        "failed": failures.pick({cell: found[shipped, cell] for cell in cells}, options.n_failures),
    }


def _variants(sampler: Sampler, pool: Executor, shipped: Settings) -> dict[str, Any]:
    """Other numbers of steps, the LoRAs, and the weights before rounding, on the validation samples."""
    config = sampler.config
    cells = success.validation(config)
    by_steps = [shipped._replace(steps=steps) for steps in config.evaluation.other_steps]
    variants = {"as_trained": shipped._replace(variant="as trained")}
    if families.named(config.model).variants:
        variants["few_step"] = Settings(config.few_step.sampler_steps, 1.0, "few-step")
        variants["two_experts"] = shipped._replace(variant="two experts")
    found = success.measure(sampler, pool, [Request(settings, cells) for settings in (*by_steps, *variants.values())])
    return {
        "by_steps": [success.by_family(found, settings, cells) for settings in by_steps],
        **{name: success.by_family(found, settings, cells) for name, settings in variants.items()},
    }


def training(config: Config) -> dict[str, Any]:
    """How long the stages took and how much they saw, as their records tell."""
    records = ship.records(config)
    return {
        "stages": {name: {"legs": loop.legs(record)} for name, record in records.items()},
        "samples": {name: record["samples"] for name, record in records.items() if "samples" in record},
        "seed": config.seed,
    }


def reconstruction(sampler: Sampler, pool: Executor) -> dict[str, Any]:
    """What the VAE loses on true videos, family by family: pixel error (0-255), PSNR in dB, scores of what is back."""
    config = sampler.config
    cells = [
        Cell(family, split, difficulty, success.VALIDATION_SEED, config.evaluation.n_reconstruction)
        for family in config.families
        for split in SPLITS
        for difficulty in worlds[family].difficulties
    ]
    mine = parallel.own(cells)
    asked = [(cell, pool.submit(scoring.truths, cell)) for cell in mine]
    vae = sampler.pipe("shipped").vae
    submitted = []
    for cell, future in asked:
        with torch.no_grad():
            true = torch.from_numpy(future.result()).to(config.device)
            pixels = data.to_model(true)
            decoded = data.decode(vae, data.encode(vae, pixels))
            error = (decoded - pixels) * 127.5
            numbers = float(error.abs().mean()), float(error.pow(2).mean())
            submitted.append((cell, *numbers, pool.submit(scoring.scores, cell, data.to_uint8(decoded).cpu().numpy())))
    known = parallel.gather(
        [
            (cell, absolute, squared, [score["overall"] for score in scores.result()])
            for cell, absolute, squared, scores in submitted
        ]
    )
    families = {family: _lost([each for each in known if each[0].family == family]) for family in config.families}
    return {**_lost(known), "families": families}


def _lost(known: Sequence[tuple[Cell, float, float, list[float]]]) -> dict[str, float]:
    overall = [score for *_, scores in known for score in scores]
    weights = [cell.n for cell, *_ in known]
    return {
        "n": len(overall),
        "mean_absolute_error": float(np.average([absolute for _, absolute, *_ in known], weights=weights)),
        "psnr": float(10 * np.log10(255**2 / np.average([squared for _, _, squared, _ in known], weights=weights))),
        "overall_mean": float(np.mean(overall)),
        "overall_min": float(np.min(overall)),
    }


def _write(file: Path, result: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, file)
