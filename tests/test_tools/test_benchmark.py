"""The benchmarks measure what they say; what they compare computes the same."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from naive_distiller import build_naive_distiller

import mmdiffkd.diffusion
import mmdiffkd.heads
import mmdiffkd.losses

ROOT = Path(__file__).resolve().parents[2]
ROOT_CONFIG = 'configs/quickstart/diffkd_retinanet_mini-coco.py'


def fixed_noise(like, *_, **__):
    """The same values for both, in whatever order their elements lie in memory."""
    count = torch.arange(like.numel(), dtype=like.dtype).reshape(like.shape)
    return (12.9898 * count).sin() * 1.4


def test_naive_distiller_computes_the_same(toy_config, images, monkeypatch):
    monkeypatch.setattr('mmdiffkd.diffusion.head.normal_like', fixed_noise)
    monkeypatch.setattr(torch, 'randn_like', fixed_noise)
    torch.manual_seed(0)
    ours = MODELS.build(toy_config).double()
    naive = build_naive_distiller(toy_config).double()
    naive.load_state_dict(ours.state_dict())
    assert ours.teacher.model is not naive.teacher.model
    results = []
    for distiller in (ours, naive):
        torch.manual_seed(2)  # of the timesteps
        losses = distiller(images.double(), mode='loss')
        total, _ = distiller.parse_losses(losses)
        total.backward()
        gradients = {name: p.grad for name, p in distiller.named_parameters()}
        results.append((losses, gradients))
    for mine, theirs in zip(*results):
        assert mine.keys() == theirs.keys()
        scale = max(value.abs().max() for value in theirs.values())
        for name, value in mine.items():
            # The naive schedule is that of diffusers, in float32.
            assert (value - theirs[name]).abs().max() <= 1e-5 * scale, name
    assert 'loss' in naive.teacher.model.modes and 'loss' not in ours.teacher.model.modes


@pytest.fixture(scope='module')
def measured():
    pytest.importorskip('mmdet')
    import step_cost

    switches = [{'head.checkpoint': True, 'teacher.precision': 'bf16'}]
    return step_cost.measure(
        Config.fromfile(ROOT_CONFIG), switches, steps=1, warmup=0, size=(96, 96)
    )


def test_step_cost_counts(measured):
    student, naive, ours, lean = measured['contenders'].values()
    assert naive['FLOPs of the teacher'] > ours['FLOPs of the teacher']
    for key in ('FLOPs of the heads forward', 'FLOPs of the heads backward'):
        assert ours[key] == naive[key] > 0
    # The whole is the sum of its parts.
    parts = [
        ours[f'FLOPs of the {part}'] for part in ('teacher', 'heads forward', 'heads backward')
    ]
    assert student['FLOPs'] + sum(parts) == ours['FLOPs']
    assert lean['FLOPs of the heads backward'] > ours['FLOPs of the heads backward']

    assert lean['bytes kept by the heads'] <= 0.25 * naive['bytes kept by the heads']
    assert ours['bytes kept by the heads'] < naive['bytes kept by the heads']
    assert student['bytes kept for backward'] < lean['bytes kept for backward']
    assert lean['bytes of gradients'] == ours['bytes of gradients'] > student['bytes of gradients']


@pytest.mark.slow
def test_step_cost_from_the_command_line(run_here, tmp_path):
    pytest.importorskip('mmdet')
    out = tmp_path / 'cost.json'
    command = ['benchmarks/cost/step_cost.py', ROOT_CONFIG, '--size', '64', '64', '--batch', '3']
    text = run_here(
        *command, '--steps', '0', '--warmup', '0', '--amp', '--json', out,
        '--switches', 'teacher.fold_bn=False',
    )  # fmt: skip
    assert 'images 3x3x64x64, bfloat16 autocast' in text
    assert list(json.loads(out.read_text())['contenders'])[-1] == 'teacher.fold_bn=False'


@pytest.mark.slow
def test_head_cost_from_the_command_line(run_here, tmp_path):
    out = tmp_path / 'cost.json'
    command = [
        'benchmarks/cost/head_cost.py',
        '--widths',
        '8',
        '16',
        '--repeats',
        '1',
        '--json',
        out,
    ]
    text = run_here(*command, '--maps', '6', '3')
    assert text.count('naive') >= 4 and '16 channels, maps 3x3' in text
    run_here(*command, '--image', '64', '96')
    (narrow, _) = json.loads(out.read_text())['measured']
    assert narrow['maps'] == [[8, 12], [4, 6], [2, 3], [1, 2], [1, 1]]
    assert set(narrow['results']) == {'naive', 'default', 'checkpoint'}
    assert '--device cuda' in run_here(*command, '--check-sync', '--device', 'cpu', expect=2)


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """The GPU check with parts of its own, given by the text of their scripts."""
    folder = ROOT / 'benchmarks'
    monkeypatch.setattr('sys.path', [str(folder), str(folder / 'gpu'), *sys.path])
    monkeypatch.setenv('PYTHONPATH', str(folder / 'gpu'))
    gpu_check = importlib.import_module('gpu_check')
    monkeypatch.setattr(gpu_check, 'PARTS', {})
    start = 'import time\nfrom rows import parse_part_args\nrows = parse_part_args("").rows\n'

    def add(name, text):
        path = tmp_path / f'{name}.py'
        path.write_text(start + text)
        gpu_check.PARTS[name] = gpu_check.Part([str(path)], 2, 'a test')

    return gpu_check, add


def test_gpu_check_keeps_what_a_part_found(parts, monkeypatch, tmp_path, capsys):
    """Also of a part that is stopped or fails; what is not installed is not run."""
    gpu_check, add = parts
    add('slow', 'rows.add("first", True, ms=1.5)\ntime.sleep(60)')
    add('broken', 'rows.add("second", False)\nraise ValueError("why")')
    add('missing', 'rows.has("third", "no_such_library")')
    out = tmp_path / 'out.json'
    monkeypatch.setattr('sys.argv', ['gpu_check.py', '--device', 'cpu', '--json', str(out)])
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 1
    found = json.loads(out.read_text())
    assert found['slow']['rows'] == [dict(name='first', passed=True, figures=dict(ms=1.5))]
    assert found['slow']['error'].startswith('stopped at its time limit')
    assert 'ValueError: why' in found['broken']['error']
    assert found['missing']['error'] is None and found['missing']['rows'][0]['passed'] is None
    text = capsys.readouterr().out
    assert 'third' in text and 'no_such_library is not installed' in text
    assert '1 passed, 0 failed  stopped at its time limit' in text


def test_gpu_check_has_every_head_and_distance(parts):
    heads = importlib.import_module('heads')
    checked = ' '.join(name for name, *_ in heads.cases())
    for module in (mmdiffkd.heads, mmdiffkd.losses, mmdiffkd.diffusion):
        for name in vars(module):
            if name.endswith(('Head', 'Loss')):
                assert name in checked
