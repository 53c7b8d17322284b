"""How the bound is climbed."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from jensen.config.names import Count, NonNegative, Positive
from jensen.sections import Section

__all__ = ["TrainConfig"]


class TrainConfig(Section):
    """How the bound is climbed, and on which machine."""

    epochs: Count = Field(20, description="passes over the training data")
    batch_size: Count = Field(128, description="examples a step (over all devices)")
    optimiser: Literal["adam", "adamw", "adamax"] = Field("adam", description="optimiser")
    lr: Positive = Field(1e-3, description="learning rate")
    lr_min: NonNegative = Field(0.0, description="decay cosine: learning rate at the last step (0: just after it)")
    eps: Positive = Field(1e-8, description="added to the denominator of a step")
    weight_decay: NonNegative = Field(0.0, description="weight decay (adamw: decoupled)")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises linearly")
    warmup_share: float | None = Field(None, gt=0, le=1, description="the same, as a share of the whole training")
    decay: Literal["none", "cosine", "plateau"] = Field(
        "none", description="learning-rate decay: cosine to lr_min, or halved when validation stalls"
    )
    clip: Positive | None = Field(None, description="largest gradient norm")
    skip: float | None = Field(
        None,
        gt=1,
        allow_inf_nan=False,
        description="leave a step out whose gradient norm is more than this many times the running one, or not finite "
        "(counted as skipped; a GPU is waited for in every step)",
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="loss or gradient not finite: stop (the last good checkpoint is kept), or skip that step"
    )
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an exponential moving average of the weights")
    patience: Count | None = Field(
        None,
        description="stop once this many epochs in a row have had no better validation score (the ELBO, or what the "
        "objective seeks in its place)",
    )
    plateau_patience: Count = Field(
        5, description="decay plateau: epochs without a better validation score that it bears before it halves the rate"
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: autocast; sums stay in float32")
    channels_last: bool = Field(False, description="memory layout of images (often faster with conv nets)")
    checkpointing: bool = Field(
        False, description="compute activations anew in the backward pass: less memory (nets made of cells)"
    )
    auto_batch: bool = Field(False, description="if memory does not do for batch_size, halve it until it does")
    deterministic: bool = Field(
        False, description="only operations that give the same every time; checks at the start that they do"
    )
    compile: bool = Field(False, description="torch.compile the training step")
    accelerator: str = Field("auto", description="cpu, cuda, mps, or auto")
    devices: Count = Field(1, description="devices a machine")
    nodes: Count = Field(1, description="machines")
    strategy: str = Field("auto", description="Lightning Fabric strategy, e.g. ddp")
    tensorboard: bool = Field(False, description="also write TensorBoard events")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.decay == "plateau" and self.patience is not None and self.patience <= self.plateau_patience + 1:
            raise ValueError(
                f"patience {self.patience} stops the training before decay plateau, with plateau_patience "
                f"{self.plateau_patience}, can act: give a larger patience"
            )
        if self.lr_min and self.decay != "cosine":
            raise ValueError(f"lr_min is where cosine decay ends and has no meaning for decay {self.decay}")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min {self.lr_min:g} should be at most lr, {self.lr:g}")
        if self.auto_batch and self.devices * self.nodes > 1:
            raise ValueError("auto_batch tries batches on one device: leave it away, or take one device")
        if self.warmup and self.warmup_share is not None:
            raise ValueError("warmup and warmup_share are two ways to say how long: give one of them")
        return self
