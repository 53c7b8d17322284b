"""Which data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from jensen.config.names import Corruption, Count, DataTransform
from jensen.sections import Section

__all__ = ["DataConfig"]


class DataConfig(Section):
    """Which data, and how a stored value becomes the number that the model sees."""

    name: str = Field(
        "digits",
        description="data set (see `jensen data list`), or your own: a folder of images, or a file .npz, .npy, .csv or "
        ".parquet",
    )
    directory: Path | None = Field(
        None, description="folder with NAME.npz files already there (else JENSEN_DATA, else download)"
    )
    transform: DataTransform = Field(
        "auto",
        description="auto: binarise for bernoulli, none otherwise; binarise draws anew in every epoch, "
        "binarise-static once; dequantise adds uniform noise of one grey level, for continuous densities",
    )
    corruption: Corruption = Field("none", description="corrupts the input; the target stays clean (denoising)")
    corruption_strength: float = Field(
        0.3,
        gt=0,
        le=1,
        description="gaussian: standard deviation; blur: standard deviation of the filter in units of 4 pixels; "
        "otherwise the share of values hit",
    )
    target: str | None = Field(None, description="predict this property of the datum instead of the datum itself")
    condition: str | None = Field(
        None,
        description="what the model is told beside the datum: label, names of properties (x,radius), or the visible "
        "part of an image (upper-half, upper-left, all-but-upper-left, ...), whose rest is then to be predicted",
    )
    labelled: Count | None = Field(
        None,
        description="condition label: keep this many training labels, as equally many a class as possible; the rest "
        "is unknown",
    )
    labelled_share: float = Field(
        0.25, gt=0, lt=1, description="share of an epoch's examples that are labelled, repeated as often as it takes"
    )
    limit: Count | None = Field(
        None, description="use at most this many training and this many validation examples (the first of each)"
    )
    validation: float = Field(0.1, gt=0, lt=1, description="share of the training data held out for validation")
    leave_out: tuple[str, ...] | None = Field(
        None, description="classes that training and validation do not see, e.g. to be found as anomalies in the test"
    )
    layout: Literal["auto", "image", "signal", "table"] = Field(
        "auto", description="own arrays: what a row is, where its shape leaves that open"
    )
    size: str | None = Field(
        None, description="own images: pixels to bring them to, 64 or HEIGHTxWIDTH, e.g. 48x64 (else all must be alike)"
    )
    fit: Literal["crop", "stretch", "pad"] = Field(
        "crop", description="own images: how they come to that size: what sticks out cut off, stretched, or a black rim"
    )
    colour: Literal["auto", "grey", "rgb"] = Field("auto", description="own images: colours (auto: as they are)")
    skip_bad: bool = Field(False, description="own images: leave out files that cannot be read, rather than stop")
    class_column: str | None = Field(None, description="own table: column of classes, which the model does not see")
    categorical: tuple[str, ...] | None = Field(
        None, description="own table: columns that are categories (else those that hold text)"
    )
    counts: tuple[str, ...] | None = Field(None, description="own table: columns that are counts (0, 1, 2, ...)")
    ignore: tuple[str, ...] | None = Field(None, description="own table: columns to leave out")
    missing: tuple[str, ...] | None = Field(
        None, description="own table: what stands for a missing value, beside an empty cell, NA, NaN and ?"
    )

    @property
    def title(self) -> str:
        """Its name; of a file or folder, its own name without path and suffix."""
        return Path(self.name).stem
