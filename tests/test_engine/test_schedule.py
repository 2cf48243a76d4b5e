"""When distillation runs, with which weight, and what stays as it is when it does not."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS

from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import ToyImages, Trace

BY_ITERATION = dict(type='IterBasedTrainLoop', max_iters=8)
IN_BETWEEN = dict(begin=2, end=5, by_epoch=False)


def scheduled(make_runner, schedule, *hooks, **kwargs):
    schedule = dict(type='mmdiffkd.DistillationScheduleHook', **schedule)
    return make_runner(schedule, *hooks, **kwargs)


def trained(make_runner, schedule, **kwargs):
    """The trace and the runner of a training with a schedule."""
    trace = Trace()
    runner = scheduled(make_runner, schedule, trace, **kwargs)
    runner.train()
    return trace, runner


def weights_of(trace, name='fpn'):
    return [weights[name] for weights in trace.weights]


@pytest.mark.parametrize(
    ('schedule', 'expected'),
    [
        (dict(begin=2, warmup=dict(length=4)), [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]),
        (
            dict(warmup=dict(length=2, start_factor=0.5), end=6, decay=dict(length=2)),
            [0.5, 0.75, 1, 1, 1, 0.5, 0, 0],
        ),
        (dict(decay=dict(length=4, end_factor=0.2)), [1, 1, 1, 1, 1, 0.8, 0.6, 0.4]),
        (
            dict(warmup=dict(length=8, curve='cosine', start_factor=0.5)),
            [0.75 - math.cos(math.pi * i / 8) / 4 for i in range(8)],
        ),
    ],
    ids=str,
)
def test_weights_by_iteration(make_runner, schedule, expected):
    trace, _ = trained(make_runner, dict(schedule, by_epoch=False), train_cfg=BY_ITERATION)
    assert weights_of(trace) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('schedule', 'expected'),
    [
        (dict(), [1] * 8),
        (dict(begin=0.5, end=1.5), [0, 0, 1, 1, 1, 1, 0, 0]),
        (dict(warmup=dict(length=1)), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (dict(decay=dict(length=1)), [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (dict(begin=5, by_epoch=False), [0, 0, 0, 0, 0, 1, 1, 1]),
    ],
    ids=str,
)
def test_weights_of_an_epoch_based_run(make_runner, schedule, expected):
    trace, _ = trained(make_runner, schedule)
    assert weights_of(trace) == pytest.approx(expected)


def test_pairs_have_schedules_of_their_own(make_runner):
    pairs = dict(stem=dict(begin=4), logits=dict(warmup=None, end=None))
    schedule = dict(end=6, warmup=dict(length=2), pairs=pairs, by_epoch=False)
    trace, _ = trained(make_runner, schedule)
    assert weights_of(trace, 'fpn') == [0, 0.5, 1, 1, 1, 1, 0, 0]
    assert weights_of(trace, 'stem') == [0, 0, 0, 0, 0, 0.5, 0, 0]
    assert weights_of(trace, 'logits') == [1] * 8


def test_loss_is_weighted(make_runner):
    plain, _ = trained(make_runner, dict(), name='plain')
    half, _ = trained(make_runner, dict(warmup=dict(length=8, start_factor=0.5)), name='half')
    assert half.losses[0]['loss_kd_fpn'] == pytest.approx(plain.losses[0]['loss_kd_fpn'] / 2)
    assert half.losses[0]['loss_diff_fpn'] == plain.losses[0]['loss_diff_fpn']


def test_teacher_and_log_of_a_pair_at_rest(make_runner):
    """The teacher does not run, and no value is repeated in the log that was not measured."""
    trace, runner = trained(make_runner, IN_BETWEEN)
    assert trace.taught == [False, False, True, True, True, False, False, False]
    (path,) = Path(runner.work_dir).rglob('scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for index, line in enumerate(line for line in lines if 'loss' in line):
        active = 2 <= index < 5
        for entry in ('loss_diff_fpn', 'loss_ae_fpn', 'gamma_fpn', 'dist_before_fpn'):
            assert (entry in line) == active, (index, entry)
        assert (line['loss_kd_fpn'] > 0) == active
        assert line['kd_weight_fpn'] == float(active)
    log = next(Path(runner.work_dir).rglob('*.log')).read_text()
    assert 'pairs.fpn: distilled from here on, 2 iterations done' in log
    assert 'pairs.fpn: not distilled from here on, 5 iterations done' in log


class Changes(Trace):
    """Which of heads and student an iteration changes."""

    def before_train(self, runner):
        self.heads, self.student, self.before = [], [], self.copy(runner)

    def after_train_iter(self, runner, *args, **kwargs):
        after = self.copy(runner)
        names = {n for n, value in after.items() if not torch.equal(value, self.before[n])}
        self.heads.append(any(n.startswith('distill.') for n in names))
        self.student.append(any(not n.startswith('distill.') for n in names))
        self.before = after

    @staticmethod
    def copy(runner):
        model = getattr(runner.model, 'module', runner.model)
        return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.fixture
def one_process_group():
    """DDP in a single process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group('gloo', rank=0, world_size=1, store=store)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('wrapped', 'optimizer'),
    [
        (None, dict(type='SGD', momentum=0.9)),
        (dict(find_unused_parameters=False), dict(type='SGD', momentum=0.9)),
        (dict(find_unused_parameters=True), dict(type='AdamW')),
    ],
    ids=str,
)
def test_heads_at_rest_do_not_change(make_runner, one_process_group, wrapped, optimizer):
    """With momentum and weight decay, which a gradient of zero does not stop."""
    wrapper = dict(optimizer=dict(optimizer, lr=0.01, weight_decay=0.1))
    runner = scheduled(make_runner, IN_BETWEEN, changes := Changes(), optim_wrapper=wrapper)
    if wrapped is not None:
        runner.model = MMDistributedDataParallel(runner.model, **wrapped)
    runner.train()
    assert changes.heads == [2 <= index < 5 for index in range(8)]
    assert all(changes.student)


def test_gradients_that_wait_for_the_optimizer_s_step_count(make_runner):
    """Two iterations per step, the first with distillation, the second without."""
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01, weight_decay=0.1), accumulative_counts=2)
    schedule = dict(begin=2, end=3, by_epoch=False)
    scheduled(make_runner, schedule, changes := Changes(), optim_wrapper=wrapper).train()
    assert changes.heads == [index == 3 for index in range(8)]


@pytest.mark.parametrize('more_data', [0, 8])
def test_resumed_run_goes_on_with_the_schedule(make_runner, more_data):
    """Epochs count, whatever the number of iterations in those before."""
    schedule = dict(begin=0.5, end=1.5, warmup=dict(length=1))
    whole, _ = trained(make_runner, schedule, name='whole')
    one_epoch = dict(by_epoch=True, max_epochs=1)
    dataloader = dict(dataset=ToyImages(8 + more_data))
    _, runner = trained(
        make_runner, schedule, train_cfg=one_epoch, name='parts', dataloader=dataloader
    )
    meta = dict(epoch=1, iter=runner.iter)
    runner.save_checkpoint(runner.work_dir, 'epoch_1.pth', meta=meta)
    path = str(Path(runner.work_dir, 'epoch_1.pth'))
    rest, _ = trained(make_runner, schedule, name='parts', resume=True, load_from=path)
    assert rest.weights == whole.weights[4:] and rest.taught == whole.taught[4:]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(begin=-1), 'begin must be a finite number from 0, got -1'),
        (dict(begin=2.5, by_epoch=False), 'begin must be an integer from 0, got 2.5'),
        (dict(warmup=3), 'warmup must be a dict with the keys length, start_factor, curve'),
        (dict(warmup=dict(lenght=3)), "warmup: unknown key 'lenght'; did you mean 'length'"),
        (dict(decay=dict(length=0)), 'decay.length must be a finite number above 0'),
        (dict(decay=dict(length=1, curve='cosin')), "'linear' or 'cosine', got 'cosin'"),
        (
            dict(end=3, warmup=dict(length=2), decay=dict(length=2)),
            'end must be later than begin=0 and leave room for warmup and decay, got 3',
        ),
        (dict(pairs=dict(fpn=dict(bgin=1))), "pairs.fpn: unknown key 'bgin'; did you mean 'begin'"),
    ],
    ids=str,
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        HOOKS.build(dict(type='mmdiffkd.DistillationScheduleHook', **settings))


def test_settings_that_do_not_fit_the_run(make_runner):
    with pytest.raises(ConfigError, match="no pair 'fnp'; did you mean 'fpn'. .it has fpn, st"):
        trained(make_runner, dict(pairs=dict(fnp=dict(begin=1))))
    with pytest.raises(ConfigError, match='by_epoch must be False'):
        trained(make_runner, dict(begin=1), train_cfg=BY_ITERATION, name='iterations')


def test_several_optimizers(make_runner):
    runner = scheduled(make_runner, IN_BETWEEN, changes := Changes(), train_cfg=BY_ITERATION)
    parts = dict(student=runner.model.student, heads=runner.model.pairs)
    settings = dict(lr=0.01, momentum=0.9, weight_decay=0.1)
    runner.optim_wrapper = OptimWrapperDict(
        **{k: OptimWrapper(torch.optim.SGD(v.parameters(), **settings)) for k, v in parts.items()}
    )

    def step_both(data, optim_wrapper):
        """As a model does that has several optimizers."""
        inputs = runner.model.data_preprocessor(data, True)
        loss, log = runner.model.parse_losses(runner.model(**inputs, mode='loss'))
        for wrapper in optim_wrapper.values():
            wrapper.zero_grad()
        loss.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return log

    runner.model.train_step = step_both
    runner.train()
    assert changes.heads == [2 <= index < 5 for index in range(8)]
