"""CrossKD and LD on dense heads of mmdet, alone and in a distiller."""

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from mmdiffkd.errors import ConfigError
from mmdiffkd.heads import CrossKDHead
from mmdiffkd.heads.predictions import DenseHead, giou_loss, rows_of
from mmdiffkd.models.hosts import build_model

CONFIGS = dict(
    retinanet='retinanet/retinanet_r18_fpn_1x_coco',
    gfl='gfl/gfl_r50_fpn_1x_coco',
    atss='atss/atss_r50_fpn_1x_coco',
    fcos='fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco',
)
SIZE = (64, 96)


def small(name, width):
    """A detector with ResNet-18, narrow beyond it."""
    model = get_config(f'mmdet::{CONFIGS[name]}.py').model
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.update(in_channels=[64, 128, 256, 512], out_channels=width)
    model.bbox_head.update(in_channels=width, feat_channels=width, num_classes=3)
    return dict(model, _scope_='mmdet')


def batch(num_boxes=2):
    from mmdet.structures import DetDataSample

    samples = []
    for number in (num_boxes, 0):
        names = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        samples.append(DetDataSample(metainfo=dict.fromkeys(names, SIZE)))
        boxes = torch.tensor([[8.0, 8.0, 50.0, 40.0], [30.0, 20.0, 90.0, 60.0]])[:number]
        labels = torch.zeros(number, dtype=torch.long)
        samples[-1].gt_instances = InstanceData(bboxes=boxes, labels=labels)
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)), samples


@pytest.mark.parametrize('name', CONFIGS)
def test_parts_predict_what_the_whole_head_does(name):
    """From any index on, with the scale of each level; boxes overlap as the decoded ones."""
    from mmdet.structures.bbox import bbox_overlaps

    torch.manual_seed(0)
    head = build_model(dict(small(name, 32)['bbox_head'], _scope_='mmdet'), 'head').train()
    for parameter in head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    maps = [torch.randn(1, 32, side, side + 1) for side in (6, 4, 3, 2, 1)]
    dense = DenseHead(torch.nn.ModuleDict(dict(bbox_head=head)))
    scores, boxes = head(maps)[:2]
    found = []
    for level, feature in enumerate(maps):
        for branch in ('cls', 'reg'):
            hidden = [(i, dense.until(branch, feature, i)) for i in (1, 3)]
            first, third = (dense.after(branch, x, i, level) for i, x in hidden)
            torch.testing.assert_close(first, third)
            found.append(first)
    for ours, theirs in zip(found[::2], scores):
        torch.testing.assert_close(ours, theirs)
    if name == 'fcos':
        found[1::2] = [x.clamp(min=0) for x in found[1::2]]
    for ours, theirs in zip(found[1::2], boxes):
        torch.testing.assert_close(ours, theirs)
    if name != 'gfl':
        raw = found[1], found[1].flip(2)
        if name == 'fcos':
            priors = torch.randn(len(rows_of(raw[0], 4)), 2)
        else:
            priors = torch.tensor([10.0, 20.0, 42.0, 76.0]).expand(len(rows_of(raw[0], 4)), 4)
        decoded = [head.bbox_coder.decode(priors, rows_of(x, 4)) for x in raw]
        overlaps = [bbox_overlaps(*pair, mode='giou', is_aligned=True, eps=1e-9)
                    for pair in (decoded, [dense.boxes(x) for x in raw])]  # fmt: skip
        torch.testing.assert_close(*overlaps, atol=1e-4, rtol=1e-4)


def test_generalised_overlap_is_torchvisions_without_synchronisation(operations):
    from torchvision.ops import generalized_box_iou_loss

    torch.manual_seed(0)
    corners, sides = torch.randn(2, 200, 2), torch.rand(2, 200, 2)
    ours, target = torch.cat([corners, corners + sides], dim=2).requires_grad_()
    expected = generalized_box_iou_loss(ours, target)
    with operations:
        found = giou_loss(ours, target)
        gradient = torch.autograd.grad(found.sum(), ours)
    assert not {'index', 'nonzero', '_local_scalar_dense'} & set(operations.names)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), ours))


def crosskd(branch, **settings):
    return dict(
        student=f'bbox_head.{branch}_convs.2.activate:input',
        teacher='neck',
        head=dict(type='CrossKDHead', branch=branch, **settings),
    )


PAIRS = dict(
    mgd=dict(student='neck', teacher='neck', head=dict(type='MGDHead')),
    fgd=dict(student='neck', teacher='neck', head=dict(type='FGDHead')),
    cls=crosskd('cls'),
    reg=crosskd('reg'),
)
LD = dict(student='bbox_head[1]', teacher='neck', head=dict(type='LDHead'))


def distiller_of(name, pairs, width=32, **teacher):
    teacher = dict(config=small(name, 64), checkpoint='random', **teacher)
    return MODELS.build(
        dict(
            type='mmdiffkd.DiffKDDistiller',
            student=small(name, width),
            teacher=teacher,
            pairs=pairs,
        )
    ).train()


@pytest.mark.parametrize(
    ('name', 'pairs'),
    [('retinanet', PAIRS), ('gfl', dict(cls=PAIRS['cls'], reg=PAIRS['reg'], ld=LD))],
)
def test_every_pair_teaches_the_student(name, pairs):
    torch.manual_seed(0)
    distiller = distiller_of(name, pairs)
    losses = distiller(*batch(), mode='loss')
    weight = distiller.student.backbone.layer4[0].conv1.weight
    for pair in pairs:
        (gradient,) = torch.autograd.grad(losses[f'loss_kd_{pair}'], weight, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any(), pair
    # Without boxes, and with all parameters in use, as DDP demands.
    total, _ = distiller.parse_losses(distiller(*batch(0), mode='loss'))
    total.backward()
    assert total.isfinite()
    unused = [
        name for name, p in distiller.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert not unused
    assert not any(p.grad is not None for p in distiller.teacher.model.parameters())


def test_a_student_like_its_teacher_has_no_distance():
    """Also with a teacher in half precision, the head of which is run in it."""
    for precision, tolerance in ((None, 1e-6), ('bf16', 1e-2)):
        distiller = distiller_of(
            'gfl', dict(PAIRS, ld=LD), width=64, fold_bn=False, precision=precision
        )
        distiller.student.load_state_dict(distiller.teacher.model.state_dict())
        losses = distiller(*batch(), mode='loss')
        for pair in ('cls', 'reg', 'ld'):
            assert losses[f'loss_kd_{pair}'] < tolerance, (pair, precision)


def test_a_teacher_without_a_dense_head(toy_config):
    toy_config['pairs'] = dict(
        cls=dict(student='neck', teacher='neck', head=dict(type=CrossKDHead))
    )
    with pytest.raises(ConfigError, match=r'pairs.cls.head \(CrossKDHead\): the teacher must be'):
        MODELS.build(toy_config)
