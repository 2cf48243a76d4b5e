"""The tools that show what happens, on a tiny run."""

import re

import cv2
import pytest
import torch

HOOKS = """custom_hooks = [
    dict(type='mmdiffkd.FeaturePictureHook', interval=4, num_images=1),
    dict(type='mmdiffkd.TelemetryHook', interval=2)]"""


@pytest.fixture(scope='module')
def trained(write_config, run_here, tmp_path_factory):
    """Config and work directory of a run that was watched."""
    config = write_config(more=HOOKS)
    work_dir = tmp_path_factory.mktemp('watched')
    run_here('tools/train.py', config, '--work-dir', work_dir)
    return config, work_dir


def size_of(picture):
    return cv2.imread(str(picture)).shape[:2]


def test_hooks_write_pictures_and_scalars(trained):
    _, work_dir = trained
    (data,) = work_dir.glob('*/vis_data')
    pictures = {path.name for path in (data / 'vis_image').iterdir()}
    assert pictures == {f'pair_fpn_{step}.png' for step in (1, 4, 8)}
    assert len(re.findall(r'"gamma_fpn/level_2"', (data / 'scalars.json').read_text())) == 5


def test_curves_of_one_run_and_of_two(trained, run_here, tmp_path):
    _, work_dir = trained
    output = run_here('tools/analysis/plot_run.py', work_dir)
    assert f'Curves of {work_dir.name} written to {work_dir / "curves.png"}' in output
    run_here(
        'tools/analysis/plot_run.py', work_dir, work_dir, '--out', tmp_path / 'new' / 'both.png'
    )
    # Three levels of gamma and distance side by side need a second row.
    assert size_of(tmp_path / 'new' / 'both.png')[0] > size_of(work_dir / 'curves.png')[0]
    output = run_here('tools/analysis/plot_run.py', tmp_path, expect=1)
    assert f'error: {tmp_path}: no entry of a training' in output and 'Traceback' not in output


@pytest.mark.slow
def test_noise_sweep(trained, run_here, tmp_path):
    config, work_dir = trained
    picture, student = tmp_path / 'sweep.png', tmp_path / 'student.pth'
    command = ['tools/analysis/noise_sweep.py', config]
    assert f'pair fpn (3 levels) written to {picture}' in run_here(
        *command, work_dir / 'epoch_2.pth', '--out', picture
    )
    assert min(size_of(picture)) > 400
    weights = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    plain = {key: value for key, value in weights.items() if not key.startswith('distill.')}
    torch.save(dict(state_dict=plain), student)
    output = run_here(*command, student, expect=1)
    assert f'error: {student} has no distill. weights' in output and 'Traceback' not in output
