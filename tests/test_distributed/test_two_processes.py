"""Two processes on a CPU; tests/test_tools/test_train.py has real detectors and a killed one."""

import socket
from contextlib import ExitStack

import pytest
import torch

from tests.test_distributed import worker
from tests.test_distributed.worker import EPOCHS, IMAGES_PER_PROCESS, NUM_PROCESSES, STEPS

NUM_GROUPS = 7
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What both processes have left behind."""
    folder = tmp_path_factory.mktemp('processes')
    worker.write_model(folder)
    with ExitStack() as stack:
        sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(NUM_GROUPS)]
        ports = [stack.enter_context(free).getsockname()[1] for free in sockets]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        patch.setenv('CUDA_VISIBLE_DEVICES', '-1')
        torch.multiprocessing.spawn(worker.work, (str(folder), ports), NUM_PROCESSES)
    return folder


def states_of(folder, run):
    return [torch.load(folder / f'state_{run}_{rank}.pth') for rank in range(NUM_PROCESSES)]


@pytest.fixture(scope='module')
def states(folder):
    return states_of(folder, 'trained')


@pytest.mark.parametrize('at_rest', [None, 'fpn'])
def test_gradients_are_those_of_one_process_with_all_images(folder, at_rest):
    """Contract 8; batch norms use their running statistics, noise belongs to the image."""
    for rank in range(NUM_PROCESSES):
        gradients = torch.load(folder / str(rank) / 'gradients.pth')[at_rest]
        joined, alone, together = (gradients[key][0] for key in ('joined', 'alone', 'together'))
        resting = {name for name, gradient in joined.items() if gradient is None}
        assert resting == {name for name in joined if f'pairs.{at_rest}.' in name}
        for name in joined.keys() - resting:
            scale = joined[name].abs().max()
            assert (together[name] - joined[name]).abs().max() <= 1e-10 * scale + 1e-14, name
        for name in resting:
            assert not together[name].any(), name
        name = 'backbone.0.weight'
        assert (alone[name] - joined[name]).abs().max() > 1e-3 * joined[name].abs().max()


@pytest.mark.parametrize('at_rest', [None, 'fpn'])
def test_pulls_are_those_of_one_process_with_all_images(folder, at_rest):
    for rank in range(NUM_PROCESSES):
        found = torch.load(folder / str(rank) / 'gradients.pth')[at_rest]
        joined, together = (found[key][1] for key in ('joined', 'together'))
        assert set(joined) == {'fpn', 'stem', 'logits', 'scores'} - {at_rest}
        for name, pull in joined.items():
            assert together[name] == pytest.approx(pull, rel=1e-9), name


@pytest.mark.parametrize('run', ['trained', 'label_free'])
def test_weights_are_the_same_in_all_processes(folder, run):
    """Contract 8: every parameter is reached, or DDP would have stopped at the second step."""
    states = states_of(folder, run)
    first, second = (state['parameters'] for state in states)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    first, second = (state['buffers'] for state in states)
    differing = {name for name, value in first.items() if not torch.equal(value, second[name])}
    # Batch statistics are those of each process, which saw other images.
    assert differing == {name for name in first if 'running_' in name}


def test_weights_of_pairs_are_chosen_together_and_kept(folder, states):
    """Two pairs are measured in the second epoch, after the resumption."""
    weights = [state['weights'] for state in (*states, *states_of(folder, 'resumed'))]
    assert all(other == weights[0] for other in weights[1:])
    assert len(set(weights[0].values()) - {1.0}) == 4


def test_other_heads_use_all_parameters(folder):
    """Also where an image has no boxes; DDP would have stopped at the second step."""
    first, second = (torch.load(folder / str(rank) / 'other_heads.pth') for rank in range(2))
    assert any('pairs.fgd' in name for name in first)
    for name, gradient in first.items():
        assert gradient.isfinite().all() and torch.equal(gradient, second[name]), name


def test_processes_see_different_images_and_random_numbers(folder, states):
    first, second = (state['seen'] for state in states)
    assert len(first) == len(second) == STEPS * IMAGES_PER_PROCESS
    for epoch in range(EPOCHS):
        part = slice(*(STEPS // EPOCHS * IMAGES_PER_PROCESS * end for end in (epoch, epoch + 1)))
        assert sorted(first[part] + second[part]) == list(range(len(worker.NumberedImages())))
    draws = [draw for state in states for iteration in state['draws'] for draw in iteration]
    assert len(set(draws)) == len(draws) == NUM_PROCESSES * STEPS * 3
    # Also without ExactResumeHook; mmengine would seed all processes alike.
    first, second = (torch.load(folder / 'bad_loss' / f'draws_{rank}.pth') for rank in range(2))
    assert not set(first.tolist()) & set(second.tolist())


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
    log = next((folder / 'trained').glob('*/*.log')).read_text()
    assert log.count('use the statistics of each process') == 1


def test_loss_that_is_not_finite_ends_both_alike(folder):
    first, second = ((folder / str(rank) / 'bad_loss.txt').read_text() for rank in range(2))
    assert first == second and 'rank 0' not in first
    assert first.startswith('NonFiniteLossError: iteration 4: rank 1: loss_task is ')
    assert [path.name for path in (folder / 'bad_loss').glob('iter_*.pth')] == ['iter_2.pth']


def test_process_that_loses_the_main_one_ends(folder):
    """The main one ended because of weights that it did not save; the other does not wait."""
    first, second = ((folder / str(rank) / 'bad_weights.txt').read_text() for rank in range(2))
    assert first.startswith('NonFiniteLossError: backbone.0.weight became inf or nan')
    assert second.startswith('RuntimeError: ')
    assert [path.name for path in (folder / 'bad_weights').glob('iter_*.pth')] == ['iter_2.pth']
