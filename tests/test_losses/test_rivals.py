"""Agreement with the published code of each method, in float64, gradients included."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdiffkd.heads import FGDHead, MGDHead
from mmdiffkd.losses import (
    attention_transfer,
    cwd,
    dist,
    dkd,
    pkd,
    sigmoid_kl,
    softmax_kl,
)

VECTORS = Path(__file__).parents[1] / 'data' / 'vectors' / 'rivals'
VECTORS = Path(os.environ.get('MMDIFFKD_RIVAL_VECTORS', VECTORS))
FILES = sorted(VECTORS.glob('*.npz'))
TOLERANCE = 1e-8
# Gradients that are 0 but for rounding.
ZERO = 1e-9


def mgd(student, teacher, meta, read):
    ratio, alpha = meta['mask_ratio'], meta['alpha']
    head = MGDHead(student.shape[1], teacher.shape[1], ratio, meta['mask'], alpha)
    return head, lambda: head(student, teacher, uniform=read['uniform']).distance


def fgd(student, teacher, meta, read):
    names = dict(temp='temperature', alpha='alpha', beta='beta', gamma='gamma', lambda_='lambda_')
    settings = {ours: meta[theirs] for theirs, ours in names.items() if theirs in meta}
    head = FGDHead(student.shape[1], teacher.shape[1], **settings)
    boxes = [read[f'boxes{index}'] for index in range(len(student))]
    sizes = meta['img_shapes']
    return head, lambda: head.distance(head.align(student), teacher, boxes, sizes)


def function_of(meta, labels):
    """The distance of a method without weights."""
    tau = meta.get('tau', meta.get('T', 1.0))
    weights = {key: meta[key] for key in ('alpha', 'beta', 'gamma') if key in meta}
    mse, l1 = torch.nn.functional.mse_loss, torch.nn.functional.l1_loss
    kl = sigmoid_kl if meta.get('use_sigmoid') else softmax_kl
    return dict(
        AT=lambda s, t: attention_transfer(s, t, meta.get('p', 2)),
        CWD=lambda s, t: cwd(s, t, tau),
        PKD=pkd,
        DKD=lambda s, t: dkd(s, t, labels, **weights, tau=tau),
        KD=lambda s, t: kl(s, t, tau),
        DIST=lambda s, t: dist(s, t, **weights, tau=tau),
        # Rows are distributions, of which the published code takes the mean over values.
        LD=lambda s, t: softmax_kl(s, t, tau) / s.shape[1],
        L1=l1,
        **dict.fromkeys(('L2', 'MSE', 'FitNets'), mse),
    )[meta['method']]


def assert_agrees(name, ours, reference):
    difference = np.abs(ours.detach().numpy() - reference).max()
    largest = np.abs(reference).max()
    allowed = TOLERANCE * largest if largest >= ZERO else ZERO
    assert difference <= allowed, (
        f'{name} differs by {difference:.1e}, its largest is {largest:.1e}'
    )


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_value_and_gradients(path):
    with np.load(path) as archive:
        vectors = dict(archive)
    meta = json.loads(str(vectors.pop('meta')))
    read = {name: torch.from_numpy(value) for name, value in vectors.items()}
    student, teacher = read['student'].requires_grad_(), read['teacher']
    heads = dict(MGD=mgd, FGD=fgd)
    if meta['method'] in heads:
        module, run = heads[meta['method']](student, teacher, meta, read)
        state = {k.removeprefix('state:'): v for k, v in read.items() if k.startswith('state:')}
        module.double().load_state_dict(state)
        loss = run()
    else:
        module = torch.nn.Module()
        function = function_of(meta, read.get('labels'))
        loss = meta.get('loss_weight', 1.0) * function(student, teacher)
    loss.backward()
    assert_agrees('loss', loss, vectors['out:loss'])
    tensors = dict(module.named_parameters(), student=student)
    assert tensors.keys() == {k.removeprefix('grad:') for k in vectors if k.startswith('grad:')}
    for name, tensor in tensors.items():
        assert_agrees(name, tensor.grad, vectors[f'grad:{name}'])


def test_there_are_files():
    assert FILES, f'no vectors in {VECTORS}'
