"""Values of self-attention."""

from interp.sites import LayerSite, sites


class V(LayerSite):
    """Values of all heads side by side: channel = head × head_dim."""

    name = "v"
    by_head = True


sites.add(V.name, V())
