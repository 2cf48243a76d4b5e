"""Agreement with the published reference implementation, in float64, gradients included."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from naive_head import NaiveDiffKDHead

from mmdiffkd.diffusion import DiffKDHead, linear_alphas_cumprod
from mmdiffkd.losses import softmax_kl

VECTORS = Path(os.environ.get('MMDIFFKD_VECTORS', Path(__file__).parents[1] / 'data' / 'vectors'))
FILES = sorted(path.name for path in VECTORS.glob('*.npz'))
TOLERANCE = 1e-5
# With a single image the shift of an embedding cancels in batch norm, and its gradient is rounding.
ZERO = 1e-9

# The reference's parameter names -> ours, longest match first.
RENAMED = {
    'model.time_embedding': 'denoiser.time_embedding',
    'model.pred': 'denoiser.network',
    'ae.encoder': 'autoencoder.encoder',
    'ae.decoder.0': 'autoencoder.decoder',
    'noise_adapter.pred': 'noise_adapter.classifier',
    'trans': 'align',
    'proj': 'projection',
}


def our_name(name, kernel_size):
    trunk = 'noise_adapter.feat' + ('.0' if kernel_size == 3 else '')
    renamed = {**RENAMED, trunk: 'noise_adapter.trunk' + ('.0' if kernel_size == 3 else '')}
    for theirs, ours in renamed.items():
        if name.startswith(theirs + '.'):
            return ours + name[len(theirs) :]
    raise KeyError(name)


def assert_agrees(name, ours, reference):
    ours, reference = ours.detach().numpy(), np.asarray(reference)
    assert ours.shape == reference.shape, name
    difference, largest = np.abs(ours - reference).max(), np.abs(reference).max()
    allowed = TOLERANCE * largest if largest >= ZERO else ZERO
    assert difference <= allowed, (
        f'{name} differs by {difference:.1e}, its largest is {largest:.1e}'
    )


@pytest.mark.parametrize(
    'build',
    [DiffKDHead, partial(DiffKDHead, checkpoint=True), NaiveDiffKDHead],
    ids=['head', 'checkpoint', 'naive'],
)
@pytest.mark.parametrize('file', FILES)
def test_outputs_and_gradients(file, build):
    with np.load(VECTORS / file) as archive:
        vectors = dict(archive)
    student_channels, teacher_channels, kernel_size, has_ae, width, num_steps, is_mse = (
        int(value) for value in vectors['meta']
    )
    head = build(
        student_channels,
        teacher_channels,
        kernel_size=kernel_size,
        ae_channels=width if has_ae else None,
        num_steps=num_steps,
    ).double()
    if isinstance(head, NaiveDiffKDHead):
        # diffusers computes its schedule in float32, which is too coarse to compare.
        head.scheduler.alphas_cumprod = linear_alphas_cumprod()
    state = {
        our_name(key.removeprefix('state:'), kernel_size): torch.as_tensor(value)
        for key, value in vectors.items()
        if key.startswith('state:')
    }
    head.load_state_dict(state, strict=True)

    student = torch.from_numpy(vectors['student']).requires_grad_()
    output = head(
        student,
        torch.from_numpy(vectors['teacher']),
        student_noise=torch.from_numpy(vectors['noise_student']),
        diffusion_noise=torch.from_numpy(vectors['noise_diffusion']),
        timesteps=torch.from_numpy(vectors['timesteps']),
    )
    distance = torch.nn.functional.mse_loss if is_mse else softmax_kl
    loss_kd = distance(output.refined, output.target)
    total = loss_kd + output.losses['diff'] + (output.losses['ae'] if has_ae else 0)
    total.backward()

    results = dict(
        gamma=output.stats['gamma'],
        refined=output.refined,
        target=output.target,
        loss_diffusion=output.losses['diff'],
        loss_kd=loss_kd,
        grad_student=student.grad,
    )
    if has_ae:
        results['loss_ae'] = output.losses['ae']
    for name, value in results.items():
        assert_agrees(name, value, vectors[name])
    gradients = [key for key in vectors if key.startswith('grad:')]
    assert len(gradients) >= 4
    parameters = dict(head.named_parameters())
    for key in gradients:
        ours = parameters[our_name(key.removeprefix('grad:'), kernel_size)].grad
        assert_agrees(key, ours, vectors[key])


def test_there_are_files():
    assert FILES, f'no vectors in {VECTORS}'
