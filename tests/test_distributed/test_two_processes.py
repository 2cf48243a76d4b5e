"""Two processes on a CPU; tests/test_tools/test_train.py has real detectors and a killed one."""

import socket
from contextlib import ExitStack

import pytest
import torch

from .worker import (
    EPOCHS,
    IMAGES_PER_PROCESS,
    NUM_PROCESSES,
    STEPS,
    NumberedImages,
    work,
    write_model,
)

NUM_GROUPS = 5


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What both processes have left behind."""
    folder = tmp_path_factory.mktemp('processes')
    write_model(folder)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(NUM_GROUPS)]
        for free in sockets:
            free.bind(('127.0.0.1', 0))
        ports = [free.getsockname()[1] for free in sockets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('CUDA_VISIBLE_DEVICES', '-1')
        torch.multiprocessing.spawn(work, (str(folder), ports), NUM_PROCESSES)
    return folder


def states_of(folder, run):
    return [torch.load(folder / f'state_{run}_{rank}.pth') for rank in range(NUM_PROCESSES)]


@pytest.fixture(scope='module')
def states(folder):
    return states_of(folder, 'trained')


def log_of(folder, name):
    """What a run has logged."""
    return next((folder / name).glob('*/*.log')).read_text()


@pytest.mark.parametrize('at_rest', [None, 'fpn'])
def test_gradients_are_those_of_one_process_with_all_images(folder, at_rest):
    """Contract 8; batch norms use their running statistics, noise belongs to the image."""
    for rank in range(NUM_PROCESSES):
        gradients = torch.load(folder / str(rank) / 'gradients.pth')[at_rest]
        joined, alone, together = (gradients[key] for key in ('joined', 'alone', 'together'))
        resting = {name for name, gradient in joined.items() if gradient is None}
        assert resting == {name for name in joined if f'pairs.{at_rest}.' in name}
        for name in joined.keys() - resting:
            scale = joined[name].abs().max()
            assert (together[name] - joined[name]).abs().max() <= 1e-10 * scale + 1e-14, name
        for name in resting:
            assert not together[name].any(), name
        name = 'backbone.0.weight'
        assert (alone[name] - joined[name]).abs().max() > 1e-3 * joined[name].abs().max()


def test_every_parameter_is_reached(states):
    """Contract 8; DDP would have stopped at the second step otherwise."""
    assert [state['without_gradient'] for state in states] == [[], []]


def test_weights_are_the_same_in_all_processes(states):
    first, second = (state['parameters'] for state in states)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    first, second = (state['buffers'] for state in states)
    differing = {name for name, value in first.items() if not torch.equal(value, second[name])}
    # Batch statistics are those of each process, which saw other images.
    assert differing == {name for name in first if 'running_' in name}


def test_processes_see_different_images(states):
    first, second = (state['seen'] for state in states)
    assert len(first) == len(second) == STEPS * IMAGES_PER_PROCESS
    for epoch in range(EPOCHS):
        part = slice(*(STEPS // EPOCHS * IMAGES_PER_PROCESS * end for end in (epoch, epoch + 1)))
        assert sorted(first[part] + second[part]) == list(range(len(NumberedImages())))


def test_random_numbers_differ_between_processes_and_iterations(states):
    draws = [draw for state in states for iteration in state['draws'] for draw in iteration]
    assert len(set(draws)) == len(draws) == NUM_PROCESSES * STEPS * 3


def test_resumed_processes_go_on_as_if_nothing_had_happened(folder, states):
    """Data, random numbers and weights; running statistics are those that the first one saved."""
    for unbroken, resumed in zip(states, states_of(folder, 'resumed')):
        half = STEPS // EPOCHS
        assert resumed['draws'] == unbroken['draws'][half:]
        assert resumed['seen'] == unbroken['seen'][half * IMAGES_PER_PROCESS :]
        for name, value in unbroken['parameters'].items():
            assert torch.equal(value, resumed['parameters'][name]), name


def test_batch_norms_of_a_cpu_are_not_synchronised(folder, states):
    """The run, the student and a pair have all asked for it; there is one warning."""
    assert all('SyncBatchNorm' not in state['norms'] for state in states)
    assert log_of(folder, 'trained').count('use the statistics of each process') == 1


def test_a_process_that_does_not_answer(folder):
    """`env_cfg.dist_cfg.timeout` is how long the others wait, here a second."""
    assert 'waiting 1000ms' in (folder / 'gave_up.txt').read_text()


def test_an_error_in_one_process_ends_both(folder):
    """Neither waits for the other."""
    texts = [(folder / str(rank) / 'status.txt').read_text() for rank in range(NUM_PROCESSES)]
    assert texts == ['RuntimeError', '1']
    (line,) = (folder / '1' / 'errors.txt').read_text().splitlines()
    assert line.startswith("error: module path 'neck[' is not of the form")


def test_processes_draw_different_noise_by_default(folder):
    """mmengine seeds all processes alike unless it is told otherwise."""
    first, second = (torch.load(folder / 'failed' / f'draws_{rank}.pth') for rank in range(2))
    assert not set(first.tolist()) & set(second.tolist())
