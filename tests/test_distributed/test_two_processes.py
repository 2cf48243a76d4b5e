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


def log_of(folder, name, run=0):
    """What a run has logged; of several in one work directory by number."""
    return sorted((folder / name).glob('*/*.log'))[run].read_text()


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


def test_another_number_of_processes_goes_on_with_a_warning(folder):
    assert 'Resuming with' not in log_of(folder, 'trained')
    log = log_of(folder, 'trained', run=1)
    assert log.count('Resuming with 1 processes what was trained with 2') == 1
    assert 'has 0.5 times the images' in log
    last = torch.load(folder / 'trained' / f'epoch_{EPOCHS + 1}.pth', weights_only=False)
    # As many iterations as one process needs for an epoch, at the rate of before.
    assert last['meta']['iter'] == STEPS + STEPS // EPOCHS * NUM_PROCESSES
    assert last['optimizer']['param_groups'][0]['lr'] == 0.01


def test_other_settings_in_one_process_are_named(folder):
    warnings = [(folder / str(rank) / 'warnings.txt').read_text() for rank in range(NUM_PROCESSES)]
    differ = 'Process 1 runs another config than process 0, they differ in optim_wrapper: is'
    assert all(text.startswith(differ) for text in warnings)


def test_a_process_that_does_not_answer(folder):
    """`env_cfg.dist_cfg.timeout` is how long the others wait, here a second."""
    assert 'waiting 1000ms' in (folder / 'gave_up.txt').read_text()


def test_an_error_in_one_process_ends_both(folder):
    """Neither waits for the other; the main process leaves a checkpoint."""
    texts = [(folder / str(rank) / 'status.txt').read_text() for rank in range(NUM_PROCESSES)]
    assert texts == ['RuntimeError', '1']
    (line,) = (folder / '1' / 'errors.txt').read_text().splitlines()
    assert line.startswith("error: module path 'neck[' is not of the form")
    assert (folder / 'failed' / 'interrupted_iter_3.pth').is_file()
