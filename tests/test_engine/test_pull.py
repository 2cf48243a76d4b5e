"""How hard pairs pull at the student, and weights that are chosen from it."""

import json
import math
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmdiffkd.engine.hooks import PullBalanceHook
from mmdiffkd.engine.hooks.pull import PullMeter
from mmdiffkd.errors import ConfigError
from tests.test_engine.conftest import ToyImages

WITHOUT_AMP = SimpleNamespace(optim_wrapper=None)
PLAIN = dict(head=dict(type='AlignHead'), loss=dict(type='MSELoss', loss_weight=3.0))


def measured(distiller, images, meter=None, run=WITHOUT_AMP):
    meter = meter or PullMeter()
    handles = meter.watch(run, distiller)
    distiller(images, mode='loss')
    for handle in handles:
        handle.remove()
    return meter.pulls(distiller)


def cosine_and_ratio(own, distance, features):
    """Of the gradients of two functions of features, by autograd on these alone."""
    features = [feature.detach().requires_grad_() for feature in features]
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss(features), features)])
        for loss in (own, distance)
    ]
    ratio = gradients[1].norm() / gradients[0].norm()
    return ratio.item(), F.cosine_similarity(*gradients, dim=0).item()


@pytest.fixture
def plain(toy_config):
    """In float64: a pair at a norm that an operation in place follows, and two at one pyramid."""
    pairs = dict(
        norm=dict(student='backbone.1', teacher='backbone.1', weight=0.5, **PLAIN),
        fpn=dict(student='neck', teacher='neck', **PLAIN),
        stronger=dict(student='neck', teacher='neck', weight=10, **PLAIN),
    )
    torch.manual_seed(0)
    return MODELS.build(dict(toy_config, pairs=pairs)).double().eval()


def test_values_are_those_of_a_computation_by_hand(plain, images):
    student, targets = plain.student, {}
    for name, pair in plain.pairs.items():
        pair.register_output_hook(
            lambda outputs, name=name: targets.update({name: [o.target for o in outputs.values()]})
        )
    found = measured(plain, images.double())

    def own(levels):
        return sum(student.head.cls(level).square().mean() for level in levels)

    def distance(name):
        pair = plain.pairs[name]
        return lambda features: (
            3
            * pair.weight
            * sum(
                F.mse_loss(head.align(feature), target)
                for head, feature, target in zip(pair.heads, features, targets[name])
            )
        )

    norm = student.backbone[1](student.backbone[0](images.double()))
    assert tuple(found['norm']) == pytest.approx(
        cosine_and_ratio(lambda f: own(student.neck(f[0].relu())), distance('norm'), [norm])
    )
    for name in ('fpn', 'stronger'):
        expected = cosine_and_ratio(own, distance(name), student.neck(norm.relu()))
        assert tuple(found[name]) == pytest.approx(expected)
    assert -1 < found['norm'].agreement < 1


def test_what_has_no_pull_is_left_out(toy_distiller, images):
    """A feature on which the student's losses do not depend; pairs at rest; a weight of zero."""
    toy_distiller.student.neck.requires_grad_(False)
    toy_distiller.student.head.cls.forward = lambda x: x.detach()[:, :3] + x[:, :3] * 0
    toy_distiller.pairs['logits'].active = False
    assert measured(toy_distiller, images) == {}
    del toy_distiller.student.head.cls.forward
    toy_distiller.pairs['fpn'].weight = 0.0
    found = measured(toy_distiller, images)
    assert set(found) == {'fpn', 'stem'} and found['fpn'] == (0.0, None)


def test_gradients_that_would_vanish_in_half_precision(plain, images):
    """They are scaled as in training; a scale at which they overflow yields no value."""
    expected = measured(plain, images.double())
    plain.student.head.cls.register_forward_hook(lambda *args: 1e-3 * args[-1])
    for pair in plain.pairs.values():
        pair.weight *= 1e-6
    plain.student.neck.register_forward_hook(
        lambda *args: tuple(level.half().double() for level in args[-1])
    )
    for scale, names in ((1.0, {}), (2.0**20, {'fpn', 'stronger'}), (2.0**60, {})):
        scaler = torch.amp.GradScaler('cpu', init_scale=scale)
        run = SimpleNamespace(optim_wrapper=SimpleNamespace(loss_scaler=scaler))
        found = measured(plain, images.double(), run=run)
        assert {name for name in ('fpn', 'stronger') if name in found} == set(names), scale
        for name in names:
            assert found[name].ratio == pytest.approx(expected[name].ratio, rel=0.01)


def checkpointed(stem):
    """An older form of activation checkpointing allows one backward pass."""
    align = stem.heads[0].align
    forward = align.forward
    align.forward = lambda x: checkpoint(forward, x, use_reentrant=True)


def compiled(stem):
    """Copies that compiled parts make have no node of their own."""
    stem.register_forward_pre_hook(
        lambda _, args: ({k: [x * 1 for x in v] for k, v in args[0].items()}, *args[1:])
    )


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (checkpointed, 'a second backward pass fails'),
        (compiled, 'the features of pairs.stem come from compiled parts'),
    ],
)
def test_what_cannot_be_measured(toy_distiller, images, monkeypatch, change, reason):
    """The pair is left out, with one warning, and training goes on."""
    told = []
    monkeypatch.setattr(MMLogger, 'handle', lambda _, record: told.append(record.getMessage()))
    MMLogger.get_instance('test_pull')
    change(toy_distiller.pairs['stem'])
    meter = PullMeter()
    for _ in range(2):
        assert set(measured(toy_distiller, images, meter)) == {'fpn', 'logits'}
    assert sum(reason in text for text in told) == 1
    with pytest.raises(ConfigError, match=reason):
        measured(toy_distiller, images, PullMeter(strict=True))


BALANCED = dict(stem=0.5, logits=2.0)


@pytest.fixture
def balanced(make_runner):
    """Train two epochs of the same batches without learning; returns the runner."""

    def train(*hooks, pull=BALANCED, iterations=4, **changes):
        balance = dict(type='mmdiffkd.PullBalanceHook', pull=pull, iterations=iterations)
        telemetry = dict(type='mmdiffkd.TelemetryHook', interval=1)
        loader = dict(
            dataset=ToyImages(noise=0), sampler=dict(type='DefaultSampler', shuffle=False)
        )
        still = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
        runner = make_runner(
            balance, telemetry, *hooks, dataloader=loader, optim_wrapper=still, **changes
        )
        runner.train()
        return runner

    return train


def weights(runner):
    return {name: runner.model.pairs[name].weight for name in BALANCED}


def test_wanted_pull_is_reached_and_kept(balanced):
    runner = balanced()
    path = Path(runner.log_dir, 'vis_data', 'scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name, wanted in BALANCED.items():
        pulls = [line[f'pull_{name}'] for line in lines if f'pull_{name}' in line]
        assert statistics.geometric_mean(pulls[4:]) == pytest.approx(wanted, rel=1e-4)
        assert math.log(pulls[0] / pulls[4]) != pytest.approx(0, abs=0.1)
    assert runner.model.pairs['fpn'].weight == 1.0
    (log,) = Path(runner.log_dir).glob('*.log')
    assert f'pairs.stem: weight 1 -> {runner.model.pairs["stem"].weight:.4g} ' in log.read_text()


@pytest.mark.parametrize('iterations', [3, 6])
def test_resumed_run_keeps_what_was_chosen_or_goes_on_measuring(balanced, iterations):
    whole = balanced(iterations=iterations, name='whole')
    parts = balanced(
        iterations=iterations, name='parts', train_cfg=dict(by_epoch=True, max_epochs=1)
    )
    assert (weights(parts) == weights(whole)) == (iterations == 3)
    path = Path(parts.work_dir, 'epoch_1.pth')
    parts.save_checkpoint(parts.work_dir, path.name, meta=dict(epoch=1, iter=parts.iter))
    rest = balanced(iterations=iterations, name='rest', resume=True, load_from=str(path))
    assert weights(rest) == pytest.approx(weights(whole), rel=1e-5)
    seen = rest.message_hub.get_info('pull_balance')['seen']
    assert {len(ratios) for ratios in seen.values()} == {iterations}
    # A run that only starts from these weights measures anew.
    other = balanced(pull=0.25, iterations=4, name='other', load_from=str(path))
    assert weights(other) != pytest.approx(weights(whole), rel=0.1)


def test_factor_of_a_schedule_comes_on_top(balanced):
    """The pull is that at a factor of 1, whenever distillation begins."""
    expected = weights(balanced(name='constant'))
    schedule = dict(begin=4, warmup=dict(length=4, start_factor=0.5), by_epoch=False)
    schedule = dict(type='mmdiffkd.DistillationScheduleHook', **schedule)
    assert weights(balanced(schedule, name='scheduled')) == pytest.approx(expected, rel=1e-4)


def test_pair_without_a_pull_keeps_its_weight(balanced, toy_config):
    toy_config['pairs']['stem']['weight'] = 0
    model = MODELS.build(toy_config)
    runner = balanced(model=model)
    assert weights(runner)['stem'] == 0 and weights(runner)['logits'] != 1
    (log,) = Path(runner.log_dir).glob('*.log')
    assert 'pairs.stem: weight stays 0' in log.read_text()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(pull=0), 'PullBalanceHook.pull must be a finite number above 0, got 0'),
        (dict(pull=dict(fpn='1')), "PullBalanceHook.pull.fpn must be .* above 0, got '1'"),
        (dict(iterations=0), 'PullBalanceHook.iterations must be an integer from 1, got 0'),
    ],
    ids=str,
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        PullBalanceHook(**settings)


def test_unknown_pair(balanced):
    with pytest.raises(ConfigError, match="no pair 'fnp'; did you mean 'fpn'. .it has fpn, stem"):
        balanced(pull=dict(fnp=1))
