"""The learning-rate policy that looks at the tests: whether their score still improves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from netspec.ir.sections import Solver


class Plateau(BaseModel):
    """Where the policy `plateau` stands: what `ReduceLROnPlateau` of PyTorch keeps.

    Plain data: a checkpoint carries it, so that a resumed run cuts its rate where it would have
    uninterrupted.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_inf_nan="constants"
    )

    best: float | None = None
    """The score to beat."""
    bad: NonNegativeInt = 0
    """Tests in a row that did not beat it."""
    cooldown: NonNegativeInt = 0
    """Tests still to come that are not blamed."""
    reductions: NonNegativeInt = 0
    """How often the rate was cut."""

    def tested(self, score: float, solver: Solver, *, higher: bool, warming_up: bool) -> Plateau:
        """After a test; `higher` says which of two scores is the better one."""
        if solver.lr_policy != "plateau":
            return self
        assert solver.patience is not None
        better = self._beaten_by(score, solver, higher=higher)
        best = score if better else self.best
        spared = warming_up or self.cooldown > 0
        bad = 0 if better or spared else self.bad + 1
        if bad > solver.patience:
            cut = {"bad": 0, "cooldown": solver.cooldown, "reductions": self.reductions + 1}
            return self.model_copy(update={"best": best, **cut})
        left = max(self.cooldown - 1, 0)
        return self.model_copy(update={"best": best, "bad": bad, "cooldown": left})

    def _beaten_by(self, score: float, solver: Solver, *, higher: bool) -> bool:
        """Whether a score is better than the best by the threshold; NaN never is."""
        if self.best is None:
            return score == score
        sign = 1 if higher else -1
        if solver.threshold_mode == "ABS":
            return sign * score > sign * self.best + solver.threshold
        return sign * score > sign * self.best * (1 + sign * solver.threshold)
