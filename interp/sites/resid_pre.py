"""The residual stream before a block."""

from interp.sites import LayerSite, sites


class ResidPre(LayerSite):
    """Input of the whole block, `[frame, y, x, channel]` in the model's dtype."""

    name = "resid_pre"
    slot = "input"


sites.add(ResidPre.name, ResidPre())
