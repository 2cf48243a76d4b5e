"""Distillation the naive way, to compare costs with. No training uses it."""

import copy
from typing import Any, Dict, List, Sequence

import torch
from mmengine.registry import MODELS
from naive_head import NaiveDiffKDHead
from torch import Tensor

from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.models.teachers import FrozenTeacher

# What changes the cost of a teacher or a head and nothing else.
TEACHER_SWITCHES = ('fold_bn', 'channels_last', 'precision', 'compile')
HEAD_SWITCHES = ('checkpoint', 'compile')


class NaiveTeacher(FrozenTeacher):
    """Runs the teacher's whole training forward, losses included, and picks its features."""

    def __init__(self, teacher: FrozenTeacher) -> None:
        vars(self).update(vars(teacher))
        self.capture.stop_after = {}

    @torch.no_grad()
    def features(
        self, inputs: Tensor, data_samples: Any, pairs: Sequence, student_features: Any
    ) -> Dict[str, List[Tensor]]:
        """As in :class:`FrozenTeacher`, for pairs without ``teacher_inputs``."""
        if any(pair.replaced for pair in pairs):
            raise NotImplementedError('the naive distiller knows no pairs with teacher_inputs')
        with self.capture as features:
            self.model(self.converter(inputs, data_samples), data_samples, mode='loss')
        return {pair.name: features[pair.teacher_path] for pair in pairs}


def has_diffusion_head(pair: Dict) -> bool:
    """Whether the config of a pair asks for a :class:`DiffKDHead`."""
    return (pair.get('head') or {}).get('type') in ('DiffKDHead', 'mmdiffkd.DiffKDHead')


def build_naive_distiller(cfg: Dict) -> DiffKDDistiller:
    """A distiller as ``cfg`` describes it, whose teacher and heads are the naive ones.

    Args:
        cfg: Model dict of a :class:`DiffKDDistiller`; not changed.
    """
    cfg = copy.deepcopy(cfg)
    for switch in TEACHER_SWITCHES:
        cfg['teacher'].pop(switch, None)
    cfg['teacher'].update(fold_bn=False, channels_last=False)
    for pair in cfg['pairs'].values():
        if has_diffusion_head(pair):
            pair['head']['type'] = NaiveDiffKDHead
            for switch in HEAD_SWITCHES:
                pair['head'].pop(switch, None)
    distiller = MODELS.build(cfg)
    distiller.teachers = {'': NaiveTeacher(distiller.teacher)}
    return distiller
