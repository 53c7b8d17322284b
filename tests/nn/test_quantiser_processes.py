"""Codebooks on several processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from jensen.nn.quantiser import ResidualQuantiser, VectorQuantiser


def learn(make: partial[VectorQuantiser | ResidualQuantiser], batches: Tensor) -> list[Tensor]:
    torch.manual_seed(5)
    quantiser = make()
    torch.manual_seed(6 + (dist.get_rank() if dist.is_initialized() else 0))  # noise differs, as in training
    losses = torch.stack([quantiser(batch).penalties["commitment"].detach() for batch in batches])
    return [value.detach() for value in quantiser.state_dict().values()] + [losses]


def share_of_a_process(rank: int, folder: Path, makers: list[partial[VectorQuantiser | ResidualQuantiser]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    batches = torch.load(folder / "batches.pt")
    torch.save([learn(make, batches.chunk(2, 1)[rank]) for make in makers], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_the_codebook_of_one_with_their_joint_batch(tmp_path: Path) -> None:
    makers: list[partial[VectorQuantiser | ResidualQuantiser]] = [
        partial(VectorQuantiser, 12, 4, initial="random", revival=0.0),
        partial(VectorQuantiser, 12, 4, revival=0.0),
        partial(ResidualQuantiser, 12, 4, books=2, revival=0.0),
        # Revival takes features of the first process only: both end alike, but not as one process.
        partial(VectorQuantiser, 12, 4, initial="random", revival=0.7),
        partial(VectorQuantiser, 12, 4, codebook="loss", revival=0.7),
    ]
    batches = torch.randn(12, 6, 4, 5)
    torch.save(batches, tmp_path / "batches.pt")
    multiprocessing.spawn(share_of_a_process, (tmp_path, makers), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for i, make in enumerate(makers):
        for a, b in zip(first[i][:-1], second[i][:-1], strict=True):
            assert torch.equal(a, b)
        single = learn(make, batches)
        if i < 3:
            torch.testing.assert_close(first[i][:-1], single[:-1])
            torch.testing.assert_close((first[i][-1] + second[i][-1]) / 2, single[-1])
        else:
            assert not torch.equal(first[i][0], single[0])
