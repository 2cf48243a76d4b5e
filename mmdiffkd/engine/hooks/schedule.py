"""When distillation starts and ends, and how its weight changes."""

import math
from typing import Any, Dict, Optional, Set

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError, check_numbers, suggest
from mmdiffkd.messages import tell
from mmdiffkd.models import DistillPair
from mmdiffkd.models.hosts import check_keys
from mmdiffkd.registry import HOOKS

_NAME = 'DistillationScheduleHook'
_CURVES = dict(linear=lambda x: x, cosine=lambda x: (1 - math.cos(math.pi * x)) / 2)


def _factor(ramp: Optional[Dict], key: str, distance: float) -> float:
    """The value of a ramp at this distance in time from its low end; without a ramp 1."""
    if ramp is None:
        return 1.0
    low, curve = ramp.get(key, 0.0), _CURVES[ramp.get('curve', 'linear')]
    return low + (1 - low) * curve(min(max(distance / ramp['length'], 0.0), 1.0))


def _weight(schedule: Dict, now: float, training_length: float) -> Optional[float]:
    """Factor of a pair's loss, None if it is not distilled; both times in the same unit."""
    begin, end = schedule['begin'], schedule['end']
    if now < begin or end is not None and now >= end:
        return None
    left = (training_length if end is None else end) - now
    warmup = _factor(schedule['warmup'], 'start_factor', now - begin)
    return warmup * _factor(schedule['decay'], 'end_factor', left)


@HOOKS.register_module()
class DistillationScheduleHook(Hook):
    """Starts and ends distillation, and changes its weight during training.

    The weight is a factor of ``loss_kd_<pair>`` and is logged as ``kd_weight_<pair>``. The heads of
    a pair that is not distilled do not run and do not change.

    Args:
        begin: First epoch (or iteration) with distillation, counted from 0.
        end: First epoch (or iteration) without it again; None is the end of the training.
        warmup: ``dict(length, start_factor=0.0, curve='linear')``, where ``curve`` may be
            ``'cosine'``: growth from ``begin`` on.
        decay: ``dict(length, end_factor=0.0, curve='linear')``: decrease before ``end``.
        by_epoch: Whether times are in epochs, which may have fractions, or in iterations.
        pairs: Pair's name to its own ``begin``, ``end``, ``warmup`` and ``decay``.
    """

    def __init__(
        self,
        begin: float = 0,
        end: Optional[float] = None,
        warmup: Optional[Dict] = None,
        decay: Optional[Dict] = None,
        by_epoch: bool = True,
        pairs: Optional[Dict[str, Dict]] = None,
    ) -> None:
        self.by_epoch = by_epoch
        self._default = dict(begin=begin, end=end, warmup=warmup, decay=decay)
        _check_schedule(self._default, by_epoch, _NAME)
        self._own: Dict[str, Dict] = {}
        for name, cfg in (pairs or {}).items():
            where = f'{_NAME}.pairs.{name}'
            check_keys(cfg, self._default, (), where)
            self._own[name] = {**self._default, **cfg}
            _check_schedule(self._own[name], by_epoch, where)
        self._pairs: Dict[str, DistillPair] = {}
        # Pairs that were distilled since the optimizer's last step.
        self._distilled: Set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Check the settings against the run."""
        self._pairs = dict(distiller_of(runner, self).pairs.items())
        for name in self._own.keys() - self._pairs.keys():
            hint = f'{suggest(name, self._pairs)} (it has {", ".join(self._pairs)})'
            raise ConfigError(f'{_NAME}.pairs: the model has no pair {name!r}{hint}')
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(f'{_NAME}.by_epoch must be False with IterBasedTrainLoop')
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        for schedule in (self._default, *self._own.values()):
            if schedule['begin'] > length:
                what = f'begin must not be after the end of the training, {length}'
                raise ConfigError(f'{_NAME}: {what}, got {schedule["begin"]}')
        many = isinstance(runner.optim_wrapper, OptimWrapperDict)
        self._wrappers = list(runner.optim_wrapper.values()) if many else [runner.optim_wrapper]
        # DDP gives zeros to parameters without a gradient, and weight decay would change those.
        optimizers = [wrapper.optimizer for wrapper in self._wrappers]
        self._hooks = [o.register_step_pre_hook(self._drop_gradients) for o in optimizers]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set what holds for this iteration."""
        now, length, unit = runner.iter, runner.max_iters, 'iterations'
        if self.by_epoch:
            # runner.iter is of no use here if earlier epochs had another number of batches.
            now = runner.epoch + batch_idx / len(runner.train_dataloader)
            length, unit = runner.max_epochs, 'epochs'
        for name, pair in self._pairs.items():
            weight = _weight(self._own.get(name, self._default), now, length)
            active = weight is not None
            if active != pair.active:
                change = 'distilled' if active else 'not distilled'
                tell(f'pairs.{name}: {change} from here on, {now:g} {unit} done')
                self._forget(runner, name)
            pair.active, pair.kd_weight = active, weight or 0.0
            runner.message_hub.update_scalar(f'train/kd_weight_{name}', pair.kd_weight)
            if active:
                self._distilled.add(name)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note whether the optimizers have made their step."""
        if all(wrapper.should_update() for wrapper in self._wrappers):
            self._distilled.clear()

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks of the optimizers."""
        for hook in self._hooks:
            hook.remove()

    def _drop_gradients(self, *_: Any) -> None:
        for name in self._pairs.keys() - self._distilled:
            for parameter in self._pairs[name].parameters():
                parameter.grad = None

    def _forget(self, runner: Runner, name: str) -> None:
        """Take a pair's entries out of the log, which repeats values that are not updated."""
        scalars = runner.message_hub.log_scalars
        for key in list(scalars):
            # Another pair's name may end in this one's, as 'my_fpn' does in 'fpn'.
            owners = [pair for pair in self._pairs if key.endswith(f'_{pair}')]
            if key.startswith('train/') and max(owners, key=len, default=None) == name:
                scalars.pop(key)


def _check_schedule(cfg: Dict, by_epoch: bool, where: str) -> None:
    kind, needed = float if by_epoch else int, 0
    for key, factor in (('warmup', 'start_factor'), ('decay', 'end_factor')):
        ramp = cfg[key]
        if ramp is None:
            continue
        check_keys(ramp, ('length', factor, 'curve'), ('length',), f'{where}.{key}')
        check_numbers(0, kind, above=True, where=f'{where}.{key}.', length=ramp['length'])
        check_numbers(0, float, where=f'{where}.{key}.', **{factor: ramp.get(factor, 0.0)})
        curve = ramp.get('curve', 'linear')
        if curve not in list(_CURVES):
            raise ConfigError(f"{where}.{key}.curve must be 'linear' or 'cosine', got {curve!r}")
        needed += ramp['length']
    begin, end = cfg['begin'], cfg['end']
    check_numbers(0, kind, where=f'{where}.', begin=begin)
    if end is not None:
        check_numbers(0, kind, where=f'{where}.', end=end)
        if end <= begin or needed > end - begin:
            what = f'be later than begin={begin} and leave room for warmup and decay'
            raise ConfigError(f'{where}.end must {what}, got {end}')
