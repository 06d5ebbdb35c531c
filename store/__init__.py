"""The activation store: runs, samples and results in one folder, written once, asked in SQL.

    >>> import tempfile, store
    >>> acts = store.open(tempfile.mkdtemp(), mode="a")
    >>> acts.sql("SELECT count(*) FROM runs").fetchall()
    [(0,)]

Importing it, and writing, needs neither DuckDB nor Zarr, xarray or torch.
"""

from store import dims
from store.acts import ActivationStore, ArraySize, StoreInfo, free, open
from store.asking import Asking
from store.errors import (
    AccessDenied,
    CorruptManifest,
    DamagedArray,
    IncompleteRun,
    InvalidArray,
    InvalidRecord,
    MissingFile,
    NewerFormat,
    NotAStore,
    QueryError,
    RaggedRuns,
    ReadOnlyStore,
    ResultNotFound,
    RunExists,
    RunNotFound,
    SampleNotFound,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnreachable,
    UnknownArray,
    UnknownLabel,
)
from store.manifest import RunEntry
from store.provenance import take_provenance
from store.records import (
    FORMAT,
    Adapter,
    ArrayInfo,
    CaptureItem,
    CaptureSpec,
    Encoding,
    Json,
    ModelRef,
    Provenance,
    Record,
    ResultRecord,
    Run,
    Sample,
    SampleRecord,
    SamplerSettings,
    Score,
    StepInfo,
    TokenBox,
    digest,
)
from store.run_writer import RunWriter

__all__ = [
    "FORMAT",
    "AccessDenied",
    "ActivationStore",
    "Adapter",
    "ArrayInfo",
    "ArraySize",
    "Asking",
    "CaptureItem",
    "CaptureSpec",
    "CorruptManifest",
    "DamagedArray",
    "Encoding",
    "IncompleteRun",
    "InvalidArray",
    "InvalidRecord",
    "Json",
    "MissingFile",
    "ModelRef",
    "NewerFormat",
    "NotAStore",
    "Provenance",
    "QueryError",
    "RaggedRuns",
    "ReadOnlyStore",
    "Record",
    "ResultNotFound",
    "ResultRecord",
    "Run",
    "RunEntry",
    "RunExists",
    "RunNotFound",
    "RunWriter",
    "Sample",
    "SampleNotFound",
    "SampleRecord",
    "SamplerSettings",
    "Score",
    "StepInfo",
    "StoreError",
    "StoreFull",
    "StoreInfo",
    "StoreNotFound",
    "StoreUnreachable",
    "TokenBox",
    "UnknownArray",
    "UnknownLabel",
    "digest",
    "dims",
    "free",
    "open",
    "take_provenance",
]
