"""Other methods than DiffKD: which pairs they have, and the heads and losses of these."""

from typing import Any, Dict, List, Sequence, Tuple

from torch import nn

from mmdiffkd.autopair.pairs import CLASSIFIER, SEGMENTOR, Choice, diffkd_pair
from mmdiffkd.command_line import METHODS
from mmdiffkd.errors import ConfigError, suggest
from mmdiffkd.models.dry_run import ImageShape
from mmdiffkd.models.shapes import MapShape

ONE_STAGE, TWO_STAGE = 'one-stage detector', 'two-stage detector'
DETECTORS = (ONE_STAGE, TWO_STAGE)
OF_HEADS = ('crosskd', 'ld')
"""Methods whose pairs are in the heads of detectors."""

# Up to this side of an image in pixels the settings for CIFAR are taken, else those for ImageNet.
_SMALL_IMAGE = 64
# Dense heads of mmdet that CrossKD was published for, and what it sets for their branches.
_CROSSED: Dict[str, Dict[str, Dict]] = dict(
    RetinaHead={}, GFLHead={}, ATSSHead={},
    FCOSHead=dict(cls=dict(index=2, loss_weight=0.4), reg=dict(index=2, loss_weight=0.75)),
)  # fmt: skip
_MGD = {
    ONE_STAGE: dict(mask_ratio=0.65, alpha=2e-5),
    TWO_STAGE: dict(mask_ratio=0.45, alpha=5e-7),
    SEGMENTOR: dict(mask_ratio=0.75, alpha=2e-5),
    CLASSIFIER: dict(mask_ratio=0.15, mask='channels', alpha=7e-5),
}
_FGD = {
    ONE_STAGE: dict(temperature=0.5, alpha=1e-3, beta=5e-4, gamma=5e-4, lambda_=5e-6),
    TWO_STAGE: dict(temperature=0.5, alpha=5e-5, beta=2.5e-5, gamma=5e-5, lambda_=5e-7),
    'FCOSHead': dict(temperature=0.8, alpha=1.6e-3, beta=8e-4, gamma=8e-4, lambda_=8e-6),
}
# The kinds of models that the weight of a loss was published for.
_PUBLISHED = dict(
    at=(CLASSIFIER,),
    cwd=(SEGMENTOR, *DETECTORS),
    pkd=DETECTORS,
    l2=(),
    align=(),
)


def kind_of(student: nn.Module) -> str:
    """The kind of a model by its base class; a classifier if it is of none of a host's."""
    bases = {base.__name__ for base in type(student).__mro__}
    if 'BaseDetector' in bases:
        return ONE_STAGE if getattr(student, 'roi_head', None) is None else TWO_STAGE
    return SEGMENTOR if 'BaseSegmentor' in bases else CLASSIFIER


def check_method(method: str, models: Sequence[nn.Module], named: bool) -> None:
    """Raise :class:`ConfigError` if a method does not apply to a student and a teacher.

    ``named`` tells whether the user has named what to pair.
    """
    if method not in METHODS:
        known = f'known: {", ".join(METHODS)}'
        raise ConfigError(f'--method: no {method!r}{suggest(method, METHODS)} ({known})')
    kind, heads = kind_of(models[0]), [_dense_head(model) for model in models]
    has = f'these have {heads[0]} and {heads[1]}'
    bins = {getattr(getattr(model, 'bbox_head', None), 'reg_max', None) for model in models}
    reason = None
    if method in OF_HEADS and named:
        reason = 'has pairs of its own; leave out --pairs'
    elif method == 'crosskd' and not (heads[0] == heads[1] and heads[0] in _CROSSED):
        reason = f'needs two detectors with the same of the heads {", ".join(_CROSSED)}; {has}'
    elif method == 'ld' and (None in bins or len(bins) > 1):
        reason = f'needs two detectors that predict distributions of boxes, as GFLHead; {has}'
    elif method == 'dkd' and kind != CLASSIFIER:
        reason = f'needs one class per image, so classifiers, and the student is a {kind.lower()}'
    elif method == 'fgd' and kind not in DETECTORS:
        reason = f'needs the boxes of objects, so detectors, and the student is a {kind.lower()}'
    elif method in ('kd', 'dist') and kind in DETECTORS and not named:
        reason = 'compares class scores, which detectors yield in many forms; name some by --pairs'
    if reason:
        raise ConfigError(f'--method {method} does not apply: it {reason}')


def own_choices(method: str, student: nn.Module) -> List[Choice]:
    """The pairs of a method in ``OF_HEADS``."""
    if method == 'ld':
        return [('bbox_head[1]', 'neck')]
    args = _CROSSED[_dense_head(student)]
    paths = [(part, args.get(part, {}).get('index', 3)) for part in ('cls', 'reg')]
    return [(f'bbox_head.{part}_convs.{n - 1}.activate:input', 'neck') for part, n in paths]


def kept_pairs(method: str, pairs: Dict[str, Dict], kind: str, comment: str) -> Dict[str, Dict]:
    """Those of DiffKD's pairs that a method has: the features, or the class scores.

    ``comment`` says why there are none of scores.
    """
    scores = method in ('kd', 'dkd', 'dist') or (method == 'cwd' and kind == SEGMENTOR)
    kept = {name: pair for name, pair in pairs.items() if (name == 'logits') == scores}
    if not kept:
        reason = comment.strip().removeprefix('# No pair of scores: ')
        reason = f'of class scores {reason}' if scores else 'no maps were found in both models'
        raise ConfigError(f'--method {method} does not apply: {reason}')
    return kept


def pair_of(
    method: str,
    choice: Choice,
    maps: List[List[MapShape]],
    student: nn.Module,
    image: ImageShape,
) -> Tuple[str, Dict[str, Any]]:
    """Name and config of a pair, as :func:`diffkd_pair` for DiffKD."""
    name, pair = diffkd_pair(choice, maps, student, image)
    loss, kind = pair['loss'], kind_of(student)
    if method in OF_HEADS:
        name = 'cls' if '.cls_convs' in choice[0] else 'reg'
    if method == 'at' and name != 'logits' and {shape[1:] for shape in maps[1]} == {(1, 1)}:
        raise ValueError('AT compares places, and these features are vectors')
    if method in ('dkd', 'dist') and loss.get('use_sigmoid'):
        raise ValueError(f'{method} compares the softmax of several classes; these are sigmoids')
    small = kind == CLASSIFIER and max(image[1:]) <= _SMALL_IMAGE
    parts = _parts(method, kind, name, loss, _dense_head(student), small)
    alike = all(mine[0] == other[0] for mine, other in zip(*maps))
    if method in ('l2', 'cwd', 'pkd') and not alike:
        parts = dict(head=dict(type='AlignHead'), **parts)
    return name, dict(student=choice[0], teacher=choice[1], **parts)


def comment_on(method: str, kind: str) -> str:
    """A comment that stands behind the pairs of a method, or ``''``."""
    if method == 'dkd':
        return (
            '# On CIFAR the published weight grows from 0 during the first 20 epochs:\n'
            "#   dict(type='mmdiffkd.DistillationScheduleHook', warmup=dict(length=20))\n"
        )
    published = kind in _PUBLISHED.get(method, (kind,))
    return '' if published else '# No weight was published for such models: try some.\n'


def _parts(
    method: str, kind: str, name: str, loss: Dict, dense_head: str, small: bool
) -> Dict[str, Dict]:
    """Head and loss of a method in a pair whose ``loss`` DiffKD has."""
    tau = 4.0 if small else 1.0
    # One-stage detectors of mmdet have a sigmoid for each anchor and class.
    sigmoid = dict(use_sigmoid=True) if kind == ONE_STAGE else {}
    kl = dict(type='KLDivLoss', loss_weight=1.0, **sigmoid)
    kl = loss if loss['type'] == 'KLDivLoss' else kl
    mse = loss if loss['type'] == 'MSELoss' else dict(type='MSELoss', loss_weight=1.0)
    fgd = _FGD.get(dense_head) or _FGD.get(kind, {})
    crossed = _CROSSED.get(dense_head, {}).get(name, {})
    dist_weight, pkd_weight = 2.0 if kind == CLASSIFIER else 1.0, 6.0 if kind == TWO_STAGE else 10.0
    cwd_weight, beta = 5.0 if kind == SEGMENTOR else 10.0, 8.0 if small else 0.5
    return dict(
        kd=dict(loss=dict(kl, tau=tau)),
        dkd=dict(loss=dict(type='DKDLoss', alpha=1.0, beta=beta, tau=tau)),
        dist=dict(loss=dict(type='DISTLoss', tau=tau, loss_weight=dist_weight)),
        l2=dict(loss=mse),
        align=dict(head=dict(type='AlignHead'), loss=mse),
        at=dict(loss=dict(type='ATLoss', loss_weight=1000.0)),
        cwd=dict(loss=dict(type='CWDLoss', tau=1.0, loss_weight=cwd_weight)),
        pkd=dict(loss=dict(type='PKDLoss', loss_weight=pkd_weight)),
        mgd=dict(head=dict(type='MGDHead', **_MGD[kind])),
        fgd=dict(head=dict(type='FGDHead', **fgd)),
        crosskd=dict(head=dict(type='CrossKDHead', branch=name, **crossed)),
        ld=dict(head=dict(type='LDHead')),
    )[method]


def _dense_head(model: nn.Module) -> str:
    """The type of a detector's dense head."""
    head = getattr(model, 'bbox_head', None)
    return 'no bbox_head' if head is None else type(head).__name__
