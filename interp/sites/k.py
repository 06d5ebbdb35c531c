"""Keys of self-attention."""

from interp.sites import LayerSite, sites


class K(LayerSite):
    """Keys of all heads side by side, normalised, before rotary position embedding: channel = head × head_dim."""

    name = "k"
    by_head = True


sites.add(K.name, K())
