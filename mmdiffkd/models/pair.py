"""One place where student and teacher are matched: captured maps -> heads -> loss."""

from collections import OrderedDict
from typing import Callable, Dict, List, Optional, Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import ConfigError
from mmdiffkd.models.hosts import build_component
from mmdiffkd.models.shapes import resize_like
from mmdiffkd.models.sync_bn import BatchNormSwitch, can_synchronize


class DistillPair(nn.Module):
    """Heads and loss of one pair.

    Args:
        name: Suffix of the pair's entries in the log.
        heads: One per captured map, or empty to compare the raw features.
        loss: Distance between refined and target maps, ``(N, C, H, W) x 2 -> scalar``.
        sync_bn: Whether the heads' batch norms use the statistics of all GPUs, whatever those of
            the student do; None does what the run's own ``sync_bn`` says. It takes effect with
            ``train()``, of which runners call one at least per epoch.

    Attributes:
        active: Whether the pair takes part in training; see :meth:`idle` for one that does not.
        kd_weight: Factor of ``loss_kd_<name>``, on top of the loss's own ``loss_weight``.
    """

    KEYS = ('student', 'teacher', 'head', 'loss', 'teacher_inputs', 'sync_bn')
    ENTRIES = ('loss_kd', 'loss_diff', 'loss_ae', 'dist_before', 'dist_after', 'gamma')
    """What a pair may add to the log, each followed by ``_<name>``."""

    def __init__(
        self,
        name: str,
        heads: Sequence[nn.Module],
        loss: nn.Module,
        sync_bn: Optional[bool] = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.heads = nn.ModuleList(heads)
        self.loss = loss
        self.sync_bn = sync_bn
        self._batch_norms = BatchNormSwitch(self.heads)
        self.active = True
        self.kd_weight = 1.0
        self._output_hooks: Dict[int, Callable] = OrderedDict()

    def register_output_hook(self, hook: Callable[[Sequence[HeadOutput]], None]) -> RemovableHandle:
        """Have ``hook`` called at the end of every forward with what was compared.

        Args:
            hook: Takes one :class:`HeadOutput` per map with entries, detached. It must not change
                the tensors.

        Returns:
            A handle as that of ``nn.Module.register_forward_hook``: ``remove()``, or the end of a
            ``with`` block, takes the hook away.
        """
        handle = RemovableHandle(self._output_hooks)
        self._output_hooks[handle.id] = hook
        return handle

    @classmethod
    def from_config(
        cls, name: str, cfg: Dict, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
    ) -> 'DistillPair':
        """Build a pair whose heads fit the given maps.

        Args:
            name: The pair's key in the config.
            cfg: With ``loss`` and optionally ``head`` and ``sync_bn``.
            student_maps: Captured in a dry forward, each (N, Cs, H, W).
            teacher_maps: Same number of maps, each (N, Ct, H, W).

        Raises:
            ConfigError: If without a head the channels differ.
        """
        where = f'pairs.{name}'
        channels = [(s.shape[1], t.shape[1]) for s, t in zip(student_maps, teacher_maps)]
        heads = []
        if cfg.get('head') is not None:
            heads = [
                build_component(
                    cfg['head'], f'{where}.head', student_channels=cs, teacher_channels=ct
                )
                for cs, ct in channels
            ]
        elif any(cs != ct for cs, ct in channels):
            raise ConfigError(
                f'{where}: without a head the channels must agree, but student and teacher have '
                f"{channels}; give it head=dict(type='AlignHead') or head=dict(type='DiffKDHead')"
            )
        sync_bn = cfg.get('sync_bn')
        pair = cls(name, heads, build_component(cfg['loss'], f'{where}.loss'), sync_bn)
        pair._check_sync_bn(where)
        return pair

    def _check_sync_bn(self, where: str) -> None:
        if self.sync_bn is None:
            return
        if not isinstance(self.sync_bn, bool):
            raise ConfigError(
                f"{where}.sync_bn must be True, False or None (what the run's own sync_bn says), "
                f'got {self.sync_bn!r}'
            )
        if not self._batch_norms:
            raise ConfigError(f'{where}.sync_bn: its heads have no batch norms; leave it out')

    def train(self, mode: bool = True) -> 'DistillPair':
        """As in ``nn.Module``; also puts the batch norms in place that ``sync_bn`` asks for."""
        if self.sync_bn is not None:
            self._batch_norms.turn(self.heads, on=self.sync_bn and can_synchronize(self))
        return super().train(mode)

    def forward(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
    ) -> Dict[str, Tensor]:
        """Losses and diagnostics of this pair.

        Maps without entries are left out, as if their heads were not there. Without any other the
        pair yields what :meth:`idle` does.

        Args:
            student_maps: Each (N, Cs, h, w).
            teacher_maps: As many, each (N, Ct, H, W).

        Returns:
            Scalars: ``loss_kd_<name>``, with diffusion heads ``loss_diff_<name>`` and
            ``loss_ae_<name>`` (sums over maps), and the detached means over maps
            ``dist_before_<name>``, ``dist_after_<name>`` and ``gamma_<name>``.
        """
        expected = len(self.heads) or len(teacher_maps)
        if not len(student_maps) == len(teacher_maps) == expected:
            raise RuntimeError(
                f'pairs.{self.name}: {len(student_maps)} student and {len(teacher_maps)} teacher '
                f'maps were captured, {expected} were seen when the distiller was built. A module '
                f'that yields more in training than in evaluation cannot be paired; name one in it'
            )
        levels = [level for level, feature in enumerate(student_maps) if feature.numel()]
        if not levels:
            return self.idle(*student_maps)
        outputs = self._run_heads(levels, student_maps, teacher_maps)
        distance = sum(self.loss(o.refined, o.target) for o in outputs)
        if len(levels) < len(student_maps):
            distance = distance + self._reached(
                [feature for feature in student_maps if not feature.numel()],
                [head for level, head in enumerate(self.heads) if level not in levels],
            )
        scalars = {f'loss_kd_{self.name}': self.kd_weight * distance}
        for key in outputs[0].losses:
            scalars[f'loss_{key}_{self.name}'] = sum(o.losses[key] for o in outputs)
        scalars.update(self._diagnostics(outputs))
        self._call_output_hooks(outputs)
        return scalars

    def teaches(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> bool:
        """Whether the student can learn from the pair: its loss has a gradient for the features.

        Args:
            student_maps: As for :meth:`forward`.
            teacher_maps: Likewise.
        """
        if not any(feature.numel() for feature in student_maps):
            # A blank image may have nothing that tells.
            return True
        with torch.enable_grad():
            # Of blank images features may be all alike, at which a distance can have no slope.
            inputs = [(x + torch.rand_like(x)).detach().requires_grad_() for x in student_maps]
            loss = self(inputs, teacher_maps)[f'loss_kd_{self.name}']
            if not loss.requires_grad:
                return False
            gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        return any(g is not None and bool((g != 0).any()) for g in gradients)

    def takes_part(self, has_entries: bool, varies: bool) -> bool:
        """Whether the pair is compared in this step.

        Batch norms that use the statistics of all processes wait for each other, so that such a
        pair rests in all processes if it has no entries in one.

        Args:
            has_entries: Whether there is something to compare in this process.
            varies: Whether another process may have no entries although this one has.
        """
        norms = [m for m in self.heads.modules() if isinstance(m, nn.SyncBatchNorm)]
        if not (varies and norms):
            return has_entries
        everywhere = torch.tensor(float(has_entries), device=norms[0].weight.device)
        all_reduce(everywhere, 'min')
        return bool(everywhere)

    def idle(self, *inputs: Tensor) -> Dict[str, Tensor]:
        """What the pair adds while it is not active or has nothing to compare: a loss of zero.

        In a backward pass its parameters are reached, as DDP waits for, but get no gradient.

        Args:
            *inputs: Student features without entries, or any tensor on the right device.
        """
        return {f'loss_kd_{self.name}': self._reached(inputs, [self])}

    @staticmethod
    def _reached(features: Sequence[Tensor], modules: Sequence[nn.Module]) -> Tensor:
        """A zero whose graph leads to empty features, and to parameters without a gradient."""
        zero = features[0].new_zeros(())
        parameters = [parameter for module in modules for parameter in module.parameters()]
        zero = _ReachesWithoutGradient.apply(zero, *parameters)
        return zero + sum(feature.sum() for feature in features if not feature.numel())

    def _run_heads(
        self, levels: Sequence[int], student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]
    ) -> List[HeadOutput]:
        maps = [
            (resize_like(student_maps[level], teacher_maps[level]), teacher_maps[level])
            for level in levels
        ]
        if self.heads:
            return [self.heads[level](*both) for level, both in zip(levels, maps)]
        # Losses of other libraries do not leave half precision by themselves.
        upcast = [(at_least_float32(s), at_least_float32(t)) for s, t in maps]
        return [HeadOutput(s, t, s.detach()) for s, t in upcast]

    @torch.no_grad()
    def _call_output_hooks(self, outputs: Sequence[HeadOutput]) -> None:
        if self._output_hooks:
            outputs = [output.detach() for output in outputs]
        for hook in self._output_hooks.values():
            hook(outputs)

    @torch.no_grad()
    def _diagnostics(self, outputs: Sequence[HeadOutput]) -> Dict[str, Tensor]:
        scalars = {
            f'dist_before_{self.name}': _mean(F.mse_loss(o.aligned, o.target) for o in outputs),
            f'dist_after_{self.name}': _mean(F.mse_loss(o.refined, o.target) for o in outputs),
        }
        for key in outputs[0].stats:
            scalars[f'{key}_{self.name}'] = _mean(o.stats[key].mean() for o in outputs)
        return scalars


class _ReachesWithoutGradient(torch.autograd.Function):
    """Its first argument; the others are part of the graph, and that is all."""

    @staticmethod
    def forward(ctx, value: Tensor, *parameters: Tensor) -> Tensor:
        ctx.number = len(parameters)
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return (None,) * (1 + ctx.number)


def _mean(scalars) -> Tensor:
    return torch.stack(list(scalars)).mean()
