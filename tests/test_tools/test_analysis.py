"""The tools that show what happens, on a tiny run."""

import re

import cv2
import pytest
import torch

HOOKS = """custom_hooks = [
    dict(type='mmdiffkd.FeaturePictureHook', interval=4, num_images=1),
    dict(type='mmdiffkd.TelemetryHook', interval=2)]"""


@pytest.fixture(scope='module')
def trained(write_config, run, tmp_path_factory):
    """Config and work directory of a run that was watched."""
    config = write_config(more=HOOKS)
    work_dir = tmp_path_factory.mktemp('watched')
    run('tools/train.py', config, '--work-dir', work_dir)
    return config, work_dir


def size_of(picture):
    return cv2.imread(str(picture)).shape[:2]


def test_hooks_write_pictures_and_scalars(trained):
    _, work_dir = trained
    (data,) = work_dir.glob('*/vis_data')
    pictures = {path.name for path in (data / 'vis_image').iterdir()}
    assert pictures == {f'pair_fpn_{step}.png' for step in (1, 4, 8)}
    assert len(re.findall(r'"gamma_fpn/level_2"', (data / 'scalars.json').read_text())) == 5


def test_curves_of_one_run_and_of_two(trained, run, tmp_path):
    _, work_dir = trained
    output = run('tools/analysis/plot_run.py', work_dir)
    assert f'{work_dir / "curves.png"}: {work_dir.name}' in output
    run('tools/analysis/plot_run.py', work_dir, work_dir, '--out', tmp_path / 'new' / 'both.png')
    # Three levels of gamma and distance side by side need a second row.
    assert size_of(tmp_path / 'new' / 'both.png')[0] > size_of(work_dir / 'curves.png')[0]


def test_curves_of_what_is_no_run(run, tmp_path):
    output = run('tools/analysis/plot_run.py', tmp_path, expect=1)
    assert f'error: {tmp_path}: no log in it' in output and 'Traceback' not in output


def test_noise_sweep(trained, run, tmp_path):
    config, work_dir = trained
    picture = tmp_path / 'sweep.png'
    checkpoint = work_dir / 'epoch_2.pth'
    output = run('tools/analysis/noise_sweep.py', config, checkpoint, '--out', picture)
    assert f'{picture}: pair fpn' in output
    assert min(size_of(picture)) > 400


def test_noise_sweep_needs_a_distillation(trained, run, tmp_path):
    config, work_dir = trained
    student = tmp_path / 'student.pth'
    weights = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    plain = {key: value for key, value in weights.items() if not key.startswith('distill.')}
    torch.save(dict(state_dict=plain), student)
    output = run('tools/analysis/noise_sweep.py', config, student, expect=1)
    assert f'error: {student} has no distill. weights' in output and 'Traceback' not in output
    output = run('tools/analysis/noise_sweep.py', config, tmp_path / 'none.pth', expect=1)
    assert 'error: ' in output and 'none.pth' in output and 'Traceback' not in output
    output = run(
        'tools/analysis/noise_sweep.py',
        config,
        work_dir / 'epoch_2.pth',
        '--pair',
        'neck',
        expect=1,
    )
    assert 'error: --pair neck is none of those with a DiffKDHead: fpn' in output
