"""The runner of a distillation."""

import json

import mmcv.ops
import pytest
from mmcv.ops import nms
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS

from mmdiffkd.apis import build_runner
from mmdiffkd.errors import ConfigError

from ..conftest import ToyModel
from ..toy_run import toy_run


class MeanTeacherHook(Hook):
    """mmdet's, which averages `model.student` into `model.teacher`."""


@HOOKS.register_module()
class DelayedMeanTeacherHook(MeanTeacherHook):
    """Somebody's own."""


def test_hooks_that_ask_for_another_teacher_are_refused(toy_config, tmp_path):
    hooks = [dict(type='DelayedMeanTeacherHook')]
    build_runner(toy_run(toy_config['student'], tmp_path, custom_hooks=hooks))
    message = 'custom_hooks: MeanTeacherHook cannot be used with a distiller'
    with pytest.raises(ConfigError, match=message):
        build_runner(toy_run(toy_config, tmp_path, custom_hooks=hooks))


@DATASETS.register_module()
class Listed(BaseDataset):
    """A data set whose file lists it."""


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_data_is_checked_before_the_first_step(split, toy_config, tmp_path):
    """mmengine says "need at least one array to concatenate"."""
    path = tmp_path / 'list.json'
    path.write_text(json.dumps(dict(metainfo={}, data_list=[])))
    cfg = toy_run(toy_config['student'], tmp_path)
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'], cfg[f'{part}_cfg'] = cfg.train_dataloader.copy(), {}
        cfg[f'{part}_evaluator'] = dict(type='MeanLogit')
    cfg[f'{split}_dataloader'].dataset = dict(type='Listed', ann_file=str(path))

    def run():
        runner = build_runner(cfg)
        runner.test() if split == 'test' else runner.train()

    with pytest.raises(ConfigError, match=f"{split}_dataloader.dataset: .* '{path}' lists none"):
        run()
    cfg.check_data, cfg.experiment_name = False, f'unchecked_{split}'
    with pytest.raises(ValueError, match='at least one array'):
        run()


@METRICS.register_module()
class Picky(BaseMetric):
    """Counts what it was given, if each has the key that it is to read."""

    def __init__(self, key):
        super().__init__()
        self.key = key

    def process(self, data_batch, data_samples):
        self.results += data_batch[self.key]

    def compute_metrics(self, results):
        return dict(number=len(results))


def test_validation_is_tried_before_the_first_step(toy_config, tmp_path):
    """A mistake there is told at once, and the trial leaves nothing behind."""
    cfg = toy_run(toy_config, tmp_path)
    cfg.val_dataloader, cfg.val_cfg = cfg.train_dataloader.copy(), {}
    cfg.val_evaluator = dict(type='Picky', key='inputs')
    runner = build_runner(cfg)
    runner.train()
    assert runner.message_hub.get_scalar('val/number').current() == 4
    cfg.val_evaluator.key, cfg.experiment_name = 'img_id', 'picky'
    runner = build_runner(cfg)
    with pytest.raises(ConfigError, match="the validation fails: KeyError: 'img_id'"):
        runner.train()
    assert runner.iter == 0


@MODELS.register_module()
class CallsNMS(ToyModel):
    """Has an operation of mmcv for its predictions."""

    operation = nms


def test_gpu_and_an_mmcv_without_cuda(toy_config, tmp_path, monkeypatch):
    """It is said before the first step, and only where an operation can be called."""
    built_with = ['not available']
    monkeypatch.setattr('mmdiffkd.engine.runner.get_device', lambda: 'cuda')
    monkeypatch.setattr(mmcv.ops, 'get_compiling_cuda_version', lambda: built_with[0])
    detector = toy_run(dict(toy_config, student=dict(type='CallsNMS')), tmp_path)
    build_runner(toy_run(toy_config, tmp_path))
    with pytest.raises(ConfigError, match='CallsNMS calls nms of mmcv, .* without CUDA'):
        build_runner(detector)
    built_with[0] = 'none (kit)'
    build_runner(detector)
