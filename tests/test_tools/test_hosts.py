"""For mmseg and mmpretrain: what distilling writes, the host loads as its student."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmdiffkd.models.hosts import build_model

from .conftest import ROOT

pytestmark = pytest.mark.slow

STUDENTS = dict(
    deeplabv3_r101_pspnet_r18_cityscapes=(
        'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
    ),
    resnet34_resnet18_imagenet='mmpretrain::resnet/resnet18_8xb32_in1k.py',
)
METRICS = ('mIoU', 'accuracy/top1')


@pytest.fixture(scope='session')
def distilled(run_here, tmp_path_factory):
    """Train a shipped config on a miniature; returns the work directory of the named config."""
    work_dirs = {}

    def distil(name):
        if name not in work_dirs:
            folder = work_dirs[name] = tmp_path_factory.mktemp(name)
            config = ROOT / 'configs' / 'diffkd' / f'{name}.py'
            run_here('tools/train.py', config, '--smoke', '--work-dir', folder)
        return work_dirs[name] / 'smoke'

    return distil


def load_in_mmseg(config, checkpoint):
    from mmseg.apis import init_model

    return init_model(config, str(checkpoint), device='cpu')


def load_in_mmpretrain(config, checkpoint):
    from mmpretrain.apis import ImageClassificationInferencer

    return ImageClassificationInferencer(config, pretrained=str(checkpoint)).model


LOADERS = dict(mmseg=load_in_mmseg, mmpretrain=load_in_mmpretrain)


@pytest.mark.parametrize('name', STUDENTS)
def test_host_loads_every_checkpoint_and_the_export(name, distilled, run_here, tmp_path):
    host = STUDENTS[name].partition('::')[0]
    # The host's own config of the student.
    cfg = get_config(STUDENTS[name])
    if 'pretrained' in cfg.model:
        cfg.model.pretrained = None
    cfg.dump(tmp_path / 'student.py')
    exported = tmp_path / 'student.pth'
    written = sorted(distilled(name).glob('*.pth'))
    run_here('tools/export_student.py', written[0], exported)
    for path in (*written, exported):
        weights = torch.load(path, weights_only=False)['state_dict']
        with DefaultScope.overwrite_default_scope(host):
            own = LOADERS[host](str(tmp_path / 'student.py'), path).state_dict()
        assert {key for key in weights if not key.startswith('distill.')} == set(own), path.name
        assert all(torch.equal(weights[key], value) for key, value in own.items()), path.name
    assert not [key for key in weights if 'distill' in key]


@pytest.mark.parametrize(('name', 'metric'), list(zip(STUDENTS, METRICS)))
def test_evaluation_of_the_student_and_the_teacher(name, metric, distilled, run_here, tmp_path):
    work_dir = distilled(name)
    (config,) = work_dir.glob('*.py')
    (checkpoint,) = [path for path in work_dir.glob('*_[12].pth') if 'best' not in path.name]
    output = run_here('tools/test.py', config, checkpoint, '--work-dir', tmp_path / 'student')
    assert f'{metric}: ' in output
    teacher = build_model(Config.fromfile(config).model.teacher.config, 'teacher')
    torch.save(teacher.state_dict(), tmp_path / 'teacher.pth')
    # Evaluated as the library runs it, whatever the distiller does with it.
    output = run_here(
        'tools/test.py', config, tmp_path / 'teacher.pth', '--teacher', '--work-dir', tmp_path,
        '--cfg-options', 'model.teacher.precision=bf16',
    )  # fmt: skip
    assert f'{metric}: ' in output
