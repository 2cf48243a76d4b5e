"""The digits experiment: its data, its runs and its table."""

import importlib.util
import json

import cv2
import numpy as np
import pytest

from .conftest import ROOT

TOOL = ROOT / 'benchmarks/experiments/digits.py'
METHODS = 5


@pytest.fixture(scope='module')
def digits():
    spec = importlib.util.spec_from_file_location('digits_experiment', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def data(run, tmp_path_factory):
    root = tmp_path_factory.mktemp('digits') / 'digits'
    assert str(root) in run(TOOL, '--prepare-only', '--data', root)
    return root


def result(method, seed, test):
    return dict(method=method, seed=seed, test=test)


@pytest.fixture
def results(digits):
    """Of three seeds, in the order in which parallel runs may finish."""
    accuracies = dict.fromkeys(digits.METHODS, (95.0, 95.0, 95.0))
    accuracies[digits.BASELINE] = (90.0, 92.0, 94.0)
    accuracies['DiffKD'] = (93.0, 93.0, 99.0)
    return [
        result(method, seed, values[seed])
        for seed in (2, 0, 1)
        for method, values in accuracies.items()
    ]


def test_summary(digits, results):
    summary = digits.summarise(results)
    assert list(summary) == list(digits.METHODS)
    assert summary[digits.BASELINE] == dict(
        mean=92.0, std=2.0, gain=0.0, gain_std=0.0, seeds={0: 90.0, 1: 92.0, 2: 94.0}
    )
    distilled = summary['DiffKD']
    assert (distilled['mean'], distilled['gain'], distilled['gain_std']) == (95.0, 3.0, 2.0)
    assert distilled['std'] == pytest.approx(12**0.5)


def test_table(digits, results):
    lines = digits.markdown(digits.summarise(results)).splitlines()
    assert lines[0] == '|  | mean | over the student alone | seed 0 | seed 1 | seed 2 |'
    assert lines[-1] == '| DiffKD | 95.00 ± 3.46 | +3.00 ± 2.00 | 93.00 | 93.00 | 99.00 |'


def test_data_is_a_stratified_split_of_all_images(data):
    from sklearn.datasets import load_digits

    digits = load_digits()
    seen = []
    for split, per_digit in (('train', 30), ('val', 30), ('test', None)):
        for digit in range(10):
            files = sorted((data / split / str(digit)).iterdir())
            assert per_digit is None or len(files) == per_digit
            assert {digits.target[int(file.stem)] for file in files} == {digit}
            seen += [int(file.stem) for file in files]
    assert sorted(seen) == list(range(1797))
    file = next((data / 'train/3').iterdir())
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.round(picture / 255 * 16), digits.images[int(file.stem)])


@pytest.mark.slow
def test_one_epoch_of_all_and_reuse(run, data, tmp_path):
    arguments = [TOOL, '--seeds', 7, '--jobs', 1, '--data', data, '--work-dir', tmp_path / 'work']
    arguments += ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=100']
    output = run(*arguments, cwd=tmp_path)
    assert f'{METHODS}/{METHODS}] seed 7' in output
    assert 'finished before' not in output
    table = (tmp_path / 'work/table.md').read_text()
    assert table in output
    assert len(table.splitlines()) == 2 + METHODS
    runs = json.loads((tmp_path / 'work/results.json').read_text())['runs']
    assert [r['method'] for r in runs][0] == 'teacher'
    assert all(0 < r['test'] < 100 and r['seed'] == 7 for r in runs)
    checkpoint = tmp_path / 'work/seed7/diffkd_digits/epoch_1.pth'
    written = checkpoint.stat().st_mtime_ns
    again = run(*arguments, cwd=tmp_path)
    assert again.count('finished before') == METHODS
    assert checkpoint.stat().st_mtime_ns == written
    assert (tmp_path / 'work/table.md').read_text() == table
