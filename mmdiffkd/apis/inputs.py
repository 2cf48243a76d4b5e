"""The data and the teacher of a config, looked at before anything slow begins."""

from typing import Any, List

from mmengine.config import Config

from mmdiffkd.datasets.config_checks import check_config
from mmdiffkd.datasets.data_checks import read_and_check
from mmdiffkd.models.configs import untrained_config
from mmdiffkd.models.hosts import build_model
from mmdiffkd.models.teacher_weights import check_patterns, load_teacher_weights

_NAMES = dict(train_dataloader='training', val_dataloader='validation')


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
    unseen: List[str] = []
    keys = [key for key in _NAMES if cfg.get(key) is not None]
    if cfg.get('check_data') is False:
        unseen += ['the data: the config has check_data=False'] if smoke else []
        keys = []
    absent = check_config(cfg, keys, smoke)
    for key in keys if smoke else ():
        read_and_check(cfg, key, absent)
        why = [reason for where, reason in absent.items() if where.startswith(key)]
        unseen += [f'the {_NAMES[key]} data: {reason}' for reason in dict.fromkeys(why)]
    return [*unseen, *_read_teachers(cfg.model)] if smoke else []


def _read_teachers(model: Any) -> List[str]:
    """Compare the files of the teachers in a model's config with their configs."""
    unseen = []
    while isinstance(model, dict) and 'student' in model:
        teacher, model = model['teacher'], model['student']
        checkpoint = teacher.get('checkpoint')
        if checkpoint == 'zoo' or '://' in str(checkpoint):
            unseen.append(f"the teacher's weights ({checkpoint}): nothing is downloaded")
        elif checkpoint not in ('random', None):
            settings = {key: teacher[key] for key in ('ignore_keys', 'trust_checkpoint', 'prefix')
                        if key in teacher}  # fmt: skip
            check_patterns(settings.get('ignore_keys', ()))
            config = teacher.get('config')
            network = build_model(untrained_config(config, 'teacher.config'), 'teacher.config')
            load_teacher_weights(network, config, checkpoint, **settings)
    return unseen
