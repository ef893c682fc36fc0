"""Models ↔ folders, the hub and the authors' files. Nothing foreign is ever executed; what we write is safetensors."""

from bsq.checkpoint.load import bundled_models, load
from bsq.checkpoint.official import Conversion, OfficialSettings, convert_official

__all__ = ["Conversion", "OfficialSettings", "bundled_models", "convert_official", "load"]
