"""Calibration, training and evaluation data: an iterator of batches, each ready for onnxruntime.

``open_data`` reads headers only and raises every fault at once; contents stream, so memory does not grow with the set.
"""

from __future__ import annotations

from .base import Batch, Dataset, DataSettings, Images
from .forms.synthetic import feed_that_runs
from .forms.table import FORMS, Form, brings_labels, open_data
from .halves import Part

__all__ = [
    "FORMS",
    "Batch",
    "DataSettings",
    "Dataset",
    "Form",
    "Images",
    "Part",
    "brings_labels",
    "feed_that_runs",
    "open_data",
]
