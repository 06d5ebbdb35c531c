"""What self-attention adds to the residual stream."""

from interp.sites import LayerSite, sites


class AttnOut(LayerSite):
    """Output of the self-attention, after its output projection and before the gate that scales it."""

    name = "attn_out"


sites.add(AttnOut.name, AttnOut())
