"""Weights over a training, for any schedule."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiffkd.engine.hooks.schedule import PairSchedule
from mmdiffkd.errors import ConfigError

times = st.integers(0, 50)
fractions = st.floats(0, 1)


@st.composite
def schedules(draw):
    """Settings that fit, and the length of the training."""
    begin = draw(times)
    lengths = [draw(st.none() | st.integers(1, 30)) for _ in range(2)]
    span = max(1, sum(length or 0 for length in lengths)) + draw(times)
    keys = ('start_factor', 'end_factor')
    warmup, decay = (
        None
        if length is None
        else dict(
            length=length,
            curve=draw(st.sampled_from(['linear', 'cosine'])),
            **{key: draw(st.floats(0, 2))},
        )
        for length, key in zip(lengths, keys)
    )
    stops = draw(st.booleans())
    cfg = dict(begin=begin, end=begin + span if stops else None, warmup=warmup, decay=decay)
    return cfg, begin + span + draw(times) if stops else begin + span


def schedule_of(cfg, by_epoch=True):
    return PairSchedule.from_config(cfg, by_epoch, 'schedule')


def expected_ramp(cfg, key, distance):
    """A factor at a distance in time from the end where it is not 1."""
    if cfg is None or distance >= cfg['length']:
        return 1.0
    share = distance / cfg['length']
    if cfg['curve'] == 'cosine':
        share = math.sin(math.pi / 2 * share) ** 2
    return share * 1 + (1 - share) * cfg[key]


@settings(max_examples=200)
@given(schedules(), fractions)
def test_weight_at_any_time(case, fraction):
    cfg, training = case
    now = fraction * training
    end = training if cfg['end'] is None else cfg['end']
    weight = schedule_of(cfg).weight(now, training)
    assert (weight is None) == (now < cfg['begin'] or (cfg['end'] is not None and now >= end))
    if weight is not None:
        expected = expected_ramp(cfg['warmup'], 'start_factor', now - cfg['begin'])
        expected *= expected_ramp(cfg['decay'], 'end_factor', end - now)
        assert weight == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(schedules())
def test_ends_of_the_ramps(case):
    """The start factor comes first, 1 between the ramps, and nothing from ``end`` on."""
    cfg, training = case
    schedule = schedule_of(cfg)
    end = training if cfg['end'] is None else cfg['end']
    warmup, decay = (cfg[key] or dict(length=0) for key in ('warmup', 'decay'))
    if decay['length'] < end - cfg['begin']:
        expected = warmup.get('start_factor', 1.0)
        assert schedule.weight(cfg['begin'], training) == pytest.approx(expected)
    if cfg['end'] is not None:
        assert schedule.weight(end, training) is None
        assert schedule.weight(end - 1e-6, training) is not None
    middle = (cfg['begin'] + warmup['length'] + end - decay['length']) / 2
    if middle < end:
        assert schedule.weight(middle, training) == pytest.approx(1.0)


@given(schedules(), fractions, fractions)
def test_ramps_never_turn_back(case, first, second):
    cfg, training = case
    cfg['decay'] = None
    schedule = schedule_of(cfg)
    early, late = sorted(fraction * training for fraction in (first, second))
    weights = [schedule.weight(now, training) for now in (early, late)]
    if None not in weights:
        rises = cfg['warmup'] is None or cfg['warmup']['start_factor'] <= 1
        assert weights[0] <= weights[1] + 1e-12 if rises else weights[0] >= weights[1] - 1e-12


@given(schedules(), st.integers(2, 8), fractions)
def test_epochs_and_iterations_agree(case, per_epoch, fraction):
    """The same times in the other unit give the same weights."""
    cfg, training = case
    in_iterations = dict(cfg, begin=cfg['begin'] * per_epoch)
    if cfg['end'] is not None:
        in_iterations['end'] = cfg['end'] * per_epoch
    for key in ('warmup', 'decay'):
        if cfg[key] is not None:
            in_iterations[key] = dict(cfg[key], length=cfg[key]['length'] * per_epoch)
    iteration = int(fraction * training * per_epoch)
    ours = schedule_of(cfg).weight(iteration / per_epoch, training)
    other = schedule_of(in_iterations, by_epoch=False).weight(iteration, training * per_epoch)
    assert ours == (None if other is None else pytest.approx(other))


@given(schedules(), st.integers(1, 60))
def test_ramps_that_do_not_fit_are_refused(case, missing):
    cfg, _ = case
    cfg.update(warmup=dict(length=20), decay=dict(length=30), end=cfg['begin'] + 50)
    schedule_of(cfg)
    end = cfg['end'] = max(cfg['begin'] + 1, cfg['end'] - missing)
    with pytest.raises(ConfigError, match=f'take 50, more than there is between .* end={end}'):
        schedule_of(cfg)
