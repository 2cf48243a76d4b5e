"""The data and the teacher of a config, looked at before anything slow begins."""

from pathlib import Path
from typing import Any, List

from mmengine.config import Config

from mmdiffkd.datasets.config_checks import check_config, is_placeholder, not_there
from mmdiffkd.datasets.data_checks import read_and_check
from mmdiffkd.errors import CheckpointError
from mmdiffkd.messages import tell
from mmdiffkd.models.configs import load_config, teachers_in, untrained_config
from mmdiffkd.models.hosts import build_model
from mmdiffkd.models.teacher_weights import check_patterns, load_teacher_weights


def loaders_to_check(cfg: Config) -> List[str]:
    """The keys of the loaders of a training whose data is checked."""
    keys = () if cfg.get('check_data') is False else ('train_dataloader', 'val_dataloader')
    return [key for key in keys if cfg.get(key) is not None]


def check_inputs(cfg: Config, smoke: bool = False) -> List[str]:
    """Raise :class:`UserError` for mistakes in the data and the teacher of a training.

    Args:
        cfg: Complete config of a training; ``check_data=False`` in it leaves its data out.
        smoke: Whether the config is about to be tried with other data and a random teacher. Then
            data sets and the teacher's file are read here, and data that is below a folder ``data``
            may be missing.

    Returns:
        For a smoke run a sentence for each thing that was not looked at.
    """
    keys = loaders_to_check(cfg)
    absent = check_config(cfg, keys, smoke)
    for key in keys if smoke else ():
        read_and_check(cfg, key, absent)
    if smoke and keys and not absent:
        tell('No mistake was found in your data')
    reasons = dict.fromkeys(absent.values())
    unseen = [f'your data, which the training needs: {reason}' for reason in reasons]
    if cfg.get('check_data') is False:
        unseen = ['the data: the config has check_data=False']
    unseen += _check_teachers(cfg.model, smoke)
    return unseen if smoke else []


def _check_teachers(model: Any, smoke: bool) -> List[str]:
    """Look for the files of the teachers in a model's config, and compare them in a smoke run."""
    unseen = []
    for key, teacher in teachers_in(model).items():
        config, checkpoint = teacher.get('config'), teacher.get('checkpoint')
        if isinstance(config, str):
            load_config(config, f'{key}.config')
        if checkpoint == 'zoo' or '://' in str(checkpoint):
            unseen.append(
                f'the published weights of model.{key} ({checkpoint}): the training downloads them'
            )
        elif checkpoint == 'random':
            unseen.append(
                f'weights of the teacher: write their path into the config below, {key}.checkpoint'
            )
        elif not isinstance(checkpoint, str):
            continue
        elif not Path(checkpoint).expanduser().exists():
            if not smoke or not is_placeholder(Path(checkpoint).parent):
                raise CheckpointError(f'{key}.{not_there("checkpoint", checkpoint)}')
            unseen.append(
                f"the teacher's weights, which the training needs: {checkpoint} is not there"
            )
        elif smoke:
            names = ('ignore_keys', 'trust_checkpoint', 'prefix')
            settings = {name: teacher[name] for name in names if name in teacher}
            check_patterns(settings.get('ignore_keys', ()))
            network = build_model(untrained_config(config, 'teacher.config'), 'teacher.config')
            load_teacher_weights(network, config, checkpoint, **settings)
    return unseen
