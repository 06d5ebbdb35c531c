"""Arguments that several commands take, each with its one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON instead of a table.")]

# Of a store.
Store = Annotated[Path, Parameter(name="--store", help="Folder of the store, or s3://bucket/prefix.")]
StorePath = Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix.")]
Into = Annotated[Path, Parameter(help="Folder of the store, or s3://bucket/prefix; made if it is missing.")]
Where = Annotated[
    str | None,
    Parameter(help="SQL condition on the columns of runs and samples, e.g. \"family = 'maze' AND seed < 2\"."),
]

# Of samples.
World = Annotated[str | None, Parameter(help="Task family to draw samples from.")]
Samples = Annotated[
    Path | None,
    Parameter(help="Folder in VBVR-Bench's layout instead of a world: a benchmark, or a split, task or sample of it."),
]
WorldSeed = Annotated[int, Parameter(help="Stream of samples to draw from.")]
Difficulty = Annotated[str | None, Parameter(help="Difficulty of the samples; all in turn if not given.")]
Split = Annotated[str, Parameter(help="in_domain or out_of_domain.")]
Seeds = Annotated[str, Parameter(help="Seeds of each sample, e.g. 0,1 or 0-3.")]

# Of a model and its sampler.
Model = Annotated[str, Parameter(help="Bundled model, folder, or hub id.")]
Revision = Annotated[str | None, Parameter(help="Branch, tag or commit of a hub id.")]
Lora = Annotated[
    list[str] | None,
    Parameter(negative="", help="LoRA to apply: `SOURCE`, `SOURCE*0.8` or `transformer_2=SOURCE*0.8`; repeatable."),
]
Offload = Annotated[
    Literal["model", "group", "sequential"] | None,
    Parameter(help="Keep whole parts, blocks or layers in the host's memory until the GPU needs them."),
]
DeviceMap = Annotated[
    Literal["balanced", "cuda", "cpu"] | None,
    Parameter(help="Load parts to where they stay; balanced divides them among all GPUs, e.g. two large experts."),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    Parameter(help="Dtype of the weights; float32 on a CPU, bfloat16 on a GPU."),
]
Steps = Annotated[int | None, Parameter(help="Denoising steps.")]
Guidance = Annotated[float | None, Parameter(help="Guidance scale; 1 or below turns guidance off.")]
Pixels = Annotated[int | None, Parameter(help="Pixels.")]
Frames = Annotated[int | None, Parameter(help="Video frames.")]

# Of where and how runs are made.
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, …; the GPU if there is one.")]
Executor = Annotated[
    str, Parameter(help="local, gpus (one process each), dask (processes here) or dask:ADDRESS of a scheduler.")
]
Batch = Annotated[
    int, Parameter(help="Runs that one call of the pipeline makes, where it can; each is kept by itself.")
]
