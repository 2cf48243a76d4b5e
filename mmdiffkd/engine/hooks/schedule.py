"""When distillation starts and stops, and how its weight grows and fades."""

import math
from typing import Any, Dict, NamedTuple, Optional, Set

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.errors import ConfigError, suggest
from mmdiffkd.models import DistillPair
from mmdiffkd.models.hosts import check_keys
from mmdiffkd.registry import HOOKS

_CURVES = dict(linear=lambda x: x, cosine=lambda x: (1 - math.cos(math.pi * x)) / 2)
_NAME = 'DistillationScheduleHook'


class Ramp(NamedTuple):
    """A factor that changes over time to or from 1.

    Attributes:
        length: How long that takes, in epochs or iterations.
        factor: At the other end.
        curve: ``'linear'`` or ``'cosine'``.
    """

    length: float
    factor: float
    curve: str

    @classmethod
    def from_config(
        cls, cfg: Optional[Dict], factor_key: str, by_epoch: bool, where: str
    ) -> Optional['Ramp']:
        """Read ``warmup`` or ``decay``, which name the factor differently."""
        if cfg is None:
            return None
        check_keys(cfg, ('length', factor_key, 'curve'), ('length',), where)
        ramp = cls(cfg['length'], cfg.get(factor_key, 0.0), cfg.get('curve', 'linear'))
        _check_time(ramp.length, by_epoch, f'{where}.length')
        if ramp.length == 0:
            raise ConfigError(f'{where}.length must be more than 0; None is the way to go without')
        if not _is_number(ramp.factor) or ramp.factor < 0:
            raise ConfigError(f'{where}.{factor_key} must be a number from 0, got {ramp.factor!r}')
        if ramp.curve not in list(_CURVES):
            raise ConfigError(
                f'{where}.curve must be one of {", ".join(map(repr, _CURVES))}, got '
                f'{ramp.curve!r}{suggest(ramp.curve, _CURVES)}'
            )
        return ramp

    def at(self, distance: float) -> float:
        """The value at a distance in time from the end where it is ``factor``."""
        progress = min(max(distance / self.length, 0.0), 1.0)
        return self.factor + (1 - self.factor) * _CURVES[self.curve](progress)


class PairSchedule(NamedTuple):
    """What happens to one pair in the course of a training.

    Attributes:
        begin: First epoch or iteration with distillation, counted from 0.
        end: First one without it again; None is the end of the training.
        warmup: From ``begin`` on.
        decay: Up to ``end``.
    """

    begin: float
    end: Optional[float]
    warmup: Optional[Ramp]
    decay: Optional[Ramp]

    @classmethod
    def from_config(cls, cfg: Dict, by_epoch: bool, where: str) -> 'PairSchedule':
        """Read and check the settings of one pair."""
        schedule = cls(
            cfg['begin'],
            cfg['end'],
            Ramp.from_config(cfg['warmup'], 'start_factor', by_epoch, f'{where}.warmup'),
            Ramp.from_config(cfg['decay'], 'end_factor', by_epoch, f'{where}.decay'),
        )
        _check_time(schedule.begin, by_epoch, f'{where}.begin')
        if schedule.end is None:
            return schedule
        _check_time(schedule.end, by_epoch, f'{where}.end')
        if schedule.end <= schedule.begin:
            raise ConfigError(
                f'{where}.end must be later than begin={schedule.begin}, got {schedule.end}'
            )
        ramps = sum(ramp.length for ramp in (schedule.warmup, schedule.decay) if ramp is not None)
        if ramps > schedule.end - schedule.begin:
            raise ConfigError(
                f'{where}: warmup and decay take {ramps:g}, more than there is between '
                f'begin={schedule.begin} and end={schedule.end}'
            )
        return schedule

    def weight(self, now: float, training_length: float) -> Optional[float]:
        """Factor of the pair's loss, None if there is no distillation.

        Args:
            now: Epochs (with fractions) or iterations done.
            training_length: Of the whole training, in the same unit.
        """
        end = training_length if self.end is None else self.end
        if now < self.begin or self.end is not None and now >= end:
            return None
        warmup = 1.0 if self.warmup is None else self.warmup.at(now - self.begin)
        decay = 1.0 if self.decay is None else self.decay.at(end - now)
        return warmup * decay


@HOOKS.register_module()
class DistillationScheduleHook(Hook):
    """Starts and stops distillation, and changes its weight during training.

    The weight is a factor of a pair's ``loss_kd_<pair>``, on top of the ``loss_weight`` in its
    config; it is logged as ``kd_weight_<pair>``. The losses by which autoencoder and noise
    predictor learn keep their weight while the pair is distilled, also at weight 0.

    A pair that is not distilled costs nothing: its heads do not run, the teacher runs only as far
    as others need it, and without any other not at all. Its parameters stay exactly as they are,
    whatever momentum and weight decay the optimizer has; its ``loss_kd_<pair>`` is 0 and its other
    entries leave the log.

    All follows from the epoch and the iteration that the runner is in, so that a resumed run goes
    on as it would have.

    Args:
        begin: First epoch (or iteration) with distillation, counted from 0: ``begin=5`` means that
            five have gone by before it starts.
        end: First epoch (or iteration) without it again; None distils to the end of the training.
        warmup: ``dict(length, start_factor=0.0, curve='linear')``: the weight grows from
            ``start_factor``, which the first iteration has, to 1, which it is ``length`` later.
            ``curve='cosine'`` starts and ends gently.
        decay: ``dict(length, end_factor=0.0, curve='linear')``: over the ``length`` before ``end``
            the weight goes from 1 to ``end_factor``, which it would have at ``end`` itself.
        by_epoch: Count in epochs; False counts in iterations. Epochs may have fractions, such as
            ``begin=0.5``; weights change with every iteration in either case.
        pairs: Settings of single pairs by name: each of ``begin``, ``end``, ``warmup`` and
            ``decay`` that is given replaces the one above.

    Raises:
        ConfigError: If a setting cannot be used. What depends on the run (names of pairs, the kind
            of its training loop) is checked when training starts.
    """

    KEYS = ('begin', 'end', 'warmup', 'decay')

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
        common = dict(begin=begin, end=end, warmup=warmup, decay=decay)
        self._default = PairSchedule.from_config(common, by_epoch, _NAME)
        self._own: Dict[str, PairSchedule] = {}
        for name, cfg in (pairs or {}).items():
            where = f'{_NAME}.pairs.{name}'
            check_keys(cfg, self.KEYS, (), where)
            self._own[name] = PairSchedule.from_config({**common, **cfg}, by_epoch, where)
        self._pairs: Dict[str, DistillPair] = {}
        # Names of the pairs that were distilled since the optimizer's last step.
        self._distilled: Set[str] = set()
        self._step_hook = None

    def before_train(self, runner: Runner) -> None:
        """Check the settings against the run."""
        self._pairs = dict(distiller_of(runner, self).pairs.items())
        for name in self._own:
            if name not in self._pairs:
                raise ConfigError(
                    f'{_NAME}.pairs: the model has no pair {name!r}{suggest(name, self._pairs)} '
                    f'(it has {", ".join(self._pairs)})'
                )
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ConfigError(
                f'{_NAME}: this config trains by iterations (IterBasedTrainLoop), which have no '
                f'epochs to count; set by_epoch=False and give all times in iterations'
            )
        for name in self._pairs:
            begin = self._schedule(name).begin
            if begin >= self._training_length(runner):
                runner.logger.warning(
                    f'{_NAME}: pairs.{name} begins after {begin:g} {self._unit}, when the training '
                    f'is over; it will never be distilled'
                )
        # DDP hands zeros to parameters without a gradient, and an optimizer would decay those.
        self._step_hook = runner.optim_wrapper.optimizer.register_step_pre_hook(
            self._drop_gradients
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set what holds for this iteration."""
        now = runner.iter
        if self.by_epoch:
            # Not from runner.iter: with other numbers of batches than now, earlier epochs count.
            now = runner.epoch + batch_idx / len(runner.train_dataloader)
        weights = {
            name: self._schedule(name).weight(now, self._training_length(runner))
            for name in self._pairs
        }
        for name, weight in weights.items():
            pair, active = self._pairs[name], weight is not None
            if active != pair.active:
                self._announce(runner, name, active, now)
                _forget(runner, pair)
            pair.active, pair.kd_weight = active, weight or 0.0
            runner.message_hub.update_scalar(f'train/kd_weight_{name}', pair.kd_weight)
            if active:
                self._distilled.add(name)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Note when the optimizer has made its step."""
        if runner.optim_wrapper.should_update():
            self._distilled.clear()

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer alone again."""
        self._step_hook.remove()

    @property
    def _unit(self) -> str:
        return 'epochs' if self.by_epoch else 'iterations'

    def _schedule(self, name: str) -> PairSchedule:
        return self._own.get(name, self._default)

    def _training_length(self, runner: Runner) -> int:
        return runner.max_epochs if self.by_epoch else runner.max_iters

    def _announce(self, runner: Runner, name: str, active: bool, now: float) -> None:
        runner.logger.info(
            f'pairs.{name}: {"" if active else "not "}distilled from here on, '
            f'{now:g} {self._unit} done'
        )

    def _drop_gradients(self, *_) -> None:
        for name, pair in self._pairs.items():
            if name not in self._distilled:
                for parameter in pair.parameters():
                    parameter.grad = None


def _forget(runner: Runner, pair: nn.Module) -> None:
    """Take a pair's entries out of the log, which repeats the last value of what is not updated."""
    for entry in pair.ENTRIES:
        runner.message_hub.log_scalars.pop(f'train/{entry}_{pair.name}', None)


def _check_time(value: Any, by_epoch: bool, where: str) -> None:
    if not _is_number(value) or value < 0:
        raise ConfigError(f'{where} must be a number from 0, got {value!r}')
    if not by_epoch and value != int(value):
        raise ConfigError(f'{where} counts iterations and must be whole, got {value!r}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
