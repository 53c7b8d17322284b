"""`jensen export`: a trained model as a folder to send, or as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.models import load_model
from jensen.cli.options import DataDirectory, Force, RunPath
from jensen.cli.screen import hint, say, table
from jensen.errors import CheckpointError, DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["export"]

CHECKED = 64
"""examples of the run's own data that ONNX files are compared on"""


def export(
    run: RunPath,
    /,
    *,
    output: Annotated[
        Path,
        Parameter(name=("--output", "-o"), metavar="FOLDER", help="where to write; a folder that is not there yet"),
    ],
    onnx: Annotated[
        bool, Parameter(negative="", help="write encoder.onnx and decoder.onnx, for programs without Python")
    ] = False,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Write the model of a run to a folder that can be sent to someone.

    The folder has the best weights, all settings and what the model has to
    know of its data, and neither the data nor the state of the training. It
    stands where a run does (jensen sample FOLDER, encode, reconstruct, ...),
    and jensen.load("FOLDER") reads it in Python. Nothing in it is executed.

    jensen export runs/digits-vae -o digits-model

    With --onnx two graphs, which any ONNX runtime computes in batches of any
    size: x to mean and scale of the code, and a code to the mean of p(x | z).
    A table goes in and comes out in its own units. They are compared with the
    model before they are kept.

    jensen export runs/digits-vae --onnx -o digits-onnx
    """
    from jensen.training import Run

    opened = Run.open(run)
    if output.exists() and not output.is_dir():
        raise JensenError(f"--output {output} is a file; give a folder")
    if onnx:
        _as_onnx(opened, output, force, data_directory)
        return
    from jensen.training.portable import is_portable, save

    if output.exists() and any(output.iterdir()) and not (force and is_portable(output)):
        hint_force = ", or --force to write over it" if is_portable(output) else ""
        raise JensenError(f"{output} is not empty: choose another --output{hint_force}")
    folder = save(opened, output, replace=force)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"{opened.config.model.kind}, {size:,} bytes: {folder}")
    table([("in Python", f'jensen.load("{folder}")'), ("or", f"jensen encode {folder} FILES -o codes.npz")])


def _as_onnx(run: Run, folder: Path, force: bool, directory: Path | None) -> None:
    from jensen.training.onnx_files import need_onnx, write_onnx
    from jensen.training.portable import facts_with_units

    need_onnx()
    model = load_model(run)
    real = _examples(run, directory)
    values, condition = (None, None) if real is None else real
    facts = facts_with_units(run, directory)
    made = write_onnx(model, facts, folder, examples=values, condition=condition, replace=force)
    say(f"{made.encoder.stat().st_size + made.decoder.stat().st_size:,} bytes: {made.encoder}, {made.decoder}")
    if made.random is None:
        hint("not compared with the model, as there is no onnxruntime: pip install 'jensen[onnx]'")
        return
    rows = [("random inputs", f"{made.random:.1e}", "largest difference from the model")]
    if made.real is not None and values is not None:
        rows.append(("real inputs", f"{made.real:.1e}", f"of {len(values)} examples of the test data"))
    else:
        hint("compared on random inputs only, as the data of the run are not here")
    table(rows)


def _examples(run: Run, directory: Path | None) -> tuple[Tensor, Tensor | None] | None:
    """Test data and what the model is told of them, in own units; None where the data cannot be had."""
    import torch

    from jensen.cli.inputs import Scale, clean_data

    try:
        data = clean_data(run, directory)
    except (DataError, CheckpointError):
        return None
    facts, part = run.own_facts, data.test
    batch = part.batch(torch.arange(min(CHECKED, len(part))))
    condition = None if facts.condition_shape is None else batch.condition
    if condition is not None and facts.condition_mean:
        condition = condition * torch.tensor(facts.condition_sd) + torch.tensor(facts.condition_mean)
    return Scale.of(run, directory).to_own(batch.x), condition
