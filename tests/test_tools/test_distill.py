"""One command for a pair of models."""

import pytest
from mmengine.config import Config

from .conftest import ROOT

STUDENT = ROOT / 'configs' / 'quickstart' / 'retinanet_student_mini-coco.py'
TEACHER = ROOT / 'configs' / 'quickstart' / 'retinanet_teacher_mini-coco.py'
NAME = 'retinanet_student_mini-coco_from_retinanet_teacher_mini-coco.py'


@pytest.fixture(scope='module')
def distilled(run, tmp_path_factory):
    """Work directory and output of a smoke run."""
    pytest.importorskip('mmdet')
    work_dir = tmp_path_factory.mktemp('distilled')
    output = run(
        'tools/distill.py', STUDENT, '--teacher', TEACHER, '--smoke', '--work-dir', work_dir
    )
    return work_dir, output


def test_a_detector_runs(distilled):
    _, output = distilled
    assert 'loss_kd_fpn' in output and 'Epoch(val) [1]' in output


def test_the_config_that_ran_is_there_to_go_on_from(distilled, run):
    work_dir, _ = distilled
    path = work_dir / 'config' / NAME
    cfg, ran = Config.fromfile(path), Config.fromfile(work_dir / 'smoke' / NAME)
    assert cfg.model.pairs == ran.model.pairs
    assert path.read_text().startswith('# retinanet_teacher_mini-coco teaches')
    output = run('tools/train.py', path, '--smoke', '--work-dir', work_dir / 'again')
    assert 'loss_kd_fpn' in output


def test_a_classifier_from_a_library(run, tmp_path):
    """Named pairs, another library's scope, and flags of tools/train.py."""
    pytest.importorskip('mmpretrain')
    output = run(
        'tools/distill.py', 'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        '--teacher', 'mmpretrain::resnet/resnet34_8xb16_cifar10.py',
        '--pairs', 'backbone.layer3', 'head', '--smoke', '--no-validate',
        '--work-dir', tmp_path, '--cfg-options', 'model.pairs.features.head.num_steps=2',
    )  # fmt: skip
    assert 'loss_kd_features' in output and 'loss_kd_logits' in output
    assert 'Epoch(val)' not in output


def test_modules_are_listed(run):
    pytest.importorskip('mmdet')
    output = run('tools/distill.py', STUDENT, '--teacher', TEACHER, '--list-modules')
    assert 'student: RetinaNet' in output and 'teacher: RetinaNet' in output
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    assert lines['neck'].split()[1:3] == ['FPN', '64x28x28,']  # the teacher's, printed last
    assert '3 calls: ' in lines['bbox_head.retina_cls']


@pytest.mark.parametrize(
    'options, message',
    [
        (['--smoke', '--pairs', 'nekc'], "the closest are 'neck'"),
        ([], '--teacher-checkpoint is needed'),
        (['--teacher-checkpoint', 'nowhere.pth'], 'no file'),
    ],
)
def test_a_mistake_is_one_line(options, message, run, tmp_path):
    pytest.importorskip('mmdet')
    command = ['tools/distill.py', STUDENT, '--teacher', TEACHER, '--work-dir', tmp_path]
    output = run(*command, *options, expect=1)
    (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
    assert message in line
    assert 'Traceback' not in output
