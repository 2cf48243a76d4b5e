"""What data transforms and a data preprocessor make of a picture, found by giving them some.

Pictures of a single colour go through all of it. Whatever a transform does to shape and place of
things, they stay of a single colour, and what becomes of the colours tells how pixels are
normalised, whoever does it.
"""

import copy
import logging
import random
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS, FUNCTIONS, TRANSFORMS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmdiffkd.models.dry_run import ImageShape
from mmdiffkd.models.preprocessing import InputFormat, pad_value_of

# Values of the first three channels of pictures. They are further apart than rounding to whole
# numbers changes them, and in an order that tells BGR from RGB.
_COLOURS = ((50, 100, 200), (100, 200, 50), (200, 50, 100))
# Height and width of the pictures, in pixels, and of one more, which tells what makes all pictures
# of one size.
_SIZE, _OTHER_SIZE = (96, 128), (128, 96)
# A transform that yields different colours with these seeds is augmentation.
_SEEDS = range(4)
# Enough of a picture to see its colour.
_MOST_PIXELS = 10_000
# Largest error of a colour, of 255, that rounding makes.
_ROUNDING = 1.0


class Probe(NamedTuple):
    """What was found out about the batches that a model gets.

    Attributes:
        format: How pixels become input, or None if that is no linear function of them.
        shape: Channels, height and width of the input, or None if they depend on the picture's.
        channels: Number of channels of the input, or None if it is no single picture.
        knows_pipeline: Whether the data transforms were known.
        rgb: Whether the pixels that went in were in RGB order.
    """

    format: Optional[InputFormat]
    shape: Optional[ImageShape]
    channels: Optional[int]
    knows_pipeline: bool
    rgb: bool

    @property
    def is_known(self) -> bool:
        """Whether ``format`` is that of the model's batches.

        A preprocessor that normalises is taken to get plain pixels from data of unknown transforms.
        """
        return self.format is not None and (self.knows_pipeline or self.format.normalises)


def pipeline_of(dataset: Any) -> Optional[List[Dict]]:
    """All data transforms of a data set's config, those of wrapped data sets first.

    Args:
        dataset: Config of a data set, or None.

    Returns:
        None if nothing in it has a ``pipeline``.
    """
    if not isinstance(dataset, dict):
        return None
    inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
    parts = [pipeline_of(inner), dataset.get('pipeline')]
    known = [part for part in parts if part is not None]
    return [transform for part in known for transform in part] if known else None


def probe(
    pipeline: Optional[Sequence[Dict]],
    preprocessor: Optional[nn.Module],
    channels: int,
    rgb: bool = False,
) -> Probe:
    """Find out what becomes of pictures.

    Args:
        pipeline: Configs of data transforms, or None if they are not known.
        preprocessor: The data preprocessor of a model, or None.
        channels: Number of channels of the pictures.
        rgb: Whether the data set's pixels are in RGB order, if transforms do not tell.
    """
    colours = np.array([np.resize(colour, channels) for colour in _COLOURS], np.float64)
    transforms = None if pipeline is None else _built(pipeline)
    with random_state_kept(), tempfile.TemporaryDirectory() as folder:
        pictures = [_picture(Path(folder), c, _SIZE) for c in colours]
        pictures.append(_picture(Path(folder), colours[0], _OTHER_SIZE))
        if transforms:
            # If nothing loads them, the data set has the pixels itself, as CIFAR: in RGB order, as
            # all but cv2 have them.
            rgb = channels == 3 and not any(_loads(t, pictures[0]) for t in transforms)
        if rgb:
            pictures = [dict(picture, img=picture['img'][..., ::-1]) for picture in pictures]
        for transform in transforms or ():
            pictures = _transformed(pictures, transform)
        batches = [_prepared(picture, preprocessor) for picture in pictures]
    if not all(isinstance(x, Tensor) and x.dim() == 3 for x in batches):
        return Probe(None, None, None, transforms is not None, rgb)
    found = _colours(batches[: len(colours)])
    form = None if found is None else _fit(colours, found, pad_value_of(preprocessor))
    first, *_, other = [tuple(x.shape) for x in batches]
    shape = first if first == other else None
    return Probe(form, shape, first[0], transforms is not None, rgb)


def sample_shape(data: Dict, preprocessor: nn.Module) -> Optional[ImageShape]:
    """Channels, height and width of the first sample of data, as the model gets it.

    Args:
        data: ``train_dataloader`` of a config.
        preprocessor: The model's data preprocessor.

    Returns:
        None if the sample does not begin with a picture.
    """
    dataset = data['dataset']
    with random_state_kept():
        dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        collate = dict(data.get('collate_fn') or dict(type='pseudo_collate'))
        kind = collate.pop('type')
        function = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
        batch = function([dataset[0]], **collate)
        batch = preprocessor(batch, False)
    inputs = batch['inputs'] if isinstance(batch, dict) else batch[0]
    return tuple(inputs[0].shape) if inputs[0].dim() == 3 else None


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave all generators that data loading and models may use as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _built(pipeline: Sequence[Dict]) -> Optional[List[Callable]]:
    try:
        return [TRANSFORMS.build(transform) for transform in pipeline]
    except Exception as error:
        # A data set that uses them will complain; a teacher's are wanted for their colours alone.
        print_log(f'The data transforms cannot be built: {error}', 'current', logging.WARNING)
        return None


class _Watched(dict):
    """Notes what is looked up in it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked = set()

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def _loads(transform: Callable, picture: Dict) -> bool:
    """Whether a transform reads pictures from files, even if it cannot read this one."""
    given = _Watched({key: value for key, value in picture.items() if key != 'img'})
    try:
        return 'img' in transform(given)
    except Exception:
        # What needs a picture fails without one, when it asks for it.
        return 'img' not in given.asked


def _picture(folder: Path, colour: np.ndarray, size: Tuple[int, int]) -> Dict:
    """A picture, as data sets of the hosts describe theirs: one object that fills it."""
    height, width = size
    image = np.broadcast_to(colour.astype(np.uint8), (*size, len(colour))).copy()
    name = f'{height}x{width}_{int(colour[0])}'
    labels, path = folder / f'{name}_labels.png', folder / f'{name}.png'
    cv2.imwrite(str(labels), np.zeros(size, np.uint8))
    # Pictures of other numbers of channels come from other files, whose loaders fail on these.
    file = image if len(colour) in (1, 3, 4) else image[..., np.resize(range(len(colour)), 3)]
    cv2.imwrite(str(path), file)
    box = [0, 0, width, height]
    outline = [[0, 0, width, 0, width, height, 0, height]]
    instance = dict(bbox=box, bbox_label=0, ignore_flag=0, mask=outline)
    return dict(
        img=image, img_path=str(path), img_shape=size, ori_shape=size, height=height, width=width,
        img_id=0, sample_idx=0, instances=[instance], gt_label=0, seg_fields=[],
        seg_map_path=str(labels), label_map=None, reduce_zero_label=False,
    )  # fmt: skip


def _transformed(pictures: Sequence[Dict], transform: Callable) -> Sequence[Dict]:
    """The pictures after a transform, or as they were if it does nothing definite to colours."""
    try:
        outcomes = [[_seeded(transform, p, seed) for p in pictures[:2]] for seed in _SEEDS]
        if not isinstance(_pixels(outcomes[0][0]), Tensor):
            return [_seeded(transform, p, 0) for p in pictures]
        colours = [_colours([_pixels(p) for p in outcome]) for outcome in outcomes]
        seen = [seed for seed, found in zip(_SEEDS, colours) if found is not None]
        if not seen or any(not np.array_equal(colours[seed], colours[seen[0]]) for seed in seen):
            return pictures
        return outcomes[seen[0]] + [_seeded(transform, p, seen[0]) for p in pictures[2:]]
    except Exception:
        # It needs more than a single picture, as a mosaic does. What normalises does not.
        return pictures


def _seeded(transform: Callable, picture: Dict, seed: int) -> Dict:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return transform(copy.deepcopy(picture))


def _pixels(picture: Dict) -> Any:
    """A picture as (C, H, W), or what else stands in its place."""
    value = picture['inputs'] if 'inputs' in picture else picture['img']
    if isinstance(value, (Tensor, list, tuple, dict)):
        return value
    array = np.asarray(value)
    return torch.from_numpy(np.atleast_3d(array).transpose(2, 0, 1).copy())


def _prepared(picture: Dict, preprocessor: Optional[nn.Module]) -> Any:
    """A picture as the model gets it; anything but (C, H, W) if it gets several at once."""
    pixels = _pixels(picture)
    if not isinstance(pixels, Tensor) or preprocessor is None:
        return pixels
    # Some preprocessors write into the samples of pictures that they pad, as mmseg's does.
    sample = picture.get('data_samples', BaseDataElement())
    batch = dict(inputs=[pixels], data_samples=[sample])
    return preprocessor(batch, False)['inputs'][0]


def _colours(pictures: Sequence[Tensor]) -> Optional[np.ndarray]:
    """The colours of the first pictures, (pictures, C), where these are no padding.

    Args:
        pictures: Each (C, H, W).

    Returns:
        None if there is nothing but padding, or the pictures are of unlike sizes.
    """
    if len({picture.shape for picture in pictures}) > 1:
        return None
    pixels = torch.stack([picture.flatten(1).cpu() for picture in pictures])
    pixels = pixels[..., :: 1 + pixels.shape[-1] // _MOST_PIXELS].double()
    # The same seed has moved them alike; padding is the same in all.
    inside = (pixels[0] != pixels[1]).all(0)
    return pixels[..., inside].median(2).values.numpy() if inside.any() else None


def _fit(colours: np.ndarray, found: np.ndarray, pad_value: float) -> Optional[InputFormat]:
    """The linear function that has made ``found`` of ``colours``, both (pictures, channels)."""
    # A loader may have left out channels, such as transparency.
    colours = colours[:, : found.shape[1]]
    for rgb in (False, True):
        given = colours[:, ::-1] if rgb else colours
        if given.shape != found.shape or (rgb and found.shape[1] != 3):
            continue
        slope = (found[1] - found[0]) / (given[1] - given[0])
        if not (slope != 0).all():
            continue
        mean = given[0] - found[0] / slope
        if (np.abs((given - mean) - found / slope) <= _ROUNDING).all():
            return InputFormat.from_numbers(mean, 1 / slope, rgb, pad_value)
    return None
