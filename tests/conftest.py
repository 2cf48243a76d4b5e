"""A host in miniature: models with the interface of mmdet, mmseg and mmpretrain."""

import copy
import os
import re
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS, DefaultScope
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import mmdiffkd  # noqa: F401 (before any `mmseg::` config is read, see mmdiffkd.compat)

# Modules that belong to scripts and not to the package.
ROOT = Path(__file__).parents[1]
FOLDERS = ('benchmarks/cost', 'benchmarks/comparison', 'tools/analysis')
sys.path += [str(ROOT / folder) for folder in FOLDERS]

# Workers of a data loader that is in a reference cycle are not told to end, and torch waits so many
# seconds for each. Killed runs leave such loaders.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2

# The same examples in every run, however long one takes, and none of them kept on disk.
settings.register_profile('mmdiffkd', derandomize=True, deadline=None, database=None)
settings.load_profile('mmdiffkd')
# What hypothesis caches of the sources would be a folder in the tree.
os.environ.setdefault(
    'HYPOTHESIS_STORAGE_DIRECTORY', str(Path(tempfile.gettempdir(), 'mmdiffkd-hypothesis'))
)


@MODELS.register_module()
class ToyModel(BaseModel):
    """Backbone, two-level neck, and a convolution that both levels share."""

    def __init__(self, width=8, num_classes=3, levels=2, dropout=0.0, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor or dict(type='ImgDataPreprocessor'))
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, stride=2),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.neck = ToyNeck(width, levels)
        self.head = nn.Module()
        self.head.cls = nn.Conv2d(width, num_classes, 1)
        self.modes = []

    def extract_feat(self, inputs):
        self.modes.append('extract_feat')
        return self.neck(self.backbone(inputs))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.modes.append(mode)
        logits = [self.head.cls(level) for level in self.extract_feat(inputs)]
        if mode == 'loss':
            return dict(loss_task=sum(level.square().mean() for level in logits))
        return logits


@MODELS.register_module()
class SynchronizedToyModel(ToyModel):
    """A student whose own config asks for synchronised batch norm, as mmseg's do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.backbone[1] = nn.SyncBatchNorm(self.backbone[1].num_features)


@MODELS.register_module()
class HidingToy(ToyModel):
    """Hides a prefix, as wrappers of other libraries' models do: its hook returns another dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._register_state_dict_hook(self._hide)
        self._register_load_state_dict_pre_hook(self._show)

    @staticmethod
    def _hide(module, state, prefix, _):
        pattern = f'^{re.escape(prefix)}backbone\\.'
        return OrderedDict((re.sub(pattern, f'{prefix}stem-', k), v) for k, v in state.items())

    @staticmethod
    def _show(state, prefix, *_):
        for key in [key for key in state if key.startswith(f'{prefix}stem-')]:
            state[prefix + key[len(prefix) :].replace('stem-', 'backbone.')] = state.pop(key)


class ToyNeck(nn.Module):
    def __init__(self, width, levels):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(levels))

    def forward(self, x):
        return tuple(
            conv(nn.functional.avg_pool2d(x, 2**level)) for level, conv in enumerate(self.convs)
        )


@METRICS.register_module()
class MeanLogit(BaseMetric):
    """The mean of the first level's logits, and some that are no scalars."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results.extend(float(logits.mean()) for logits in data_samples[0])

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results), each=results, name='toy')


def make_toy_teacher(folder):
    """Config and checkpoint of a toy teacher wider than the student."""
    model = dict(type='ToyModel', width=12, dropout=0.5)
    path = folder / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(copy.deepcopy(model)).state_dict()), path)
    return dict(config=model, checkpoint=str(path))


def make_toy_config(teacher):
    """A distiller config with one pair per kind: denoised maps, plain maps, logits."""
    return dict(
        type='mmdiffkd.DiffKDDistiller',
        student=dict(type='ToyModel', width=8),
        teacher=teacher,
        pairs=dict(
            fpn=dict(
                student='neck',
                teacher='neck',
                head=dict(type='DiffKDHead', ae_channels=6),
                loss=dict(type='MSELoss', loss_weight=2.0),
            ),
            stem=dict(
                student='backbone',
                teacher='backbone',
                head=dict(type='AlignHead'),
                loss=dict(type='L1Loss'),
            ),
            logits=dict(
                student='head.cls',
                teacher='head.cls',
                loss=dict(type='KLDivLoss', use_sigmoid=True),
            ),
        ),
    )


@pytest.fixture(autouse=True)
def default_scope_kept():
    """A runner's scope would stay the default for whatever is built after it."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture
def toy_teacher(tmp_path):
    return make_toy_teacher(tmp_path)


@pytest.fixture
def toy_config(toy_teacher):
    return make_toy_config(toy_teacher)


@pytest.fixture
def toy_distiller(toy_config):
    torch.manual_seed(0)
    return MODELS.build(toy_config)


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 24)


class RecordedOperations(TorchDispatchMode):
    """Names of all operations that run, in order."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def operations():
    """A context manager that records which operations run."""
    return RecordedOperations()


def pytest_configure(config):
    config.addinivalue_line(
        'markers', 'slow: not needed daily; left out by `bash tools/run_tests.sh --fast`'
    )
