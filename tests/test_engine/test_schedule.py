"""When distillation runs, with which weight, and what stays as it is when it does not."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS

from mmdiffkd.engine.hooks import DistillationScheduleHook
from mmdiffkd.errors import ConfigError

from .conftest import ITERATIONS_PER_EPOCH, Trace

BY_ITERATION = dict(type='IterBasedTrainLoop', max_iters=8)


def trained(make_runner, schedule, **kwargs):
    """Train with a schedule; the trace and the runner."""
    trace = Trace()
    runner = make_runner(
        dict(type='mmdiffkd.DistillationScheduleHook', **schedule), trace, **kwargs
    )
    runner.train()
    return trace, runner


def weights_of(trace, name='fpn'):
    return [weights[name] for weights in trace.weights]


def scalars_of(runner):
    (path,) = Path(runner.work_dir).rglob('scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestWeights:
    @pytest.mark.parametrize(
        ('schedule', 'expected'),
        [
            (dict(), [1] * 8),
            (dict(begin=3), [0, 0, 0, 1, 1, 1, 1, 1]),
            (dict(end=3), [1, 1, 1, 0, 0, 0, 0, 0]),
            (dict(begin=2, end=4), [0, 0, 1, 1, 0, 0, 0, 0]),
            (dict(begin=2, warmup=dict(length=4)), [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]),
            (
                dict(warmup=dict(length=2, start_factor=0.5), end=6, decay=dict(length=2)),
                [0.5, 0.75, 1, 1, 1, 0.5, 0, 0],
            ),
            (dict(decay=dict(length=4, end_factor=0.2)), [1, 1, 1, 1, 1, 0.8, 0.6, 0.4]),
            (
                dict(decay=dict(length=8, curve='cosine')),
                [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)],
            ),
            (
                dict(warmup=dict(length=8, curve='cosine', start_factor=0.5)),
                [0.75 - math.cos(math.pi * i / 8) / 4 for i in range(8)],
            ),
        ],
        ids=str,
    )
    def test_by_iteration(self, make_runner, schedule, expected):
        trace, _ = trained(make_runner, dict(schedule, by_epoch=False), train_cfg=BY_ITERATION)
        assert weights_of(trace) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ('schedule', 'expected'),
        [
            (dict(begin=1), [0, 0, 0, 0, 1, 1, 1, 1]),
            (dict(end=1), [1, 1, 1, 1, 0, 0, 0, 0]),
            (dict(begin=0.5, end=1.5), [0, 0, 1, 1, 1, 1, 0, 0]),
            (dict(warmup=dict(length=1)), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
            (dict(decay=dict(length=1)), [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ],
        ids=str,
    )
    def test_by_epoch(self, make_runner, schedule, expected):
        trace, _ = trained(make_runner, schedule)
        assert weights_of(trace) == pytest.approx(expected)

    def test_by_iteration_of_an_epoch_based_run(self, make_runner):
        trace, _ = trained(make_runner, dict(begin=5, by_epoch=False))
        assert weights_of(trace) == [0, 0, 0, 0, 0, 1, 1, 1]

    def test_pairs_have_their_own(self, make_runner):
        trace, _ = trained(
            make_runner,
            dict(
                end=6,
                warmup=dict(length=2),
                pairs=dict(stem=dict(begin=4), logits=dict(warmup=None, end=None)),
                by_epoch=False,
            ),
        )
        assert weights_of(trace, 'fpn') == [0, 0.5, 1, 1, 1, 1, 0, 0]
        assert weights_of(trace, 'stem') == [0, 0, 0, 0, 0, 0.5, 0, 0]
        assert weights_of(trace, 'logits') == [1] * 8

    def test_loss_is_weighted(self, make_runner):
        plain, _ = trained(make_runner, dict(), name='plain')
        half, _ = trained(
            make_runner, dict(warmup=dict(length=8, start_factor=0.5), by_epoch=False), name='half'
        )
        assert half.losses[0]['loss_kd_fpn'] == pytest.approx(plain.losses[0]['loss_kd_fpn'] / 2)
        assert half.losses[0]['loss_diff_fpn'] == plain.losses[0]['loss_diff_fpn']


class TestStopping:
    SCHEDULE = dict(begin=2, end=5, by_epoch=False)

    def test_teacher_runs_only_in_between(self, make_runner):
        trace, _ = trained(make_runner, self.SCHEDULE)
        assert trace.taught == [False, False, True, True, True, False, False, False]

    def test_log(self, make_runner):
        """No value is repeated that was not measured; mmengine shows the last one it knows."""
        _, runner = trained(make_runner, self.SCHEDULE)
        lines = [line for line in scalars_of(runner) if 'loss' in line]
        for index, line in enumerate(lines):
            active = 2 <= index < 5
            for entry in ('loss_diff_fpn', 'loss_ae_fpn', 'gamma_fpn', 'dist_before_fpn'):
                assert (entry in line) == active, (index, entry)
            assert (line['loss_kd_fpn'] > 0) == active
            assert line['kd_weight_fpn'] == float(active)
        log = next(Path(runner.work_dir).rglob('*.log')).read_text()
        assert 'pairs.fpn: not distilled from here on, 0 iterations done' in log
        assert 'pairs.fpn: distilled from here on, 2 iterations done' in log
        assert 'pairs.fpn: not distilled from here on, 5 iterations done' in log

    def test_without_a_schedule_no_weight_is_logged(self, make_runner):
        runner = make_runner()
        runner.train()
        assert not [key for line in scalars_of(runner) for key in line if 'kd_weight' in key]

    @pytest.mark.parametrize('wrapped', [None, False, True], ids=['no-DDP', 'DDP', 'DDP-unused'])
    @pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
    def test_parameters_stay_as_they_are(self, make_runner, one_process_group, wrapped, optimizer):
        """With momentum and weight decay, which a gradient of zero does not stop."""
        settings = dict(type=optimizer, lr=0.01, weight_decay=0.1)
        if optimizer == 'SGD':
            settings['momentum'] = 0.9
        runner = make_runner(
            dict(type='mmdiffkd.DistillationScheduleHook', **self.SCHEDULE),
            states := States(),
            optim_wrapper=dict(type='OptimWrapper', optimizer=settings),
        )
        if wrapped is not None:
            runner.model = MMDistributedDataParallel(runner.model, find_unused_parameters=wrapped)
        runner.train()
        for index, (before, after) in enumerate(zip(states.all, states.all[1:])):
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            active = 2 <= index < 5
            assert any(n.startswith('distill.') for n in changed) == active, index
            assert any(not n.startswith('distill.') for n in changed), index

    def test_gradients_that_wait_for_the_optimizer_s_step_count(self, make_runner):
        """Two iterations per step, the first with distillation, the second without."""
        runner = make_runner(
            dict(type='mmdiffkd.DistillationScheduleHook', begin=2, end=3, by_epoch=False),
            states := States(),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=0.01, weight_decay=0.1),
                accumulative_counts=2,
            ),
        )
        runner.train()
        changes = [
            any(not torch.equal(before[n], after[n]) for n in before if n.startswith('distill.'))
            for before, after in zip(states.all, states.all[1:])
        ]
        assert changes == [False, False, False, True, False, False, False, False]

    def test_student_trains_as_without_distillation(self, make_runner, toy_config):
        _, runner = trained(make_runner, dict(begin=8, by_epoch=False))
        expected = runner.model.student.state_dict()
        toy_config['pairs'] = dict(logits=toy_config['pairs']['logits'])
        # Another number of heads, none of them in use: the student sees nothing of it.
        _, other = trained(make_runner, dict(begin=8, by_epoch=False), name='other')
        for key, value in other.model.student.state_dict().items():
            assert torch.equal(value, expected[key]), key

    def test_several_optimizers(self, make_runner):
        runner = make_runner(
            dict(type='mmdiffkd.DistillationScheduleHook', **self.SCHEDULE), states := States()
        )
        settings = dict(lr=0.01, momentum=0.9, weight_decay=0.1)
        parts = dict(student=runner.model.student, heads=runner.model.pairs)
        runner.optim_wrapper = OptimWrapperDict(
            **{
                k: OptimWrapper(torch.optim.SGD(v.parameters(), **settings))
                for k, v in parts.items()
            }
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
        for index, (before, after) in enumerate(zip(states.all, states.all[1:])):
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            assert any(n.startswith('distill.') for n in changed) == (2 <= index < 5), index

    def test_optimizer_is_left_alone_afterwards(self, make_runner):
        _, runner = trained(make_runner, self.SCHEDULE)
        assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


class States(Trace):
    """The weights before training and after each iteration."""

    def before_train(self, runner):
        self.all = [self.copy(runner)]

    def after_train_iter(self, runner, *args, **kwargs):
        self.all.append(self.copy(runner))

    @staticmethod
    def copy(runner):
        model = getattr(runner.model, 'module', runner.model)
        return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.fixture
def one_process_group():
    """DDP in a single process."""
    torch.distributed.init_process_group(
        'gloo', rank=0, world_size=1, store=torch.distributed.HashStore()
    )
    yield
    torch.distributed.destroy_process_group()


class TestResume:
    SCHEDULE = dict(begin=3, end=6, by_epoch=False, warmup=dict(length=3))

    def test_goes_on_as_it_would_have(self, make_runner):
        whole, _ = trained(make_runner, self.SCHEDULE, name='whole')
        first, runner = trained(
            make_runner,
            self.SCHEDULE,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            name='parts',
        )
        runner.save_checkpoint(runner.work_dir, 'epoch_1.pth', meta=dict(epoch=1, iter=4))
        second, _ = trained(
            make_runner,
            self.SCHEDULE,
            name='parts',
            resume=True,
            load_from=str(Path(runner.work_dir, 'epoch_1.pth')),
        )
        assert second.iterations == [4, 5, 6, 7]
        assert first.weights + second.weights == whole.weights
        assert first.taught + second.taught == whole.taught

    def test_epoch_that_is_started_again(self, toy_distiller):
        """After an interrupt mmengine counts iterations on, and starts the epoch again."""
        hook = DistillationScheduleHook(begin=1, warmup=dict(length=2))
        hook._pairs = dict(toy_distiller.pairs.items())
        weights = []
        runner = SimpleNamespace(
            iter=7,
            epoch=1,
            max_iters=16,
            max_epochs=4,
            train_dataloader=[None] * ITERATIONS_PER_EPOCH,
            message_hub=SimpleNamespace(update_scalar=lambda name, value: weights.append(value)),
        )
        hook.before_train_iter(runner, batch_idx=0)
        hook.before_train_iter(runner, batch_idx=2)
        assert weights == [0.0] * 3 + [0.25] * 3


class TestErrors:
    @pytest.mark.parametrize(
        ('settings', 'message'),
        [
            (dict(begin=-1), 'begin must be a number from 0, got -1'),
            (dict(begin='x'), "begin must be a number from 0, got 'x'"),
            (dict(end=True), 'end must be a number from 0, got True'),
            (
                dict(begin=2.5, by_epoch=False),
                'begin must be a whole number of iterations from 0, got 2.5',
            ),
            (dict(begin=3, end=3), 'end must be later than begin=3 .* got 3'),
            (dict(warmup=3), 'warmup must be a dict with the keys length, start_factor, curve'),
            (dict(warmup=dict()), "warmup: 'length' is required"),
            (dict(warmup=dict(lenght=3)), "warmup: unknown key 'lenght'; did you mean 'length'"),
            (dict(decay=dict(length=1, start_factor=0)), "unknown key 'start_factor'"),
            (dict(decay=dict(length=0)), 'decay.length must be above 0'),
            (dict(decay=dict(length=1, end_factor=-1)), 'decay.end_factor must be a number from 0'),
            (
                dict(decay=dict(length=1, curve='cosin')),
                "curve must be 'linear' or 'cosine', got 'cosin'",
            ),
            (
                dict(end=3, warmup=dict(length=2), decay=dict(length=2)),
                'end must be later than begin=0 and leave room for warmup and decay, got 3',
            ),
            (
                dict(pairs=dict(fpn=dict(bgin=1))),
                "pairs.fpn: unknown key 'bgin'; did you mean 'begin'",
            ),
            (dict(pairs=dict(fpn=dict(end=0))), 'pairs.fpn.end must be later than begin=0'),
        ],
        ids=str,
    )
    def test_wrong_settings(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            HOOKS.build(dict(type='mmdiffkd.DistillationScheduleHook', **settings))

    def test_unknown_pair(self, make_runner):
        with pytest.raises(ConfigError, match="no pair 'fnp'; did you mean 'fpn'. .it has fpn, st"):
            trained(make_runner, dict(pairs=dict(fnp=dict(begin=1))))

    def test_epochs_of_a_run_without(self, make_runner):
        with pytest.raises(ConfigError, match='by_epoch must be False'):
            trained(make_runner, dict(begin=1), train_cfg=BY_ITERATION)

    def test_plain_model(self, make_runner, toy_config):
        student = toy_config['student']
        toy_config.clear()
        toy_config.update(student)
        with pytest.raises(ConfigError, match='needs a model of type mmdiffkd.DiffKDDistiller'):
            make_runner(DistillationScheduleHook()).train()
