"""KL balancing of the levels of a deep VAE."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from jensen.bound import Level, Output
from jensen.objectives.base import Context
from jensen.objectives.codes import flat
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Balanced"]

_FLOOR = 0.01
"""nats, added to each level's KL: no level is ever free"""


class Balanced(Elbo):
    """E_q[log p(x | z)] - sum_l gamma_l KL_l while the KL warms up, the ELBO after (Vahdat & Kautz 2020, appendix A).

    gamma_l is proportional to (KL_l + 0.01) / a_l and has mean 1 over levels. KL_l is the mean over the batch (on all
    devices) in nats, and no gradient goes through gamma. a_l is the size of a level: its latents over the number of
    levels of its shape. So a level that says more than its share is made dearer, one that says little cheaper, and
    none is lost while the rest learns; at equal shares all gammas are 1.

    The division is that of the authors' code (whose a_l are the squared scales over the groups of a scale: with as many
    channels at each scale, ours up to a factor that the normalisation takes out). The paper's text has gamma grow with
    the size of a level, which its first author calls a slip (NVlabs/NVAE, issue 26). The idea is from Vahdat et al.
    2018 (DVAE++, appendix H).

    Levels are balanced at steps where `kl_weight` is below its end; where it does not rise, this is the ELBO, and so
    it is for a model with one level. Models are compared by the ELBO. Logged is `balanced_rate`, sum_l gamma_l KL_l.
    """

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        if self.kl_weight(context.step) >= self.kl_weight.end:
            return Price(rate, {"balanced_rate": rate})
        levels = [level for level in output.levels if level.posterior is not None]
        kl = torch.stack([self._of_each(output, level) for level in levels])
        told = context.mean(kl.detach().abs().mean(1))  # sampled, a KL may be negative
        shares = zip((told + _FLOOR).unbind(), _sizes(levels), strict=True)
        gamma = torch.stack([share / size for share, size in shares])  # numbers go along with kernels, tensors wait
        value = (gamma / gamma.mean() * kl.mean(1)).sum()
        return Price(value, {"balanced_rate": value}, rate)

    def describe(self, latent: int, dims: int) -> str:
        schedule = self.kl_weight
        if schedule.kind == "constant" or schedule.start >= schedule.end:
            return (
                "this is the ELBO: levels are balanced only while kl_weight rises, which it does not; it does with "
                "--kl-weight-schedule linear --kl-weight-share 0.3"
            )
        length = f"{schedule.steps} steps" if schedule.share is None else f"{schedule.share:.0%} of the training"
        return (
            f"levels are balanced while kl_weight is below {schedule.end:g}: at most {length} (of one level: the ELBO)"
        )

    def _of_each(self, output: Output, level: Level) -> Tensor:
        """KL of each datum, (batch,), mean over samples and sum over dimensions."""
        return output.expectation(flat(level.kl(self.analytic)).sum(2))


def _sizes(levels: list[Level]) -> list[float]:
    """Latents of each level, over the number of levels of its shape."""
    shapes = [level.z.shape[2:] for level in levels]
    alike = Counter(shapes)
    return [shape.numel() / alike[shape] for shape in shapes]
