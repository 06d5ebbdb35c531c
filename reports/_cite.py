"""BibTeX for who quotes a page: the method, each model that was looked at, and stepscope itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from analyses import Result
from store import ActivationStore, ModelRef

METHOD: Final = """@article{wang2026demystifying,
  title = {Demystifying Video Reasoning},
  author = {Wang, Ruisi and Cai, Zhongang and Pu, Fanyi and Xu, Junxiang and Yin, Wanqi and Wang, Maijunxian and
            Ji, Ran and Gu, Chenyang and Li, Bo and Huang, Ziqi and Deng, Hokin and Lin, Dahua and
            Liu, Ziwei and Yang, Lei},
  journal = {arXiv preprint arXiv:2603.16870},
  year = {2026},
}"""
"""The paper whose experiments are measured (Chain-of-Steps)."""
WAN: Final = """@article{wan2025,
  title = {Wan: Open and Advanced Large-Scale Video Generative Models},
  author = {{Team Wan}},
  journal = {arXiv preprint arXiv:2503.20314},
  year = {2025},
}"""
"""The report on Wan's architecture."""
BUNDLED: Final = "tinywan"
"""A model that comes with stepscope and has no home of its own."""
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def bibtex(acts: ActivationStore, results: Sequence[Result], version: str) -> str:
    """All entries, each model that is behind `results` once.

    Args:
        acts: The store that holds the runs behind the results.
        results: The results of the page.
        version: Of stepscope.
    """
    run_ids = sorted({run_id for result in results for run_id in result.record.run_ids})
    each = {_told(run.model): run.model for run in (acts.run(run_id).run for run_id in run_ids)}
    models = [model for _, model in sorted(each.items())]
    keys = [_key(model) for model in models]
    unique = [f"{key}-{keys[:at].count(key) + 1}" if key in keys[:at] else key for at, key in enumerate(keys)]
    entries = [METHOD, *map(_entry, unique, models)]
    if any(model.pipeline.startswith("Wan") for model in models):
        entries.append(WAN)
    return "\n\n".join([*entries, _stepscope(version)])


def _told(model: ModelRef) -> tuple[str, ...]:
    """What tells two models apart, whatever dtype they ran in."""
    return model.id, model.revision, model.weight_hash, *map(str, model.adapters)


def _key(model: ModelRef) -> str:
    return re.sub(r"[^\w.-]+", "-", model.id.rpartition("/")[2], flags=re.ASCII).strip("-.") or "model"


def _entry(key: str, model: ModelRef) -> str:
    """A model by what the records say of it: its id, its revision and the hash of its weights."""
    return "\n".join([f"@misc{{{key},", *(f"  {name} = {{{value}}}," for name, value in _fields(model)), "}"])


def _fields(model: ModelRef) -> Iterator[tuple[str, str]]:
    yield "title", _plain(model.id)
    if model.id == BUNDLED:
        yield "author", "{The stepscope authors}"
    elif _HUB_ID.fullmatch(model.id):
        yield "author", f"{{{_plain(model.id.partition('/')[0])}}}"
        yield "howpublished", rf"\url{{https://huggingface.co/{model.id}}}"
    note = [f"revision {model.revision}"] if model.revision else []
    note += [f"weights with SHA-256 {model.weight_hash}"] if model.weight_hash else []
    note += [f"with adapter {adapter.path}, scale {adapter.scale:g}" for adapter in model.adapters]
    if note:
        yield "note", _plain("; ".join(note))


def _stepscope(version: str) -> str:
    return "\n".join(
        [
            "@software{stepscope,",
            "  title = {stepscope: a microscope for the denoising steps of video diffusion transformers},",
            "  author = {{The stepscope authors}},",
            "  year = {2026},",
            f"  version = {{{_plain(version)}}},",
            "}",
        ]
    )


def _plain(text: str) -> str:
    """Text that neither ends a field nor begins a command: without braces, backslashes and control characters."""
    kept = re.sub(r"[{}\\\x00-\x1f\x7f]+", " ", text)
    return re.sub(r"([%&$#_])", r"\\\1", " ".join(kept.split()))
