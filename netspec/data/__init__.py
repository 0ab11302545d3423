"""Data sets: one module per source format, and the order in which samples are taken."""

from netspec.data.dataset import Dataset, Reader, check_dataset, fitted
from netspec.data.files.image import Picture, read_image, read_scaled
from netspec.data.mean import mean_image
from netspec.data.reading import Reading
from netspec.data.source import (
    READERS,
    channel_order,
    check_order,
    manifest_for,
    open_dataset,
    probe,
    sample_types,
    validates,
)

__all__ = [
    "READERS",
    "Dataset",
    "Picture",
    "Reader",
    "Reading",
    "channel_order",
    "check_dataset",
    "check_order",
    "fitted",
    "manifest_for",
    "mean_image",
    "open_dataset",
    "probe",
    "read_image",
    "read_scaled",
    "sample_types",
    "validates",
]
