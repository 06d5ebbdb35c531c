"""Where self-attention looks."""

from interp.sites import LayerSite, sites


class Pattern(LayerSite):
    """Softmax over all keys, of the queries that the item of the spec names.

    Its module is the self-attention; its value is what that hands to the softmax: queries and keys behind their norms
    and rotation, as they are used. It is never made as a whole.
    """

    name = "pattern"
    attention = True


sites.add(Pattern.name, Pattern())
