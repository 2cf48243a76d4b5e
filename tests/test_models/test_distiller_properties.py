"""Distillers of models of any widths and numbers of levels, on batches of any size."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from mmdiffkd.diffusion import DiffKDHead
from mmdiffkd.errors import ConfigError
from mmdiffkd.models import FrozenTeacher
from mmdiffkd.models.pair_config import PAIR_KEYS
from mmdiffkd.models.preprocessing import InputConverter, InputFormat

widths = st.integers(1, 10)
KNOWN_KEYS = {
    'type', 'loss_weight', *FrozenTeacher.KEYS, *PAIR_KEYS,
    *inspect.signature(DiffKDHead).parameters,
}  # fmt: skip


def distiller_config(student, teacher, pair):
    return dict(
        type='mmdiffkd.DiffKDDistiller',
        student=dict(type='ToyModel', **student),
        teacher=dict(config=dict(type='ToyModel', **teacher), checkpoint='random'),
        pairs=dict(fpn=dict(student='neck', teacher='neck', loss=dict(type='MSELoss'), **pair)),
    )


@settings(max_examples=12)
@given(
    st.integers(1, 4),
    st.tuples(widths, widths),
    st.none() | st.integers(1, 5),
    st.tuples(st.integers(1, 3), st.integers(16, 48), st.integers(16, 48)),
    st.booleans(),
)
def test_one_head_per_level(levels, channels, ae_channels, batch, checkpoint):
    """Heads fit each level; the pair's losses are sums over levels; everything learns."""
    student, teacher = (dict(width=width, levels=levels) for width in channels)
    head = dict(type='DiffKDHead', ae_channels=ae_channels, num_steps=2, checkpoint=checkpoint)
    distiller = MODELS.build(distiller_config(student, teacher, dict(head=head)))
    width = ae_channels or channels[1]
    heads = distiller.pairs['fpn'].heads
    assert [tuple(h.align.weight.shape[:2]) for h in heads] == [(width, channels[0])] * levels

    outputs = []
    distiller.pairs['fpn'].register_output_hook(lambda seen: outputs.extend(seen.values()))
    num, *size = batch
    losses = distiller(torch.randn(num, 3, *size), mode='loss')
    assert len(outputs) == levels
    sides = [((size[0] + 1) // 2 // 2**i, (size[1] + 1) // 2 // 2**i) for i in range(levels)]
    for output, side in zip(outputs, sides):
        assert output.refined.shape == output.target.shape == (num, width, *side)
    compared = sum(F.mse_loss(output.refined, output.target) for output in outputs)
    torch.testing.assert_close(losses['loss_kd_fpn'].detach(), compared)
    noise = sum(output.losses['diff'] for output in outputs)
    torch.testing.assert_close(losses['loss_diff_fpn'].detach(), noise)
    total, _ = distiller.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert [name for name, p in distiller.named_parameters() if p.grad is None] == []


@settings(max_examples=8)
@given(st.integers(1, 4), st.integers(1, 4), st.tuples(widths, widths))
def test_levels_and_widths_that_do_not_match_are_refused(student_levels, teacher_levels, channels):
    """Levels always, widths where there is no head to bring them together."""
    cfg = distiller_config(
        dict(width=channels[0], levels=student_levels),
        dict(width=channels[1], levels=teacher_levels),
        dict(),
    )
    if student_levels == teacher_levels and channels[0] == channels[1]:
        MODELS.build(cfg)
        return
    message = f'pairs.fpn: without a head the channels must agree.*{channels[0]}, {channels[1]}'
    if student_levels != teacher_levels:
        message = f"student path 'neck' yields {student_levels} maps, .* {teacher_levels}"
    with pytest.raises(ConfigError, match=message):
        MODELS.build(cfg)


@settings(max_examples=30)
@given(
    st.sampled_from(['teacher', 'pairs.fpn', 'pairs.fpn.head', 'pairs.fpn.loss']),
    st.from_regex('[a-z][a-z_]{2,9}', fullmatch=True),
    st.integers() | st.text(max_size=3) | st.none(),
)
def test_unknown_keys_are_refused_wherever_they_are(place, key, value):
    """The message says where it is and what would be accepted."""
    cfg = distiller_config(dict(), dict(), dict(head=dict(type='DiffKDHead')))
    part = cfg
    for name in place.split('.'):
        part = part[name]
    assume(key not in part and key not in KNOWN_KEYS)
    part[key] = value
    with pytest.raises(ConfigError, match=rf'^{place}.*: unknown key {key!r}.* \(accepted: \w+'):
        MODELS.build(cfg)


@st.composite
def formats(draw):
    """A data preprocessor's mean and std per channel, order of channels and padding."""
    values = st.tuples(*[st.floats(-200, 200)] * 3), st.tuples(*[st.floats(0.1, 100)] * 3)
    mean, std = (torch.tensor(draw(v), dtype=torch.float64).view(3, 1, 1) for v in values)
    return InputFormat(mean, std, draw(st.booleans()), draw(st.floats(-3, 3)))


@settings(max_examples=100)
@given(
    formats(),
    formats(),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
)
def test_teacher_s_input_is_what_its_own_preprocessing_makes(source, target, sizes):
    """Of the same loaded pixels, padding included."""
    convert = InputConverter(source, target)
    assume(not convert.is_identity)  # nearly equal formats count as equal
    pixels = [255 * torch.rand(3, *size, dtype=torch.float64) for size in sizes]

    def prepared(form):
        batch = torch.full((len(sizes), 3, 6, 6), form.pad_value, dtype=torch.float64)
        for image, values in zip(batch, pixels):
            values = values.flip(0) if form.rgb else values
            image[:, : values.shape[1], : values.shape[2]] = (values - form.mean) / form.std
        return batch

    samples = [BaseDataElement(metainfo=dict(img_shape=size)) for size in sizes]
    converted = convert(prepared(source), samples)
    torch.testing.assert_close(converted, prepared(target), rtol=1e-9, atol=1e-9)
