"""What the pairs of a distiller saw in one iteration, and what of it is not finite."""

from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import torch
from torch import Tensor

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.models import DiffKDDistiller, DistillPair


class PairWitness:
    """Keeps what the pairs get and yield until :meth:`forget`.

    Nothing is computed for it. The tensors are those that autograd keeps for the backward in any
    case, so that they take no memory at the peak of an iteration.

    Args:
        distiller: Its pairs are looked at from now on.
    """

    def __init__(self, distiller: DiffKDDistiller) -> None:
        self._distiller = distiller
        self._maps: Dict[str, Tuple[List[Tensor], List[Tensor]]] = {}
        self._outputs: Dict[str, List[HeadOutput]] = {}
        self._handles = []
        for name, pair in distiller.pairs.items():
            self._handles += [
                pair.register_forward_hook(self._keeping_maps(name)),
                pair.register_output_hook(self._keeping_outputs(name)),
            ]

    # Plain functions: copies of the distiller (EMA) have the hooks too, and a method would be
    # copied with its witness.
    def _keeping_maps(self, name: str) -> Callable:
        def keep(pair: DistillPair, maps: Tuple, scalars: Dict) -> None:
            self._maps[name] = tuple([m.detach() for m in side] for side in maps)

        return keep

    def _keeping_outputs(self, name: str) -> Callable:
        def keep(outputs: List[HeadOutput]) -> None:
            self._outputs[name] = outputs

        return keep

    def forget(self) -> None:
        """Let go of what was seen."""
        self._maps, self._outputs = {}, {}

    def remove(self) -> None:
        """Look at nothing any more."""
        self.forget()
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def losses(self) -> Iterator[str]:
        """The losses that are not finite with the levels of the pyramid where they are not."""
        for name, outputs in self._outputs.items():
            distance = self._distiller.pairs[name].loss
            by_level = dict(kd=[distance(o.refined, o.target) for o in outputs])
            for loss in outputs[0].losses:
                by_level[loss] = [o.losses[loss] for o in outputs]
            for loss, values in by_level.items():
                bad = [(level, v) for level, v in enumerate(values) if not _is_finite(v)]
                if bad:
                    where = ', '.join(f'{value.item()} at level {level}' for level, value in bad)
                    yield f'loss_{loss}_{name} is {where}'

    @torch.no_grad()
    def features(self) -> Iterator[str]:
        """The captured features that are not finite, level by level."""
        for name, maps in self._maps.items():
            paths = self._distiller.paths(name)
            for role, path, side in zip(('student', 'teacher'), paths, maps):
                for level, feature in enumerate(side):
                    if not _is_finite(feature):
                        number = int((~feature.isfinite()).sum())
                        yield (
                            f"the {role}'s feature {path!r} of pairs.{name} has {number} of "
                            f'{feature.numel()} values that are inf or nan at level {level} '
                            f'({_name(feature.dtype)})'
                        )


def non_finite(named: Iterable[Tuple[str, Tensor]]) -> List[str]:
    """The names of those tensors that are not finite everywhere."""
    return [name for name, tensor in named if not _is_finite(tensor)]


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(value.detach().isfinite().all())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).partition('.')[2]
