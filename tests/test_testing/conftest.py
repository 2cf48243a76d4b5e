"""Reading a miniature as an unmodified config of a host library does."""

import importlib
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS
from mmengine.structures import PixelData


@pytest.fixture
def host_config():
    """Load a config that a host library ships."""

    def load(package, name):
        pytest.importorskip('mmcv.ops')
        host = pytest.importorskip(package)
        importlib.import_module(f'{package}.utils').register_all_modules(init_default_scope=True)
        return Config.fromfile(Path(host.__file__).parent / '.mim/configs' / name)

    return load


@pytest.fixture
def read_all():
    """Run the data set of a loader's config through its pipeline; returns it and all samples."""

    def read(loader):
        dataset = DATASETS.build(loader.dataset)
        return dataset, [item['data_samples'] for item in dataset]

    return read


@pytest.fixture
def score_of_truth():
    """What a config's evaluator makes of predictions that are the annotations."""

    def score(evaluator, dataset, samples):
        evaluator = Evaluator(evaluator)
        evaluator.dataset_meta = dataset.metainfo
        for sample in samples:
            if 'gt_sem_seg' in sample:
                sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data.clone())
            else:
                num_classes = len(dataset.metainfo['classes'])
                sample.set_pred_score(torch.eye(num_classes)[sample.gt_label[0]])
            evaluator.process(data_samples=[sample.to_dict()])
        return evaluator.evaluate(len(dataset))

    return score
