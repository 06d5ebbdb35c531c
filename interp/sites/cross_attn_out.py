"""What attention to the prompt adds to the residual stream."""

from interp.sites import LayerSite, sites


class CrossAttnOut(LayerSite):
    """Output of the attention from video to text tokens; only where a family has one apart from self-attention."""

    name = "cross_attn_out"


sites.add(CrossAttnOut.name, CrossAttnOut())
