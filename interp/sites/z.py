"""What each head of self-attention gives."""

from interp.sites import LayerSite, sites


class Z(LayerSite):
    """Each head's sum of values under its attention, before the output projection: channel = head × head_dim."""

    name = "z"
    slot = "input"
    by_head = True


sites.add(Z.name, Z())
