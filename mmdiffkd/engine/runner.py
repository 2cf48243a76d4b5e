"""The runner of a distillation."""

import functools
from contextlib import ExitStack, contextmanager
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner, ValLoop
from torch import nn
from torch.utils.data import IterableDataset

from mmdiffkd.checkpoints.reading import weights_only
from mmdiffkd.checkpoints.weights import weights_of
from mmdiffkd.compat import missing_operation
from mmdiffkd.datasets.config_checks import check_config
from mmdiffkd.datasets.data_checks import check_data, read_and_check
from mmdiffkd.datasets.file_checks import spread
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import CheckpointError, ConfigError, UserError, describe
from mmdiffkd.messages import shorten
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.models.configs import datasets_in
from mmdiffkd.models.dry_run import undisturbed
from mmdiffkd.registry import MODELS, RUNNERS

# Hooks of the hosts that take the student and the teacher of a model for others than they are here.
_UNSERVED = {'MeanTeacherHook', 'PrepareProtoBeforeValLoopHook'}


def complete_model(cfg: Config) -> Dict:
    """The config of the model of a complete ``cfg``, with what the runner would add to it."""
    model = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return _with_data(model, cfg.get('train_dataloader'))


def _with_data(model: Any, data: Any) -> Any:
    """A model's config, with ``data`` if it is a distiller, or has one as its student."""
    kind = model.get('type') if isinstance(model, dict) else None
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(cls, type) or not issubclass(cls, DiffKDDistiller):
        return model
    if 'student' not in model:
        raise ConfigError("model: 'student' is required")
    return {'data': data, **model, 'student': _with_data(model['student'], data)}


def _reading(run: Callable) -> Callable:
    """Give a runner's method an ``ExitStack`` for the time in which weights are read."""

    @functools.wraps(run)
    def wrapper(self: 'DistillRunner') -> Any:
        with ExitStack() as self._weights_are_read:
            return run(self)

    return wrapper


@contextmanager
def told_as_config_error(what: str) -> Iterator[None]:
    """Make an error of a host that cannot build a part of a config a :class:`ConfigError`."""
    try:
        yield
    except (UserError, UnpicklingError):
        # The tools say how a refused file with weights can be allowed.
        raise
    except Exception as error:
        raise ConfigError(f'{what} cannot be built: {describe(error)}') from error


@RUNNERS.register_module()
class DistillRunner(Runner):
    """mmengine's runner, which builds a distiller with the run's ``train_dataloader`` as ``data``.

    Checkpoints cannot run code unless the config has ``trust_checkpoint=True``. The tools use this
    runner by themselves; another library's tool needs ``runner_type='mmdiffkd.DistillRunner'``.
    Data is checked before the first step unless the config has ``check_data=False``.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, whose terminal shows what ``terminal_level`` of the config says."""
        logger = super().build_logger(*args, **kwargs)
        if self.cfg.get('terminal_level') is not None:
            shorten(logger, self.cfg.terminal_level)
        return logger

    # Weights are read while the model is built, and between the before_run hooks and the loop.

    _weights_are_read: Optional[ExitStack] = None
    train, val, test = map(_reading, (Runner.train, Runner.val, Runner.test))

    def build_model(self, model: Union[nn.Module, Dict]) -> nn.Module:
        """Build a model from its config; a built model is returned as it is."""
        with weights_only(self.cfg.get('trust_checkpoint') is True), told_as_config_error('model'):
            return super().build_model(_with_data(model, self.cfg.get('train_dataloader')))

    def wrap_model(self, model_wrapper_cfg: Optional[Dict], model: nn.Module) -> nn.Module:
        """Move the model to its device; an mmcv that cannot compute there is an error."""
        teachers = model.teachers.values() if isinstance(model, DiffKDDistiller) else ()
        for part in (model, *(teacher.model for teacher in teachers)):
            if missing := missing_operation(part, get_device()):
                raise ConfigError(
                    f'model: {missing} of mmcv, which was built without CUDA operations; install '
                    f'mmcv with them (docs/get-started.md), or hide the GPU: CUDA_VISIBLE_DEVICES='
                )
        return super().wrap_model(model_wrapper_cfg, model)

    build_optim_wrapper = told_as_config_error('optim_wrapper')(Runner.build_optim_wrapper)
    build_param_scheduler = told_as_config_error('param_scheduler')(Runner.build_param_scheduler)

    def build_train_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """Build the loop of training; its data is checked."""
        return self._with_checked_data(super().build_train_loop, loop, 'train_dataloader')

    def build_val_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """Build the loop of validation; its data is checked."""
        return self._with_checked_data(super().build_val_loop, loop, 'val_dataloader')

    def build_test_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """Build the loop of testing; its data is checked."""
        return self._with_checked_data(super().build_test_loop, loop, 'test_dataloader')

    def _with_checked_data(self, build: Callable, loop: Any, key: str) -> BaseLoop:
        is_checked = self.cfg.get('check_data') is not False
        try:
            with told_as_config_error(f'{key} or its loop'):
                loop = build(loop)
        except Exception:
            # If something is wrong with the data, it is said better here.
            if is_checked:
                check_config(self.cfg, [key])
                read_and_check(self.cfg, key)
            raise
        if not is_checked:
            return loop
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        check_data(self.cfg, key, datasets_in(dataset, f'{key}.dataset'))
        return loop

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks at a place of the run."""
        if self._weights_are_read and fn_name in ('before_train', 'before_val', 'before_test'):
            self._weights_are_read.close()
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_train' and type(self.val_loop) is ValLoop:
            self._try_validation(self.val_loop)
        if self._weights_are_read and fn_name == 'before_run':
            context = weights_only(self.cfg.get('trust_checkpoint') is True)
            self._weights_are_read.enter_context(context)

    def _try_validation(self, loop: ValLoop) -> None:
        """Predict one or two images; mistakes of the validation would be met an epoch later."""
        loader = loop.dataloader
        places = {type(hook).before_val.__module__.partition('.')[0] for hook in self.hooks}
        # A hook of another library may have to prepare the model for its validation.
        is_prepared = not places <= {'mmengine', 'mmdiffkd'}
        unknown = isinstance(loader.dataset, IterableDataset)
        if self.cfg.get('check_data') is False or is_prepared or unknown:
            return
        try:
            with undisturbed(self.model):
                indices = spread(len(loader.dataset), min(2, loader.batch_size or 1))
                batch = loader.collate_fn([loader.dataset[index] for index in indices])
                loop.evaluator.process(self.model.val_step(batch), batch)
        except Exception as error:
            if isinstance(error, UserError):
                raise
            what = 'val_dataloader, val_evaluator: the validation fails'
            raise ConfigError(f'{what}: {describe(error)}') from error
        finally:
            for metric in loop.evaluator.metrics:
                metric.results.clear()

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Dict:
        """Load weights into the model; a file that has none of them is an error."""
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        model = model_of(self)
        renamed = kwargs.get('revise_keys')
        if not renamed and not model.state_dict().keys() & weights_of(checkpoint).keys():
            what = f'checkpoint {filename!r} has none of the weights of {type(model).__name__}'
            raise CheckpointError(f'{what}; is it of another model?')
        return checkpoint

    @told_as_config_error('custom_hooks')
    def register_custom_hooks(self, hooks: List[Union[Hook, Dict]]) -> None:
        """Register hooks, except those that do not work with a distiller."""
        super().register_custom_hooks(hooks)
        kinds = {base.__name__ for hook in self.hooks for base in type(hook).__mro__}
        for name in kinds & _UNSERVED if isinstance(model_of(self), DiffKDDistiller) else ():
            raise ConfigError(
                f'custom_hooks: {name} cannot be used with a distiller; take it out (to average '
                f'the weights of the student, use EMAHook)'
            )
