"""Logs of runs: parts joined, training told from validation, errors."""

import json

import pytest

from mmdiffkd.errors import ConfigError
from mmdiffkd.visualization import read_run


@pytest.fixture
def write(tmp_path):
    """Write one part of a run."""

    def write_part(time, *entries):
        path = tmp_path / 'run' / time / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
        return tmp_path / 'run'

    return write_part


def training(iteration, loss, **more):
    return dict(loss=loss, epoch=1, iter=iteration, step=iteration, memory=5, **more)


def course(series):
    return list(zip(*(array.tolist() for array in series)))


def test_training_and_validation(write):
    """Validations stand where the training had come to; their own step is the epoch."""
    run = read_run(
        write(
            '1',
            training(10, 3.0),
            {'gamma_fpn/level_0': 0.5, 'iter': 10, 'step': 10},
            {'mAP': 0.1, 'time': 0.2, 'step': 1},
            training(20, 2.0, note='text'),
            {'mAP': 0.3, 'step': 2},
        )
    )
    assert run.name == 'run'
    assert set(run.training) == {'loss', 'memory', 'gamma_fpn/level_0'}
    assert course(run.training['loss']) == [(10, 3.0), (20, 2.0)]
    assert course(run.training['gamma_fpn/level_0']) == [(10, 0.5)]
    assert course(run.validation['mAP']) == [(10, 0.1), (20, 0.3)]


def test_resumed_parts_are_joined(write):
    """The second goes on from iteration 20, so what the first did after it does not count."""
    write('1', training(10, 5.0), training(20, 4.0), {'mAP': 0.1}, training(30, 9.0), {'mAP': 0.9})
    run = read_run(write('2', training(30, 3.0), training(40, 2.0), {'mAP': 0.2}))
    assert course(run.training['loss']) == [(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0)]
    assert course(run.validation['mAP']) == [(20, 0.1), (40, 0.2)]


def test_part_alone(write):
    work_dir = write('1', training(10, 5.0))
    write('2', training(20, 4.0))
    run = read_run(work_dir / '1')
    assert run.name == '1' and course(run.training['loss']) == [(10, 5.0)]


def test_a_test_and_an_unfinished_line_do_not_matter(write):
    work_dir = write('1', training(10, 5.0))
    with open(work_dir / '1/vis_data/scalars.json', 'a') as file:
        file.write('{"loss": 4.0, "it')
    run = read_run(write('2', {'mAP': 0.7, 'step': 0}))
    assert course(run.training['loss']) == [(10, 5.0)] and run.validation == {}


def test_errors(write, tmp_path):
    with pytest.raises(ConfigError, match='nowhere: no entry of a training in'):
        read_run(tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match='no entry of a training in'):
        read_run(write('1', {'mAP': 0.7}))
