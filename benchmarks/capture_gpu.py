"""What capturing costs at full size: a Wan2.2-A14B transformer with random weights, 480×832×81, bf16, on one GPU.

Groups of cases take turns, each beside the bare pipeline in the same rounds:

- `default`, twenty steps: the default spec (energy, channel statistics and a 64-dim projection of all 40 layers at
  every step);
- `layers`, four steps: ten layers in full at one step;
- `everything`, two steps: all layers in full as bf16 and as int8, a raw write of the disk between them, and the first
  peer, forward hooks with `.cpu()` that keep nothing;
- `peers`, one step: the peers that keep everything, `torch.save` of the hooks' list, and nnsight's own cache.

Each of our cases is one whole generation until the run is visible in the store. The VAE is a small one with the real
compression. STEPSCOPE_BENCH_DIR chooses the disk, STEPSCOPE_BENCH_ROUNDS the rounds, STEPSCOPE_BENCH_PARTS the groups.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from nnsight import NNsight
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

import interp
import store
from _frame import Report, interleaved, main

FULL: dict[str, Any] = {"height": 480, "width": 832, "frames": 81}
SMALL: dict[str, Any] = {"height": 64, "width": 96, "frames": 9}
ROUNDS = 5
DEFAULT = ("resid_post/energy", "resid_post/channel_stats", "resid_post/project")
"""Of the layers; the default spec's x̂0 is a thousandth of it."""
MANY, SOME, FEW = 20, 4, 2
"""Steps of the first, the second and the third group."""
REAL: dict[str, Any] = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40}
TINY: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 4}


def pipeline(*, quick: bool) -> WanImageToVideoPipeline:
    """The pipeline; `quick` makes the transformer small."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    text_dim = 32 if quick else 4096
    with torch.device(device):
        torch.set_default_dtype(dtype)
        transformer = WanTransformer3DModel(
            **(TINY if quick else REAL), in_channels=36, out_channels=16, text_dim=text_dim
        ).eval()
        torch.set_default_dtype(torch.float32)
        vae: Any = AutoencoderKLWan(
            base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        )
        text: Any = UMT5EncoderModel(
            UMT5Config(vocab_size=32, d_model=text_dim, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        )
    letters: Any = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    return WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text.to(dtype).eval(),
        vae=vae.to(dtype).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        transformer=transformer,
    )


class Bench:
    """A model, one sample, and a folder to capture into."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.pipe = pipeline(quick=quick)
        self.model = interp.load(self.pipe)
        self.folder, self.quick = folder, quick
        self.size = SMALL if quick else FULL
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (self.size["height"], self.size["width"], 3), dtype=np.uint8)
        self.sample = store.Sample(store.SampleRecord(family="custom", prompt="a"), first_frame=picture)
        self._seeds = itertools.count()
        self.written: dict[str, int] = {}
        self.rounds = 1 if quick else int(os.environ.get("STEPSCOPE_BENCH_ROUNDS", ROUNDS))

    def settings(self, steps: int) -> store.SamplerSettings:
        """One forward a step: the cond branch."""
        return self.model.settings(**self.size, steps=steps, guidance=1.0, max_sequence_length=512)

    def bare(self, steps: int) -> None:
        """The pipeline alone."""
        self.model.generate(self.sample, settings=self.settings(steps))

    def capture(self, case: str, steps: int, *spec: str) -> Callable[[], None]:
        """A captured generation."""

        def run() -> None:
            shutil.rmtree(self.folder / case, ignore_errors=True)
            wanted, settings = interp.parse(spec), self.settings(steps)
            self.written[case] = interp.plan(self.model.adapter, wanted, settings).nbytes
            done = interp.capture(
                self.model,
                [self.sample],
                wanted,
                into=self.folder / case,
                seeds=[next(self._seeds)],
                settings=settings,
            )
            assert done.made == 1

        return run

    def warm(self) -> None:
        """What a first time costs: kernels are chosen, memory is taken."""
        self.bare(1)
        self.capture("warm", 1, *DEFAULT)()
        shutil.rmtree(self.folder / "warm")

    def time(self, cases: dict[str, Callable[[], None]]) -> dict[str, Any]:
        """Seconds of each case; what it wrote is deleted outside the time."""
        return interleaved(
            cases,
            rounds=self.rounds,
            warmups=0,
            after=lambda case: shutil.rmtree(self.folder / case, ignore_errors=True),
        )


def measure(report: Report, *, quick: bool) -> None:
    """Time the groups one after the other."""
    groups = {"default": _default, "layers": _layers, "everything": _everything, "peers": _keeping_peers}
    chosen = os.environ.get("STEPSCOPE_BENCH_PARTS", " ".join(groups)).split()
    if unknown := set(chosen) - set(groups):
        raise SystemExit(f"STEPSCOPE_BENCH_PARTS are {', '.join(groups)}, not {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        bench = Bench(Path(name), quick=quick)
        for group in (group for group in groups if group in chosen):
            bench.warm()
            groups[group](report, bench)
            if group == "everything":
                report.add("capture.gpu.peak_host", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "GB", 1)


def _default(report: Report, bench: Bench) -> None:
    seconds = bench.time({"bare": lambda: bench.bare(MANY), "default": bench.capture("default", MANY, *DEFAULT)})
    report.add_median("capture.gpu.bare.seconds", seconds["bare"])
    report.add_ratio("capture.gpu.default.overhead", seconds["default"], seconds["bare"], offset=-1)


def _layers(report: Report, bench: Bench) -> None:
    layers = len(bench.pipe.transformer.blocks)
    wanted = f"resid_post/full@layers={layers // 2}-{min(layers - 1, layers // 2 + 9)}@steps={SOME // 2}"
    case = "ten_layers"
    seconds = bench.time({"bare": lambda: bench.bare(SOME), case: bench.capture(case, SOME, wanted)})
    report.add_ratio("capture.gpu.ten_layers.overhead", seconds[case], seconds["bare"], offset=-1)


def _everything(report: Report, bench: Bench) -> None:
    disk: list[float] = []
    seconds = bench.time(
        {
            "bare": lambda: bench.bare(FEW),
            "raw": lambda: disk.append(_raw_write(bench.folder / "blocks", 1 << (24 if bench.quick else 33))),
            "everything": bench.capture("everything", FEW, "resid_post/full"),
            "int8": bench.capture("int8", FEW, "resid_post/full@int8"),
            "hooks_cpu": lambda: _hooked(bench.pipe, lambda: bench.bare(FEW), keep=None),
        }
    )
    for case in ("everything", "int8", "hooks_cpu"):
        report.add_ratio(f"capture.gpu.{case}.overhead", seconds[case], seconds["bare"], offset=-1)
    raw = np.array(disk[-bench.rounds :])
    report.add("capture.gpu.disk.raw", float(np.median(raw)) / 1e9, "GB/s", len(raw))
    rate = bench.written["everything"] / seconds["everything"]
    report.add_ratio("capture.gpu.everything.ratio_raw", rate, raw)


def _keeping_peers(report: Report, bench: Bench) -> None:
    def save() -> None:
        kept: list[torch.Tensor] = []
        _hooked(bench.pipe, lambda: bench.bare(1), keep=kept)
        torch.save(kept, bench.folder / "kept.pt")

    args, kwargs = _inputs(bench)
    traced: Any = NNsight(bench.pipe.transformer)

    def forward() -> None:
        with torch.no_grad():
            bench.pipe.transformer(*args, **kwargs)
        _wait()

    def cached() -> None:
        with torch.no_grad(), traced.trace(*args, **kwargs) as tracer:
            tracer.cache(modules=list(traced.blocks), device=torch.device("cpu"))
        _wait()

    seconds = bench.time(
        {"bare": lambda: bench.bare(1), "hooks_save": save, "forward": forward, "nnsight_cache": cached}
    )
    (bench.folder / "kept.pt").unlink()
    report.add_ratio("capture.gpu.hooks_save.overhead", seconds["hooks_save"], seconds["bare"], offset=-1)
    report.add_ratio("capture.gpu.nnsight_cache.overhead", seconds["nnsight_cache"], seconds["forward"], offset=-1)


def _inputs(bench: Bench) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the transformer is called with in a generation of one step."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = bench.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    bench.bare(1)
    hook.remove()
    return seen[0]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _hooked(pipe: Any, run: Callable[[], None], *, keep: list[torch.Tensor] | None) -> None:
    """The peer: plain hooks on every block with `.cpu()`, into a list if there is one."""

    def hook(module: Any, args: Any, output: torch.Tensor) -> None:
        value = output.cpu()
        if keep is not None:
            keep.append(value)

    with ExitStack() as stack:
        for block in pipe.transformer.blocks:
            stack.callback(block.register_forward_hook(hook).remove)
        run()


def _raw_write(path: Path, nbytes: int) -> float:
    """Bytes a second of one direct, fsynced write of random bytes."""
    import mmap

    block = 64 << 20 if nbytes > 64 << 20 else nbytes
    buffer = mmap.mmap(-1, block)
    buffer.write(np.random.default_rng(0).bytes(block))
    started = time.perf_counter()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_DIRECT", 0), 0o644)
    try:
        for _ in range(nbytes // block):
            os.write(handle, buffer)
        os.fsync(handle)
    finally:
        os.close(handle)
    spent = time.perf_counter() - started
    path.unlink()
    return nbytes / spent


if __name__ == "__main__":
    main(measure, description=__doc__)
