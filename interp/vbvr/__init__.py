"""VBVR-Bench's layout: samples in, videos out, and the scores of its evaluation kit in again.

>>> from interp import vbvr
>>> samples = list(vbvr.samples(Path("VBVR-Bench"), n=4))                          # doctest: +SKIP
>>> vbvr.export(Path("out"), acts=acts, benchmark=Path("VBVR-Bench")).command      # doctest: +SKIP
>>> vbvr.bring(acts, Path("out")).rows                                             # doctest: +SKIP

The kit is github.com/Video-Reason/VBVR-EvalKit; nothing of it is here.
"""

from interp.vbvr._exporting import Exported, export
from interp.vbvr._layout import FILES, FPS, SPLITS, Place
from interp.vbvr._plan import PSEUDO, Plan, Shown, Video
from interp.vbvr._plan import read as read_plan
from interp.vbvr._reading import find, samples
from interp.vbvr._scores import SCORER, Mean, Row, Scored, bring, sentence

__all__ = [
    "FILES",
    "FPS",
    "PSEUDO",
    "SCORER",
    "SPLITS",
    "Exported",
    "Mean",
    "Place",
    "Plan",
    "Row",
    "Scored",
    "Shown",
    "Video",
    "bring",
    "export",
    "find",
    "read_plan",
    "samples",
    "sentence",
]
