"""Models ↔ folders, the hub and the authors' files. Nothing foreign is ever executed; what we write is safetensors."""

from bsq.checkpoint.begin import begin_from, video_from_picture
from bsq.checkpoint.load import bundled_models, load
from bsq.checkpoint.official import Conversion, OfficialSettings, convert_official

__all__ = [
    "Conversion",
    "OfficialSettings",
    "begin_from",
    "bundled_models",
    "convert_official",
    "load",
    "video_from_picture",
]
