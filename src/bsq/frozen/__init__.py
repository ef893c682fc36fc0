"""Networks that are never trained here. What enters: their published weights. What leaves: distances and features."""

from bsq.frozen.lpips import Lpips, LpipsNetwork, load_lpips

__all__ = ["Lpips", "LpipsNetwork", "load_lpips"]
