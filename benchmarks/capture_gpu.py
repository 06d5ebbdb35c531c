"""What capturing costs at full size: a Wan2.2-A14B transformer with random weights, 480×832×81, bf16, on one GPU.

Cases take turns in one run: the bare pipeline; the default spec (energy, channel statistics and a 64-dim
projection of all 40 layers at every step); int8 and bf16 of everything; ten layers at one step. Peers: forward
hooks with `.cpu()`, and the list of these through `torch.save`. Each case is one whole generation until the run is
visible in the store. The VAE is a small one with the real compression.
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
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

import interp
import store
from _frame import Report, interleaved, main

FULL: dict[str, Any] = {"height": 480, "width": 832, "frames": 81}
SMALL: dict[str, Any] = {"height": 64, "width": 96, "frames": 9}
ROUNDS = 5


def pipeline(*, quick: bool) -> WanImageToVideoPipeline:
    """The pipeline; `quick` makes the transformer small."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    text_dim = 32 if quick else 4096
    with torch.device(device):
        shapes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 4}
        real: dict[str, Any] = {
            "num_attention_heads": 40,
            "attention_head_dim": 128,
            "ffn_dim": 13824,
            "num_layers": 40,
        }
        torch.set_default_dtype(dtype)
        transformer = WanTransformer3DModel(
            **(shapes if quick else real), in_channels=36, out_channels=16, text_dim=text_dim
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


def measure(report: Report, *, quick: bool) -> None:
    """Time the cases in turns, the disk between them."""
    size = SMALL if quick else FULL
    pipe = pipeline(quick=quick)
    model = interp.load(pipe)
    layers = len(pipe.transformer.blocks)
    settings = model.settings(**size, steps=2, guidance=1.0, max_sequence_length=512)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (size["height"], size["width"], 3), dtype=np.uint8)
    sample = store.Sample(store.SampleRecord(family="custom", prompt="a"), first_frame=picture)
    middle = f"{layers // 2}-{min(layers - 1, layers // 2 + 9)}"
    specs = {
        "default": ["resid_post/energy", "resid_post/channel_stats", "resid_post/project"],
        "ten_layers": [f"resid_post/full@layers={middle}@steps=0"],
        "everything": ["resid_post/full"],
    }
    seeds = itertools.count()
    with tempfile.TemporaryDirectory(dir=os.environ.get("STEPSCOPE_BENCH_DIR")) as name:
        folder = Path(name)
        written: dict[str, int] = {}

        def bare() -> None:
            model.generate(sample, settings=settings)

        def captured(case: str) -> Callable[[], None]:
            def run() -> None:
                shutil.rmtree(folder / case, ignore_errors=True)
                spec = interp.parse(specs[case])
                written[case] = interp.plan(model.adapter, spec, settings).nbytes
                done = interp.capture(model, [sample], spec, into=folder / case, seeds=[next(seeds)], settings=settings)
                assert done.made == 1

            return run

        def hooks() -> None:
            _hooked(pipe, bare)

        disk: list[float] = []

        def raw() -> None:
            disk.append(_raw_write(folder / "raw", 1 << (24 if quick else 33)))

        cases: dict[str, Callable[[], None]] = {"bare": bare, "hooks_cpu": hooks, "raw": raw}
        cases |= {case: captured(case) for case in specs}
        seconds = interleaved(cases, rounds=1 if quick else ROUNDS)
    report.add_median("capture.gpu.bare.seconds", seconds["bare"])
    for case in (*specs, "hooks_cpu"):
        report.add_ratio(f"capture.gpu.{case}.overhead", seconds[case], seconds["bare"], offset=-1)
    speed = float(np.median(disk[1:] or disk))
    report.add("capture.gpu.disk.raw", speed / 1e9, "GB/s", len(disk))
    rate = written["everything"] / np.median(seconds["everything"])
    report.add("capture.gpu.everything.ratio_raw", rate / speed, "ratio", len(seconds["everything"]))
    report.add("capture.gpu.peak_host", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "GB", 1)


def _hooked(pipe: Any, run: Callable[[], None]) -> None:
    """The peer: plain hooks on every block with `.cpu()`; each value is dropped, as memory would not hold them."""

    def keep(module: Any, args: Any, output: torch.Tensor) -> None:
        output.cpu()

    with ExitStack() as stack:
        for block in pipe.transformer.blocks:
            stack.callback(block.register_forward_hook(keep).remove)
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
