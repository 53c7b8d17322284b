"""A model from a configuration, and what the configuration's `auto` means for given data."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from jensen.autoencoders.autoencoder import AutoEncoder
from jensen.autoencoders.base import EncoderDecoder
from jensen.autoencoders.density import AutoregressiveModel
from jensen.autoencoders.hierarchy import DeepVAE
from jensen.autoencoders.hvae import HierarchicalVAE
from jensen.autoencoders.ladder import LadderVAE
from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.nvae import NVAE
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.autoencoders.vae import VAE
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import Config, ModelConfig
from jensen.config.scales import DEFAULT_SCALES
from jensen.errors import ConfigError
from jensen.nn import net_kind
from jensen.nn.spatial import spatial_kind

__all__ = ["DataLike", "make_model", "resolve"]

DEEP_KINDS: dict[str, type[DeepVAE]] = {"hvae": HierarchicalVAE, "ladder": LadderVAE, "nvae": NVAE}


class DataLike(Protocol):
    """What a model needs to know of the data: shapes, and how many values the target can take (None: real).

    It may also have `symbols`, the names of the datum's levels where these are symbols rather than grey levels,
    `columns`, what each column of a table holds, and `suits`, the likelihood that suits these values.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def target_shape(self) -> tuple[int, ...]: ...
    @property
    def levels(self) -> int | None: ...
    @property
    def condition_shape(self) -> tuple[int, ...] | None: ...


def resolve(config: Config, data: DataLike) -> Config:
    """Replace every `auto` by what it means for these data, so that the run's record is explicit.

    Raises:
        ConfigError: what was asked does not fit the data.
    """
    model = config.model
    likelihood = model.likelihood
    if likelihood == "auto":
        likelihood = "bernoulli" if data.levels is not None else "gaussian-learned"
        if model.kind == "autoregressive":
            likelihood = "autoregressive"
        elif _symbols(data) and config.data.target is None:
            likelihood = "categorical"
        elif config.data.target is None and (suits := getattr(data, "suits", None)) is not None:
            likelihood = suits
    transform = config.data.transform
    if transform == "auto":
        binary = likelihood == "bernoulli" and data.levels is not None and config.data.target is None
        transform = "binarise" if binary else "none"
    if likelihood == "bernoulli" and data.levels is None:
        raise ConfigError(
            f"likelihood bernoulli needs values in [0, 1], but what {config.data.title} asks to predict are real "
            "numbers; use gaussian-learned"
        )
    require_table(likelihood, model.kind, data, config.data.target)
    net = model.net  # of a model autoregressive there is none
    if model.kind in DEEP_KINDS:
        deep = DEEP_KINDS[model.kind]
        net = net.model_copy(update={"kind": deep.net_kind(net, data.shape, data.target_shape)})
        if model.scales is None:
            model = model.model_copy(update={"scales": DEFAULT_SCALES[net.kind]})
    elif model.kind != "autoregressive":
        kind = spatial_kind if model.kind == "vqvae" else net_kind
        net = net.model_copy(update={"kind": kind(net, data.shape)})
    model = ModelConfig(**{**dict(model), "likelihood": likelihood, "net": net})
    return Config(
        seed=config.seed,
        data=config.data.model_copy(update={"transform": transform}),
        model=model,
        objective=config.objective,
        train=config.train,
    )


def require_table(likelihood: str, kind: str, data: DataLike, target: str | None = None) -> None:
    """Refuse models and likelihoods that know nothing of gaps, categories and counts, where a table has such.

    Args:
        likelihood: its name.
        kind: of the model.
        data: with `columns`, and a `dataset` whose values may have gaps, where it is a table.
        target: the property that is predicted in place of the row.

    Raises:
        ConfigError: the table is not for them.
    """
    columns = getattr(data, "columns", ())
    if not columns:
        return
    if kind in ("vqvae", "autoregressive"):
        raise ConfigError(f"model {kind} is for images and signals; for a table use model vae")
    other = next((column for column in columns if column.kind != "real"), None)
    if likelihood == "table":
        return
    if other is not None and target is None:
        raise ConfigError(
            f"likelihood {likelihood} takes every value for a plain number, but column {other.name!r} of this table is "
            f"{'a count' if other.kind == 'count' else other.kind}: use likelihood table"
        )
    values = getattr(getattr(data, "dataset", None), "values", None)
    if isinstance(values, Tensor) and bool(values.isnan().any()):
        raise ConfigError(
            f"likelihood {likelihood} knows nothing of gaps, but this table has some: use likelihood table"
        )


def make_model(config: ModelConfig, data: DataLike) -> NeuralModel:
    """The model that a resolved configuration describes, for data of these shapes.

    Raises:
        ConfigError: net or likelihood do not fit the data.
    """
    if config.kind == "autoregressive":
        return _density(config, data)
    if config.kind == "vqvae":
        return _vqvae(config, data)
    if config.kind in DEEP_KINDS:
        return _deep(config, data)
    kinds: dict[str, type[EncoderDecoder]] = {
        "vae": VAE,
        "autoencoder": AutoEncoder,
        "semi-supervised": SemiSupervisedVAE,
    }
    own: dict[str, Any] = {}
    if config.kind != "autoencoder":
        own["prior"] = config.prior
    if config.kind == "vae":
        own.update(components=config.components, posterior=config.posterior)
    if config.likelihood == "autoregressive":
        own["autoregressive"] = config.autoregressive
    if config.kind == "semi-supervised":
        own["classifier_weight"] = config.classifier_weight
    return kinds[config.kind](
        data.shape,
        config.latent,
        net=config.net,
        likelihood=config.likelihood,
        target_shape=data.target_shape,
        levels=data.levels,
        sigma=config.sigma,
        condition_shape=data.condition_shape,
        conditioning=config.conditioning,
        symbols=bool(_symbols(data)) and data.target_shape == data.shape,
        columns=getattr(data, "columns", ()),
        **own,
    )


def _density(config: ModelConfig, data: DataLike) -> AutoregressiveModel:
    if data.target_shape != data.shape:
        raise ConfigError(
            f"model autoregressive predicts the datum itself, of shape {data.shape}, not something of shape "
            f"{data.target_shape}: use model vae or autoencoder"
        )
    return AutoregressiveModel(
        data.shape, levels=data.levels, net=config.autoregressive, condition_shape=data.condition_shape
    )


def _deep(config: ModelConfig, data: DataLike) -> DeepVAE:
    return DEEP_KINDS[config.kind](
        data.shape,
        config.scales,
        net=config.net,
        downsampling=config.downsampling,
        stem=config.stem,
        spectral=config.spectral,
        likelihood=config.likelihood,
        autoregressive=config.autoregressive if config.likelihood == "autoregressive" else None,
        target_shape=data.target_shape,
        levels=data.levels,
        sigma=config.sigma,
        condition_shape=data.condition_shape,
        conditioning=config.conditioning,
        symbols=bool(_symbols(data)) and data.target_shape == data.shape,
        columns=getattr(data, "columns", ()),
    )


def _vqvae(config: ModelConfig, data: DataLike) -> VQVAE:
    return VQVAE(
        data.shape,
        downsampling=config.downsampling,
        hierarchy=config.hierarchy,
        quantiser=config.quantiser,
        net=config.net,
        likelihood=config.likelihood,
        autoregressive=config.autoregressive if config.likelihood == "autoregressive" else None,
        target_shape=data.target_shape,
        levels=data.levels,
        sigma=config.sigma,
        condition_shape=data.condition_shape,
        conditioning=config.conditioning,
        symbols=True if len(_symbols(data)) == data.levels else None,
    )


def _symbols(data: DataLike) -> tuple[str, ...]:
    symbols: tuple[str, ...] = getattr(data, "symbols", ())
    return symbols
