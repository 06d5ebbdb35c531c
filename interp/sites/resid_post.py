"""The residual stream after a block."""

from interp.sites import LayerSite, sites


class ResidPost(LayerSite):
    """Output of the whole block, `[frame, y, x, channel]` in the model's dtype."""

    name = "resid_post"


sites.add(ResidPost.name, ResidPost())
