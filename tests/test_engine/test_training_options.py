"""What mmengine's options of a training do to a distillation, in runs of the toy distiller."""

import copy
import math

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.engine.hooks import DistillationScheduleHook, NonFiniteLossError, NonFiniteLossHook
from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import Spoil, ToyImages, Trace, infinite

SGD = dict(type='SGD', lr=0.01)


class Weights(Hook):
    """The parameters after every iteration."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.seen.append({k: p.detach().clone() for k, p in runner.model.named_parameters()})


def iterations(number):
    return dict(by_epoch=False, max_iters=number)


def test_average_is_of_student_and_heads(make_runner):
    weights, average = Weights(), EMAHook(momentum=0.3)
    weights.priority = 'VERY_HIGH'
    runner = make_runner(weights, average, train_cfg=iterations(4))
    runner.train()
    expected = weights.seen[0]
    for after in weights.seen[1:]:
        expected = {k: 0.7 * mean + 0.3 * after[k] for k, mean in expected.items()}
    ours = dict(average.ema_model.module.named_parameters())
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)
    assert average.ema_model.module.teacher is runner.model.teacher


def test_two_accumulated_batches_are_one_of_twice_the_size(make_runner, toy_config):
    """Without batch norm and noise, which see single batches."""
    toy_config['pairs']['fpn']['head'] = dict(type='AlignHead')
    finals = []
    for number, batch_size, counts in ((4, 2, 2), (2, 4, 1)):
        weights = Weights()
        runner = make_runner(
            weights,
            train_cfg=iterations(number),
            name=f'batch_{batch_size}',
            optim_wrapper=dict(optimizer=SGD, accumulative_counts=counts),
            dataloader=dict(
                dataset=ToyImages(noise=0),
                batch_size=batch_size,
                sampler=dict(type='InfiniteSampler', shuffle=False),
            ),
        )
        runner.model.student.backbone[1] = nn.Identity()
        runner.train()
        finals.append(weights.seen[-1])
    for name, value in finals[0].items():
        torch.testing.assert_close(value, finals[1][name], rtol=1e-5, atol=1e-7)


def test_clipping_takes_student_and_heads_as_one(make_runner):
    norms = []
    wrapper = dict(optimizer=SGD, clip_grad=dict(max_norm=0.1))
    runner = make_runner(train_cfg=iterations(3), optim_wrapper=wrapper)

    def note(*_):
        for part in (runner.model, runner.model.student, runner.model.pairs):
            gradients = [p.grad for p in part.parameters()]
            norms.append(float(nn.utils.get_total_norm(gradients)))

    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.optimizer.register_step_pre_hook(note)
    runner.train()
    for whole, student, heads in zip(norms[::3], norms[1::3], norms[2::3]):
        assert whole == pytest.approx(0.1, rel=1e-4)
        assert 0 < student < whole and 0 < heads < whole
    assert runner.message_hub.get_scalar('train/grad_norm').current() > 0.1


def test_pair_on_a_frozen_part_ends_the_run(make_runner):
    runner = make_runner(train_cfg=iterations(3))
    runner.model.student.backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="pairs.stem: no gradient .* 'backbone'.*frozen_stages"):
        runner.train()


def test_pair_with_a_frozen_level_is_warned_of_once(make_runner, caplog):
    """As of a backbone whose first stage is frozen."""
    runner = make_runner(train_cfg=iterations(3))
    runner.model.student.backbone.requires_grad_(False)
    runner.model.student.neck.convs[0].requires_grad_(False)
    del runner.model.pairs['stem']
    runner.logger.addHandler(caplog.handler)
    runner.train()
    warnings = [r.getMessage() for r in caplog.records if 'no gradient' in r.getMessage()]
    assert [text.partition(':')[0] for text in warnings] == ['pairs.fpn']
    assert "level 0 of student path 'neck', the student learns nothing there" in warnings[0]


@pytest.mark.slow
class TestCompile:
    def test_run(self, make_runner, toy_config):
        """`compile=True` in a config; without a compiler of kernels, to be quick.

        The weight of the pairs changes in every iteration, and the last has an inf in it.
        """
        toy_config['pairs']['fpn']['head']['num_steps'] = 1  # less to trace
        results = []
        for compile in (dict(backend='eager'), False):
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
            trace = Trace()
            runner = make_runner(
                trace,
                DistillationScheduleHook(by_epoch=False, warmup=dict(length=3)),
                NonFiniteLossHook(),
                train_cfg=iterations(4),
                cfg=dict(compile=compile),
                name=f'compiled_{bool(compile)}',
            )
            runner.register_hook(Spoil(runner.model.student.neck, infinite, (3,)))
            with pytest.raises(NonFiniteLossError) as caught:
                runner.train()
            compiled = torch._dynamo.utils.counters['stats']['unique_graphs']
            assert (compiled > 0) == bool(compile)
            assert [weights['fpn'] for weights in trace.weights] == pytest.approx([0, 1 / 3, 2 / 3])
            results.append((trace.losses, str(caught.value)))
        (ours, message), (expected, expected_message) = results
        assert message == expected_message and 'loss_kd_fpn is nan' in message
        for losses, expected_losses in zip(ours, expected):
            assert losses == pytest.approx(expected_losses, rel=1e-3, abs=1e-6)

    def test_heads(self, make_runner, toy_config, monkeypatch):
        """`compile=True` in a head, whose loss is watched all the same."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        quick = torch.compile(lambda network, x: network(x), dynamic=True, backend='eager')
        monkeypatch.setattr('mmdiffkd.diffusion.denoiser._compiled_network', lambda: quick)
        toy_config['pairs']['fpn']['head']['compile'] = True
        runner = make_runner(NonFiniteLossHook(), train_cfg=iterations(3))
        runner.register_hook(Spoil(runner.model.teacher.model.neck, infinite, (2,)))
        with pytest.raises(NonFiniteLossError, match='^iteration 3: .*diff_fpn is nan'):
            runner.train()
        assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0


class TestMixedPrecision:
    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
    def test_step_with_a_scaler(self, toy_distiller, images, dtype):
        """Contract 9: losses are float32; gradients are finite at a scale that AMP finds."""
        optimizer = torch.optim.SGD(toy_distiller.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)
        updates = 0
        for _ in range(8):
            with torch.autocast('cpu', dtype):
                losses = toy_distiller(images, mode='loss')
            assert {v.dtype for k, v in losses.items() if k != 'loss_task'} == {torch.float32}
            total, _ = toy_distiller.parse_losses(losses)
            assert total.isfinite()
            scaler.scale(total).backward()
            scaler.unscale_(optimizer)
            gradients = [p.grad for p in toy_distiller.parameters()]
            updates += all(gradient.isfinite().all() for gradient in gradients)
            assert all(gradient.dtype == torch.float32 for gradient in gradients)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert updates > 0
        assert all(value.isfinite().all() for value in toy_distiller.state_dict().values())

    @pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a GPU: mmengine's AmpOptimWrapper does"
    )
    @pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
    def test_run_on_a_gpu(self, make_runner, dtype):
        trace = Trace()
        wrapper = dict(type='AmpOptimWrapper', optimizer=SGD, dtype=dtype)
        runner = make_runner(
            trace, NonFiniteLossHook(), train_cfg=iterations(4), optim_wrapper=wrapper
        )
        runner.train()
        assert all(math.isfinite(losses['loss']) for losses in trace.losses)
