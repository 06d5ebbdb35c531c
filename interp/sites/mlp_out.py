"""What the feed-forward network adds to the residual stream."""

from interp.sites import LayerSite, sites


class MlpOut(LayerSite):
    """Output of the feed-forward network, before the gate that scales it."""

    name = "mlp_out"


sites.add(MlpOut.name, MlpOut())
