"""A listener's view of one self-attention while it runs.

Shape legend: b runs of the batch, f frames, y rows, x columns.
"""

from __future__ import annotations

import torch

from interp.adapters import ModelAdapter, Place
from interp.attention import Attended, Watch
from interp.errors import UnsupportedModel
from interp.geometry import Geometry
from interp.listeners import Listener
from interp.recorder import Label

Tensor = torch.Tensor


class WatchedAttention(Watch):
    """One self-attention while it runs: its rows are shown as they go into the softmax, in one call or several."""

    def __init__(
        self,
        adapter: ModelAdapter,
        geometry: Geometry,
        listener: Listener,
        place: Place,
        labels: list[Label],
        runs: int,
    ) -> None:
        super().__init__(self._called)
        self._adapter, self._geometry, self._listener, self._place = adapter, geometry, listener, place
        self._labels, self._runs = labels, runs
        self._rows: list[Attended] = []
        """Those of the label that is being completed."""
        self._seen = 0

    def check(self) -> None:
        """Refuse an attention that did not go through PyTorch's softmax attention, or not as often as it has rows."""
        if self._seen != len(self._labels) * self._runs:
            raise UnsupportedModel(
                f"the self-attention of layer {self._place.layer} showed {self._seen} of "
                f"{len(self._labels) * self._runs} rows; "
                "pattern needs PyTorch's scaled_dot_product_attention: set the attention backend to native"
            )

    def _called(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        rows, tokens = query.shape[0], query.shape[2]
        if is_causal or key.shape[2] != tokens:
            raise UnsupportedModel(f"the self-attention of layer {self._place.layer} is causal or has other keys")
        index = torch.arange(rows * tokens).view(rows, tokens, 1)
        at_bfyx = self._adapter.tokens(index, self._geometry, self._place)[..., 0]
        if not self._adapter.joint and at_bfyx.numel() < index.numel():
            raise UnsupportedModel(f"the self-attention of layer {self._place.layer} has keys that are no video tokens")
        mask = None if attn_mask is None else attn_mask[(None,) * (4 - attn_mask.ndim)]
        for at_fyx in at_bfyx:
            label = self._labels[self._seen // self._runs]
            self._seen += 1
            if self._listener.wants(self._place.site, label):
                used = query.shape[-1] ** -0.5 if scale is None else scale
                self._rows.append(Attended(query, key, mask, used, at_fyx))
                if len(self._rows) == self._runs:
                    self._listener.layer(self._place.site, label, tuple(self._rows))
                    self._rows = []
