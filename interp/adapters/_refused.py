"""Video pipelines of diffusers that have no adapter, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NO_DIT = "its denoiser is a U-Net, not a transformer: it has no blocks of tokens"
_WINDOWS = "it makes the video in several windows, each denoised from the start: a run would need an axis of windows"
_ENHANCES = "it does not generate a video but enlarges, refines or decodes one that another pipeline made"
_PICTURES = "it makes single pictures, not videos"
_DRIVEN = "it needs a driving video besides prompt and first frame, which a sample does not have"
_FACE = "it needs the features of a face, which insightface and facexlib would have to take from the picture"
_BROKEN = "it ends every video by its decode_latents, which it lacks in the installed diffusers"
_SIZES = "its steps run on grids of several sizes, from coarse to fine: a run would need a grid for each step"
_PASS = "it is one of several passes that together make a video, at sizes and with keyframes of its own"

REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "AnimateDiffControlNetPipeline",
            "AnimateDiffPipeline",
            "AnimateDiffSDXLPipeline",
            "AnimateDiffSparseControlNetPipeline",
            "AnimateDiffVideoToVideoControlNetPipeline",
            "AnimateDiffVideoToVideoPipeline",
            "StableVideoDiffusionPipeline",
        ),
        _NO_DIT,
    ),
    **dict.fromkeys(("AnyFlowFARPipeline", "LTXI2VLongMultiPromptPipeline"), _WINDOWS),
    **dict.fromkeys(
        (
            "Kandinsky6SRPipeline",
            "LTX2DFRTemporalRefinePipeline",
            "LTX2LatentUpsamplePipeline",
            "LTX2VideoDiffusionDecodePipeline",
            "LTXLatentUpsamplePipeline",
        ),
        _ENHANCES,
    ),
    **dict.fromkeys(("Cosmos2TextToImagePipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2IPipeline"), _PICTURES),
    **dict.fromkeys(
        (
            "CogVideoXFunControlPipeline",
            "CogVideoXVideoToVideoPipeline",
            "Cosmos2_5_TransferPipeline",
            "LTX2HDRPipeline",
            "LTX2InContextPipeline",
            "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
            "WanVideoToVideoPipeline",
        ),
        _DRIVEN,
    ),
    "ConsisIDPipeline": _FACE,
    "EasyAnimateControlPipeline": _BROKEN,
    "HeliosPyramidPipeline": _SIZES,
    "LTX2DFRPipeline": _PASS,
    "SanaWMPipeline": "it needs a camera's path besides prompt and first frame, which a sample does not have",
}
"""Class name of the pipeline → why it cannot be traced; a test holds it to what the installed diffusers has."""
