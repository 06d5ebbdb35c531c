"""What an analysis returns: a frozen object with numbers, a sentence and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd
import xarray as xr

from store import Json, ResultRecord

_STYLE = """
.stepscope-result{font:14px/1.5 system-ui,sans-serif;max-width:60rem;padding:.8em 1em;border-radius:6px;
color:var(--jp-content-font-color1,CanvasText);background:var(--jp-layout-color1,Canvas);
border:1px solid color-mix(in srgb,currentColor 25%,transparent);color-scheme:light dark}
.stepscope-result b.verdict{text-transform:uppercase;letter-spacing:.06em;font-size:.8em}
.stepscope-result th{text-align:left;font-weight:500;padding-right:1em;vertical-align:top}
.stepscope-result td{text-align:left;font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True, repr=False)
class Result:
    """Numbers of one analysis over chosen runs, with what they mean.

    A quantity `q` with an interval comes as the variables `q`, `q_low` and `q_high` of the dataset; its
    attributes say `long_name`, `units`, `n` and how the interval was made.
    """

    record: ResultRecord
    """Analysis, parameters, run ids, verdict, finding and headline numbers."""
    data: xr.Dataset
    """Every array, lazily read where it comes from a store."""

    @property
    def id(self) -> str:
        """Hash of analysis, version, parameters and run ids: known before it is computed."""
        return self.record.id

    @property
    def verdict(self) -> str:
        """`replicates`, `does not replicate`, `inconclusive`, or `descriptive` where no claim is tested."""
        return self.record.verdict

    @property
    def finding(self) -> str:
        """One sentence with the number, its interval and n."""
        return self.record.finding

    def summary(self) -> Json:
        """The headline numbers by name."""
        return dict(self.record.summary)

    def to_dataset(self) -> xr.Dataset:
        """Every array of the result, with dimensions, coordinates and units."""
        return self.data

    def to_dataframe(self, quantity: str | None = None) -> pd.DataFrame:
        """One quantity as a long table: a row a cell, with `_low` and `_high` beside it where there are any.

        Args:
            quantity: Name of a variable; None takes the analysis' own headline quantity.

        Raises:
            KeyError: if the result has no such variable; the message names those that it has.
        """
        name = str(self.data.attrs["headline"]) if quantity is None else quantity
        if name not in self.data:
            known = ", ".join(sorted(str(key) for key in self.data.data_vars))
            raise KeyError(f"no quantity {name!r} in a result of {self.record.analysis}; there are {known}")
        together = [key for key in (name, f"{name}_low", f"{name}_high") if key in self.data]
        subset = self.data[together]
        return (subset.to_dataframe() if subset[name].ndim else subset.expand_dims("row").to_dataframe()).reset_index()

    def __repr__(self) -> str:
        record = self.record
        runs = len(record.run_ids)
        return f"Result({record.analysis} {self.id}, {runs} runs, n = {record.n}, {record.verdict}: {record.finding})"

    def _repr_html_(self) -> str:
        """A card for notebooks: escaped, and in the notebook's own colours."""
        record = self.record
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(_short(value))}</td></tr>" for key, value in record.summary.items()
        )
        runs = len(record.run_ids)
        sizes = ", ".join(f"{escape(str(name))} {size}" for name, size in self.data.sizes.items())
        return (
            f"<style>{_STYLE}</style><div class='stepscope-result'><b class='verdict'>{escape(record.verdict)}</b> · "
            f"{escape(record.analysis)} · n = {record.n} samples, {runs} runs<p>{escape(record.finding)}</p>"
            f"<table>{rows}</table><small>{len(self.data.data_vars)} quantities over {sizes}; "
            f"id {escape(self.id)}</small></div>"
        )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
