"""Encoder and decoder of a model as ONNX files, for programs without Python: own units in, own units out.

encoder.onnx    x (batch, *shape), and a condition where the model has one, to mean and scale of q(z | x): of a plain
                auto-encoder the code, of models with several levels the means (the top level first)
decoder.onnx    z (batch, latent), and a condition, to the mean of p(x | z)

The size of the batch is free. What a table's columns are standardised with is part of the graphs.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.autoencoders import VAE, VQVAE, AutoEncoder, DeepVAE, EncoderDecoder, NeuralModel
from jensen.errors import ConfigError
from jensen.files import UNFINISHED
from jensen.likelihoods import AutoregressiveLikelihood
from jensen.training.facts import DataFacts

__all__ = ["OPSET", "OnnxFiles", "need_onnx", "write_onnx"]

OPSET = 18
TOLERANCE = 1e-4
"""against the largest number of a column where that is above 1"""
NAMES = ("encoder.onnx", "decoder.onnx")


@dataclass(frozen=True)
class OnnxFiles:
    """What was written, and how well it agrees with the model."""

    encoder: Path
    decoder: Path
    random: float | None
    """largest difference from the model over random inputs, as `TOLERANCE` counts it; None: not checked, as there is no
    onnxruntime"""
    real: float | None
    """the same over the examples that were given"""


def need_onnx() -> None:
    """Raise `ConfigError` if the packages that write ONNX are not there."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs the package {' and '.join(missing)}: pip install 'jensen[onnx]'")


def write_onnx(
    model: NeuralModel,
    facts: DataFacts,
    folder: Path | str,
    *,
    examples: Tensor | None = None,
    condition: Tensor | None = None,
    replace: bool = False,
) -> OnnxFiles:
    """Write encoder.onnx and decoder.onnx, and compare what they compute with the model, where onnxruntime is there.

    Args:
        model: a trained model.
        facts: of its data.
        folder: where to; made if need be.
        examples: data (N, *shape) in own units to compare with, beside random ones.
        condition: what the model is told of them, (N, *condition_shape), in own units.
        replace: write over such files.

    Raises:
        ConfigError: a package is missing, the files exist, the model has no code or decodes value by value, torch
            cannot write it, or the files compute something else than the model.
    """
    need_onnx()
    folder = Path(folder)
    if not replace and (taken := next((name for name in NAMES if (folder / name).exists()), None)):
        raise ConfigError(f"{folder / taken} exists already: choose another folder, or replace it")
    _check_model(model)
    assert isinstance(model, EncoderDecoder)
    parts = {"encoder.onnx": _Encoder(model, facts).eval(), "decoder.onnx": _Decoder(model, facts).eval()}
    told = (None,) if facts.condition_shape is None else (_conditions(facts, 5),)
    inputs = {"encoder.onnx": (_data(model, facts, 5), *told), "decoder.onnx": (_codes(model, 5), *told)}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        for name, part in parts.items():
            _write(part, inputs[name], temporary / name, _about(model, facts))
        checked = find_spec("onnxruntime") is not None
        random = max(_difference(parts[n], temporary / n, inputs[n]) for n in NAMES) if checked else None
        real = None
        if checked and examples is not None:
            with torch.no_grad():
                codes = parts["encoder.onnx"](examples, condition)
            ours = {"encoder.onnx": examples, "decoder.onnx": codes[0] if isinstance(codes, tuple) else codes}
            real = max(_difference(parts[n], temporary / n, (ours[n], condition)) for n in NAMES)
        if (worst := max(random or 0.0, real or 0.0)) > TOLERANCE or math.isnan(worst):
            raise ConfigError(f"the ONNX files compute something else than the model (by {worst:.2g}): not written")
        for name in NAMES:
            (temporary / name).replace(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return OnnxFiles(folder / NAMES[0], folder / NAMES[1], random, real)


def _check_model(model: NeuralModel) -> None:
    kind = type(model).__name__
    if not isinstance(model, EncoderDecoder):
        raise ConfigError(f"{kind} has no encoder and decoder to write as ONNX: jensen.save keeps it whole")
    if isinstance(model, VQVAE):
        raise ConfigError(
            "the codes of a vqvae are searched for in pieces whose number depends on the batch, which a graph for any "
            "batch cannot do: jensen.save keeps the model whole"
        )
    if isinstance(model.likelihood, AutoregressiveLikelihood):
        raise ConfigError(
            f"likelihood {type(model.likelihood).__name__} decodes one value after the other, which no ONNX graph of a "
            "decoder does: jensen.save keeps the model whole"
        )


class _Part(nn.Module):
    """A model between own units; what is checked of inputs elsewhere cannot be in a graph."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shift: Tensor | None
    unit: Tensor | None
    told_shift: Tensor | None
    told_unit: Tensor | None

    def __init__(self, model: EncoderDecoder, facts: DataFacts) -> None:
        super().__init__()
        self.model = model
        tail = (1,) * (len(facts.shape) - 1)
        self._keep("shift", facts.mean, tail)  # names that no input or output has
        self._keep("unit", facts.sd, tail)
        self._keep("told_shift", facts.condition_mean, ())
        self._keep("told_unit", facts.condition_sd, ())
        self.same = facts.target_shape == facts.shape

    def _keep(self, name: str, numbers: tuple[float, ...], tail: tuple[int, ...]) -> None:
        self.register_buffer(name, torch.tensor(numbers).view(-1, *tail) if numbers else None, persistent=False)

    def told(self, condition: Tensor | None) -> Tensor | None:
        """A condition as the networks take it."""
        if condition is None or self.told_shift is None or self.told_unit is None:
            return condition
        return (condition - self.told_shift) / self.told_unit


class _Encoder(_Part):
    inputs = ("x", "condition")

    def __init__(self, model: EncoderDecoder, facts: DataFacts) -> None:
        super().__init__(model, facts)
        self.outputs = ("mean", "scale") if isinstance(model, VAE) else ("codes",)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        told, model = self.told(condition), self.model
        if self.shift is not None and self.unit is not None:
            x = (x - self.shift) / self.unit
        if isinstance(model, DeepVAE):
            levels, _ = model._walk(x, told, draw=lambda posterior: posterior.loc, decoded=False)
            return model.flat([level.z[0] for level in levels])
        if isinstance(model, AutoEncoder):
            return model._code(x, told)
        q: Distribution = model.encoder(x) if told is None else model.encoder(x, told)
        return q.mean, q.stddev


class _Decoder(_Part):
    inputs = ("z", "condition")
    outputs = ("x",)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        told, model = self.told(condition), self.model
        x = model._shown(model.decoder(z, told))
        return x * self.unit + self.shift if self.same and self.shift is not None and self.unit is not None else x


def _write(part: _Part, inputs: tuple[Tensor | None, ...], path: Path, about: Mapping[str, str]) -> None:
    given = tuple(value[:2] for value in inputs if value is not None)  # another number than they are compared with
    batch = torch.export.Dim("batch")
    try:
        with _quietly():
            # Strict: the other way takes len(x) for a constant.
            graph = torch.export.export(part, given, dynamic_shapes=tuple({0: batch} for _ in given), strict=True)
            names: dict[str, Any] = {"input_names": list(part.inputs[: len(given)]), "output_names": list(part.outputs)}
            program = torch.onnx.export(graph, dynamo=True, opset_version=OPSET, verbose=False, **names)
            assert program is not None
            program.model.metadata_props.update(about)
            program.save(path, external_data=False)
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        cause = " ".join(str(error.__cause__ or error).split())[:200]
        raise ConfigError(f"torch cannot write the {path.stem} of this model as ONNX ({cause})") from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level, checks = logger.level, Distribution._validate_args
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        Distribution.set_default_validate_args(checks)  # the exporter switches the checks off for the whole process


@torch.no_grad()
def _difference(part: _Part, path: Path, inputs: tuple[Tensor | None, ...]) -> float:
    """The largest difference of the file's outputs from the model's, see `TOLERANCE`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = [value for value in inputs if value is not None]
    feeds = {name: value.numpy() for name, value in zip(part.inputs, given, strict=False)}
    expected: Any = part(*given)
    expected = expected if isinstance(expected, tuple) else (expected,)
    worst = 0.0
    for found, wanted in zip(session.run(None, feeds), expected, strict=True):
        ours = torch.from_numpy(found)
        if ours.shape != wanted.shape:
            return math.inf
        # in units of the column, where columns have such
        scale = wanted.abs().amax(0).clamp_min(1.0)
        worst = max(worst, float(((ours - wanted).abs() / scale).max()))
    return worst


def _data(model: EncoderDecoder, facts: DataFacts, n: int) -> Tensor:
    """Random data as they might be, in own units, (n, *shape)."""
    generator = torch.Generator().manual_seed(0)
    levels = facts.levels if facts.target_shape == facts.shape else None
    if facts.vocabulary:
        return torch.randint(1, 5, (n, *facts.shape), generator=generator).float()
    if levels is not None:
        return torch.randint(levels, (n, *facts.shape), generator=generator) / (levels - 1)
    if len(facts.shape) == 3 or not facts.mean:
        return torch.rand(n, *facts.shape, generator=generator)
    tail = (-1,) + (1,) * (len(facts.shape) - 1)
    noise = torch.randn(n, *facts.shape, generator=generator)
    values = noise * torch.tensor(facts.sd).view(tail) + torch.tensor(facts.mean).view(tail)
    for place, column in enumerate(facts.columns):
        if column.kind != "real":
            count = len(column.categories) or 5
            values[:, place] = torch.randint(count, (n,), generator=generator).float()
    return values


def _codes(model: EncoderDecoder, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, model.latent, generator=generator)


def _conditions(facts: DataFacts, n: int) -> Tensor:
    """Random conditions: classes one-hot, numbers in own units, images in [0, 1]."""
    shape = facts.condition_shape or ()
    generator = torch.Generator().manual_seed(2)
    if facts.condition_mean:
        noise = torch.randn(n, *shape, generator=generator)
        return noise * torch.tensor(facts.condition_sd) + torch.tensor(facts.condition_mean)
    if len(shape) == 1:
        return torch.eye(shape[0])[torch.randint(shape[0], (n,), generator=generator)]
    return torch.rand(n, *shape, generator=generator)


def _about(model: EncoderDecoder, facts: DataFacts) -> dict[str, str]:
    """What a reader of the files should know, as their metadata."""
    units = "images in [0, 1]" if len(facts.shape) == 3 else "values in own units" if facts.mean else "values"
    about = {
        "producer": f"jensen {version('jensen')}",
        "model": model.kind,
        "x": f"(batch, {', '.join(map(str, facts.shape))}) {units}",
        "classes": ", ".join(facts.class_names),
        "columns": ", ".join(column.name for column in facts.columns),
        "condition": ", ".join(facts.condition_names),
        "symbols": repr(list(facts.symbols)) if facts.symbols else "",
    }
    return {name: text for name, text in about.items() if text}
