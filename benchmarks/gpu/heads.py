#!/usr/bin/env python
"""Compare all heads and distances on a device with the same on a CPU in float64.

Each row has two relative errors per precision: that of the results, and of all gradients together.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, Tuple

from rows import parse_part_args

import torch  # isort: skip
from torch import Tensor, nn

from mmdiffkd.diffusion import AlignHead, DiffKDHead
from mmdiffkd.heads import CrossKDHead, FGDHead, LDHead, MGDHead
from mmdiffkd.losses import (
    ATLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    PKDLoss,
    SmoothL1Loss,
)
from mmdiffkd.models.context import PairContext

Builder = Callable[[], nn.Module]
STUDENT, TEACHER = 24, 32  # channels
SCALE = 2.0**10
# Type of autocast, and the largest relative errors of the results and of all gradients together.
PRECISIONS = {
    'float32': (None, 1e-4, 1e-3),
    'tf32': (None, 0.01, 0.06),
    'bfloat16': (torch.bfloat16, 0.05, 0.25),
    'float16': (torch.float16, 0.01, 0.06),
}


class WithTeacher(nn.Module):
    """A head that runs a part of its teacher, with the teacher, so that both move to a device."""

    def __init__(self, kind: Callable[..., nn.Module], dense_head: str, **arguments: Any) -> None:
        super().__init__()
        from mmdet.registry import MODELS

        config = dict(num_classes=3, in_channels=TEACHER, feat_channels=TEACHER, stacked_convs=4)
        self.teacher = nn.Module()
        if dense_head == 'GFLHead':
            sizes = dict(octave_base_scale=8, scales_per_octave=1, strides=[8])
            config.update(anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], **sizes))
        self.teacher.bbox_head = MODELS.build(dict(config, type=dense_head))
        for parameter in self.teacher.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        self.teacher.requires_grad_(False)
        self.head = kind(teacher_model=self.teacher, **arguments)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Forward of the head."""
        return self.head(*args, **kwargs)


def maps(**others: Tensor) -> Dict[str, Any]:
    """The features of a pair, and other arguments of a head's forward."""
    student, teacher = torch.randn(2, STUDENT, 20, 28), torch.randn(2, TEACHER, 20, 28)
    return dict(student_feat=student, teacher_feat=teacher, **others)


def diffusion(*shape: int) -> Dict[str, Tensor]:
    """The draws of a diffusion head for a feature of a shape."""
    noise = torch.randn(2, *shape)
    timesteps = torch.randint(1000, shape[:1])
    return dict(student_noise=noise[0], diffusion_noise=noise[1], timesteps=timesteps)


def context(data_samples: Any) -> PairContext:
    """What heads and distances may ask for about a batch."""
    images = torch.zeros(2, 3, 160, 224)
    return PairContext.of_map(images, data_samples, 0, images[..., ::8, ::8])


def cases() -> Iterator[Tuple[str, Builder, Dict[str, Any]]]:
    """Name, builder and arguments of the forward of each head and distance."""
    widths = (STUDENT, TEACHER)
    size = (20, 28)
    yield 'DiffKDHead', lambda: DiffKDHead(*widths), maps(**diffusion(2, TEACHER, *size))
    checkpoint = dict(ae_channels=16, checkpoint=True)
    yield (
        'DiffKDHead, autoencoder, checkpoint',
        lambda: DiffKDHead(*widths, **checkpoint),
        maps(**diffusion(2, 16, *size)),
    )
    # Enough of them for the statistics of a batch norm.
    logits = torch.randn(2, 32, 100, 1, 1)
    vectors = dict(student_feat=logits[0], teacher_feat=logits[1])
    yield (
        'DiffKDHead, logits',
        lambda: DiffKDHead(100, 100, kernel_size=1, reduction=1, adapter_reduction=1),
        dict(vectors, **diffusion(32, 100, 1, 1)),
    )
    yield 'AlignHead', lambda: AlignHead(*widths), maps()
    yield 'MGDHead', lambda: MGDHead(*widths), maps(uniform=torch.rand(2, 1, *size))
    boxes = torch.tensor([[3.0, 5.0, 90.0, 71.0], [50.0, 8.0, 70.0, 20.0]]), torch.zeros(0, 4)
    samples = [SimpleNamespace(gt_instances=SimpleNamespace(bboxes=x)) for x in boxes]
    dense = maps(context=context(samples))
    yield 'FGDHead', lambda: FGDHead(*widths), dense
    scores = dict(student_channels=STUDENT)
    yield 'CrossKDHead, scores', lambda: WithTeacher(CrossKDHead, 'RetinaHead', **scores), dense
    boxes = dict(scores, branch='reg')
    yield 'CrossKDHead, boxes', lambda: WithTeacher(CrossKDHead, 'RetinaHead', **boxes), dense
    yield 'CrossKDHead, distributions', lambda: WithTeacher(CrossKDHead, 'GFLHead', **boxes), dense
    sides = dict(dense, student_feat=torch.randn(2, 4 * 17, *size))
    yield 'LDHead', lambda: WithTeacher(LDHead, 'GFLHead'), sides
    student, teacher = torch.randn(2, 2, TEACHER, *size)
    for loss in (MSELoss, L1Loss, SmoothL1Loss, KLDivLoss, DISTLoss, CWDLoss, PKDLoss, ATLoss):
        yield loss.__name__, loss, dict(student=student, teacher=teacher)
    scores = torch.randn(2, 8, 100)
    labels = context(torch.arange(8))
    yield 'DKDLoss', DKDLoss, dict(student=scores[0], teacher=scores[1], context=labels)


def moved(value: Any, device: str, dtype: torch.dtype) -> Any:
    """An argument of a forward on a device, floating-point numbers in a type."""
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype if value.is_floating_point() else None, copy=True)
    if isinstance(value, list):
        return [moved(item, device, dtype) for item in value]
    if isinstance(value, SimpleNamespace):
        items = vars(value).items()
        return SimpleNamespace(**{name: moved(item, device, dtype) for name, item in items})
    if isinstance(value, PairContext):
        return replace(value, data_samples=moved(value.data_samples, device, dtype))
    return value


def evaluate(
    build: Builder, arguments: Dict[str, Any], device: str, dtype: torch.dtype, autocast: Any = None
) -> Tuple[Dict[str, Tensor], Tensor]:
    """Results of one forward, and all gradients in one vector, both as float64 on the CPU."""
    torch.manual_seed(0)
    module = build().to(device, dtype)
    arguments = {name: moved(value, device, dtype) for name, value in arguments.items()}
    student, teacher, *others = arguments
    feature = arguments.pop(student).requires_grad_()
    with torch.autocast(device, autocast, enabled=autocast is not None):
        output = module(
            feature, arguments.pop(teacher), **{name: arguments[name] for name in others}
        )
    results = dict(distance=output)
    if not isinstance(output, Tensor):
        results = dict(output.losses, refined=output.refined, target=output.target)
        distance = output.distance
        if distance is None:
            distance = nn.functional.mse_loss(output.refined, output.target)
        results['distance'] = distance
    total = results['distance'] + sum(v for v in results.values() if v.ndim == 0)
    # As mixed precision does it, against numbers too small for float16.
    (SCALE * total).backward()
    leaves = [feature, *(p for p in module.parameters() if p.requires_grad)]
    gradients = torch.cat([p.grad.double().flatten() for p in leaves if p.grad is not None])
    results = {name: value.detach().cpu().double() for name, value in results.items()}
    return results, gradients.cpu() / SCALE


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over that of the reference; nan stays nan."""
    return ((value - reference).norm() / reference.norm()).item()


def main() -> None:
    args = parse_part_args(__doc__)
    torch.manual_seed(1)
    for name, build, arguments in cases():
        if ('CrossKD' in name or 'LDHead' in name) and not args.rows.has(name, 'mmdet'):
            continue
        expected, slope = evaluate(build, arguments, 'cpu', torch.float64)
        passed, figures = True, {}
        for precision, (dtype, *most) in PRECISIONS.items():
            if precision == 'tf32' and args.device == 'cpu':
                continue
            # A GPU computes convolutions of float32 in TF32, unless this is switched off.
            torch.backends.cudnn.allow_tf32 = precision == 'tf32'
            results, gradients = evaluate(build, arguments, args.device, torch.float32, dtype)
            error = max(relative_error(results[key], expected[key]) for key in expected)
            figures[precision] = [error, relative_error(gradients, slope)]
            passed &= all(found <= limit for found, limit in zip(figures[precision], most))
        args.rows.add(name, passed, **figures)


if __name__ == '__main__':
    main()
