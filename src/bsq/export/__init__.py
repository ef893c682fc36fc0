"""Models as programs for other runtimes. What enters: a tokenizer. What leaves: a folder of torch.export or ONNX
files.
"""

from bsq.export.write import Difference, Exported, Format, check_export, export_model

__all__ = ["Difference", "Exported", "Format", "check_export", "export_model"]
