"""One command for a pair of models."""

import pytest

from .conftest import ROOT

STUDENT = ROOT / 'configs' / 'quickstart' / 'retinanet_student_mini-coco.py'
TEACHER = ROOT / 'configs' / 'quickstart' / 'retinanet_teacher_mini-coco.py'
NAME = 'retinanet_student_mini-coco_from_retinanet_teacher_mini-coco.py'


@pytest.mark.slow
def test_a_detector_runs_and_its_config_is_there_to_go_on_from(run_here, tmp_path):
    pytest.importorskip('mmdet')
    output = run_here(
        'tools/distill.py', STUDENT, '--teacher', TEACHER, '--smoke', '--work-dir', tmp_path
    )
    assert 'loss_kd_fpn' in output and 'Epoch(val) [1]' in output
    path = tmp_path / 'config' / NAME
    assert path.read_text().startswith('# retinanet_teacher_mini-coco teaches')
    output = run_here('tools/train.py', path, '--smoke', '--work-dir', tmp_path / 'again')
    assert 'loss_kd_fpn' in output


@pytest.mark.slow
def test_a_classifier_from_a_library(run_here, tmp_path):
    """Named pairs, another library's scope, and flags of tools/train.py."""
    pytest.importorskip('mmpretrain')
    output = run_here(
        'tools/distill.py', 'mmpretrain::resnet/resnet18_8xb16_cifar10.py',
        '--teacher', 'mmpretrain::resnet/resnet34_8xb16_cifar10.py',
        '--pairs', 'backbone.layer3', 'head', '--smoke', '--no-validate',
        '--work-dir', tmp_path, '--cfg-options', 'model.pairs.features.head.num_steps=2',
    )  # fmt: skip
    assert 'loss_kd_features' in output and 'loss_kd_logits' in output
    assert 'Epoch(val)' not in output


def test_modules_are_listed_and_a_mistake_is_one_line(run_here, tmp_path):
    pytest.importorskip('mmdet')
    listed = run_here('tools/distill.py', STUDENT, '--teacher', TEACHER, '--list-modules')
    lines = {line.split()[0]: line for line in listed.splitlines() if line.strip()}
    assert lines['neck'].split()[1:3] == ['FPN', '[64x28x28,']  # the teacher's, printed last
    command = ['tools/distill.py', STUDENT, '--teacher', TEACHER, '--work-dir', tmp_path]
    output = run_here(*command, '--smoke', '--pairs', 'nekc', expect=1)
    (line,) = [line for line in output.splitlines() if line.startswith('error: ')]
    assert "the closest are 'neck'" in line and 'Traceback' not in output
