"""How hard the distances of the pairs pull at the student, and weights that follow from it."""

import itertools
import logging
import math
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError, check_numbers, shortened, suggest
from mmdiffkd.messages import tell
from mmdiffkd.models import DiffKDDistiller, DistillPair
from mmdiffkd.registry import HOOKS


class Pull(NamedTuple):
    """The gradient of a pair's distance at the features of the student, beside its own losses'.

    Attributes:
        ratio: Norm of the gradient of the distance divided by that of the student's own losses.
        agreement: Cosine between the two gradients; None if that of the distance is zero.
    """

    ratio: float
    agreement: Optional[float]


# The kind of node in torch's graph behind a captured feature, which is a copy.
_COPY = type(torch.ones((), requires_grad=True).clone().grad_fn)


class PullMeter:
    """Measures the :class:`Pull` of every pair in a training step, which it does not change.

    Args:
        strict: Whether a model that cannot be measured is an error and not a warning.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self._edges: Dict[str, List[GradientEdge]] = {}
        self._of_pairs: set = set()
        self._sums: Dict[str, Tensor] = {}
        self._warned = False

    def watch(self, runner: Runner, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Measure from the next forward on, in all processes; the handles end it."""
        # Gradients in half precision are as large as in training, or they would vanish.
        self._scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        pairs = [pair.register_forward_hook(self._note) for pair in distiller.pairs.values()]
        return [*pairs, distiller.register_forward_hook(self._measure)]

    def pulls(self, distiller: DiffKDDistiller) -> Dict[str, Pull]:
        """What was measured since the last call, for the batches of all processes together.

        All processes have to call it. Pairs that did not run are left out, and those at whose
        features a gradient is not finite or the student's own losses have none.
        """
        nothing = at_least_float32(next(distiller.parameters()).detach()).new_zeros(3)
        sums = torch.stack([self._sums.get(name, nothing).to(nothing) for name in distiller.pairs])
        self._sums = {}
        all_reduce(sums)
        pulls = {}
        for name, (own, distance, product) in zip(distiller.pairs, sums.tolist()):
            if 0 < own < math.inf and distance < math.inf:
                norms = math.sqrt(own), math.sqrt(distance)
                agreement = product / norms[0] / norms[1] if distance else None
                pulls[name] = Pull(norms[1] / norms[0], agreement)
        return pulls

    def _note(self, pair: DistillPair, args: Sequence, entries: Dict[str, Tensor]) -> None:
        features = args[0][pair.student_path]
        nodes = [feature.grad_fn for feature in features if feature.requires_grad]
        if any(type(node) is not _COPY for node in nodes):
            self._give_up(f'the features of pairs.{pair.name} come from compiled parts')
            nodes = []
        # Behind the copy is the feature as it was then, whatever has changed it in place since.
        self._edges[pair.name] = [GradientEdge(*node.next_functions[0]) for node in nodes]
        self._of_pairs.update(entries)

    def _measure(self, distiller: DiffKDDistiller, args: Any, losses: Dict[str, Any]) -> None:
        """Differentiate once more, inside the forward: DDP waits for gradients only after it."""
        edges, self._edges = self._edges, {}
        of_pairs, self._of_pairs = self._of_pairs, set()
        own, _ = distiller.parse_losses({k: v for k, v in losses.items() if k not in of_pairs})
        together = [edge for of_pair in edges.values() for edge in of_pair]
        own_gradients = iter(self._gradients(own, together))
        for name, of_pair in edges.items():
            loss = losses[f'loss_kd_{name}']
            ours = list(itertools.islice(own_gradients, len(of_pair)))
            theirs = self._gradients(loss, of_pair)
            if ours and theirs:
                both = ((ours, ours), (theirs, theirs), (ours, theirs))
                self._sums[name] = torch.stack([_product(a, b, loss) for a, b in both])

    def _gradients(self, loss: Tensor, edges: Sequence[GradientEdge]) -> Sequence:
        """Gradients of a loss, None where it does not depend on the feature; empty on failure."""
        if not edges or not getattr(loss, 'requires_grad', False):
            return [None] * len(edges)
        try:
            with torch.autocast(loss.device.type, enabled=False):
                loss = loss if self._scaler is None else self._scaler.scale(loss)
                return torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # Compiled parts, and older forms of activation checkpointing, allow one backward pass.
            self._give_up(f'a second backward pass fails: {error}', error)
            return []

    def _give_up(self, why: str, error: Optional[Exception] = None) -> None:
        """Raise or warn, the latter once."""
        text = f'a pull cannot be measured, because {why}'
        if self.strict:
            raise ConfigError(text) from error
        if not self._warned:
            tell(shortened(text), logging.WARNING)
        self._warned = True


def _product(first: Sequence, second: Sequence, like: Tensor) -> Tensor:
    """Inner product of gradients at several maps, each a tensor or None for zero."""
    total = at_least_float32(like.detach()).new_zeros(())
    for a, b in zip(first, second):
        if a is not None and b is not None:
            total = total + (at_least_float32(a) * at_least_float32(b)).sum()
    return total


_STATE = 'pull_balance'


@HOOKS.register_module()
class PullBalanceHook(Hook):
    """Chooses the ``weight`` of pairs from how hard their distances pull at the student.

    In the first iterations in which a pair is distilled it measures the ratio between the gradient
    of the distance and that of the student's own losses, which :class:`TelemetryHook` logs as
    ``pull_<pair>``. It then sets the weight with which the ratio would have been the wanted one.
    The weight stays, is written into the log and the checkpoints, and holds in a resumed run. The
    factor of a :class:`DistillationScheduleHook` comes on top.

    Args:
        pull: Wanted ratio, a number above 0 for all pairs or a dict from some pairs' names to
            theirs.
        iterations: Number of iterations over which the ratio is averaged. The average is
            geometric, because ratios differ by factors and a few large ones must not decide.
    """

    def __init__(self, pull: Union[float, Dict[str, float]] = 1.0, iterations: int = 100) -> None:
        self.pull, self.iterations = pull, iterations
        where, wanted = 'PullBalanceHook.', dict(pull=pull)
        check_numbers(1, int, where=where, iterations=iterations)
        if isinstance(pull, dict):
            where, wanted = f'{where}pull.', pull
        check_numbers(0, float, above=True, where=where, **wanted)
        self._meter = PullMeter(strict=True)
        self._handles: List[RemovableHandle] = []

    def before_train(self, runner: Runner) -> None:
        """Take over the weights that were chosen before the run was interrupted."""
        pairs = dict(distiller_of(runner, self).pairs.items())
        self._wanted = self.pull if isinstance(self.pull, dict) else dict.fromkeys(pairs, self.pull)
        for name in self._wanted.keys() - pairs.keys():
            hint = f'{suggest(name, pairs)} (it has {", ".join(pairs)})'
            raise ConfigError(f'PullBalanceHook.pull: the model has no pair {name!r}{hint}')
        # The message hub is part of every checkpoint.
        self._state = runner.message_hub.runtime_info.get(_STATE, dict(seen={}, weights={}))
        runner.message_hub.update_info(_STATE, self._state)
        for name in self._wanted.keys() & self._state['weights'].keys():
            pairs[name].weight = self._state['weights'][name]

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Measure in this iteration if there is a weight to choose."""
        if self._wanted.keys() - self._state['weights'].keys():
            self._handles = self._meter.watch(runner, distiller_of(runner, self))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note what was measured, and choose weights once there is enough of it."""
        if not self._handles:
            return
        while self._handles:
            self._handles.pop().remove()
        distiller = distiller_of(runner, self)
        pulls = self._meter.pulls(distiller)
        for name in self._wanted.keys() - self._state['weights'].keys():
            pair = distiller.pairs[name]
            if pair.active and pair.kd_weight:
                seen = self._state['seen'].setdefault(name, [])
                ratio = pulls[name].ratio if name in pulls else 0.0
                seen.append(ratio / pair.kd_weight)
                if len(seen) >= self.iterations:
                    self._choose(pair, [ratio for ratio in seen if ratio])

    def _choose(self, pair: DistillPair, ratios: Sequence[float]) -> None:
        """Set and note the weight, unless the ratio was zero or undefined in every iteration."""
        before, wanted = pair.weight, self._wanted[pair.name]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            pair.weight = before * wanted / mean
            tell(
                f'pairs.{pair.name}: weight {before:g} -> {pair.weight:.4g} from here on, because '
                f'its distance pulled {mean:.3g} times as hard as the losses of the student, and '
                f'{wanted:g} is wanted'
            )
        else:
            pair.warn_once(f'weight stays {before:g}, because there was no pull to be measured')
        self._state['weights'][pair.name] = pair.weight
