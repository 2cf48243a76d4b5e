"""What mmengine's options of a training do to a distillation, in runs of the toy distiller."""

import pytest
import torch

from mmdiffkd.engine.hooks import DistillationScheduleHook, NonFiniteLossError, NonFiniteLossHook
from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import Spoil, Trace, infinite

SGD = dict(type='SGD', lr=0.01)


def iterations(number):
    return dict(by_epoch=False, max_iters=number)


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
    (warning,) = [r.getMessage() for r in caplog.records if 'no gradient' in r.getMessage()]
    assert "level 0 of student path 'neck', so the student learns nothing there" in warning


@pytest.mark.slow
def test_compiled_run(make_runner, toy_config):
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
        assert 'loss_kd_fpn is nan' in str(caught.value)
        results.append(trace.losses)
    for losses, expected in zip(*results):
        assert losses == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_compiled_heads(make_runner, toy_config, monkeypatch):
    """`compile=True` in a head, whose loss is watched all the same."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    quick = torch.compile(lambda network, x: network(x), dynamic=True, backend='eager')
    monkeypatch.setattr('mmdiffkd.diffusion.denoiser.compiled_call', lambda: quick)
    toy_config['pairs']['fpn']['head']['compile'] = True
    runner = make_runner(NonFiniteLossHook(), train_cfg=iterations(3))
    runner.register_hook(Spoil(runner.model.teacher.model.neck, infinite, (2,)))
    with pytest.raises(NonFiniteLossError, match='^iteration 3: .*diff_fpn is nan'):
        runner.train()
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(toy_distiller, images, dtype):
    """Contract 9: losses are float32; gradients are finite at a scale that AMP finds."""
    optimizer = torch.optim.SGD(toy_distiller.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)
    updates = 0
    for _ in range(8):
        with torch.autocast('cpu', dtype):
            losses = toy_distiller(images, mode='loss')
        assert {v.dtype for k, v in losses.items() if k != 'loss_task'} == {torch.float32}
        total, _ = toy_distiller.parse_losses(losses)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="mmengine's AmpOptimWrapper needs a GPU")
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_on_a_gpu(make_runner, dtype):
    wrapper = dict(type='AmpOptimWrapper', optimizer=SGD, dtype=dtype)
    make_runner(NonFiniteLossHook(), train_cfg=iterations(4), optim_wrapper=wrapper).train()
