"""Queries of self-attention."""

from interp.sites import LayerSite, sites


class Q(LayerSite):
    """Queries of all heads side by side, normalised, before rotary position embedding: channel = head × head_dim."""

    name = "q"
    by_head = True


sites.add(Q.name, Q())
