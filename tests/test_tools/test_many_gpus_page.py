"""The tables of docs/many-gpus.md are what its commands and formulas yield."""

import math
import re
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / 'docs' / 'many-gpus.md').read_text()
BYTES_PER_MIB = 2**20
COCO_IMAGES, IMAGENET_IMAGES = 117266, 1281167


def table(first_header):
    """Rows of the table whose header begins so, each a list of its cells."""
    _, _, rest = PAGE.partition(f'| {first_header} |')
    assert rest, f'no table headed {first_header!r}'
    lines = rest.splitlines()[2:]
    end = next(i for i, line in enumerate(lines) if not line.startswith('|'))
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[:end]]


def number(cell):
    return float(cell.replace(',', ''))


SIZES = {row[0]: row[1:] for row in table('config')}


def counted_mib(config, run):
    """What the page's python block prints for a config: part to MiB."""
    block = re.search(r'^```python\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)[1]
    code, replaced = re.subn(r'configs/diffkd/\w+\.py', f'configs/diffkd/{config}.py', block)
    assert replaced == 1
    printed = run(sys.executable, '-c', code)
    return {
        name: float(mib) for name, mib in re.findall(r'^(\w+) (\d+\.\d+)$', printed, re.MULTILINE)
    }


@pytest.mark.parametrize(
    'config, library',
    [
        ('resnet34_resnet18_imagenet', 'mmpretrain'),
        ('retinanet_r101_r50_coco', 'mmdet'),
    ],
)
def test_sizes_are_those_of_the_config(config, library, run):
    pytest.importorskip(library)
    student, heads, both, teacher, teacher_bf16 = SIZES[config]
    pairs = {name: float(mib) for name, mib in re.findall(r'(\w+) ([\d.]+)', heads)}
    counted = counted_mib(config, run)
    assert counted.keys() == {'student', 'teacher', *pairs}
    for name, mib in dict(pairs, student=student, teacher=teacher).items():
        assert float(mib) == pytest.approx(counted[name], abs=0.051), name
    summed = sum(mib for name, mib in counted.items() if name != 'teacher')
    assert float(both) == pytest.approx(summed, abs=0.051)
    # These teachers are convolutions and linear layers, all but a few numbers.
    assert float(teacher_bf16) == pytest.approx(counted['teacher'] / 2, abs=0.1)


def test_milliseconds_follow_from_the_formula():
    retinanet, resnet = SIZES['retinanet_r101_r50_coco'], SIZES['resnet34_resnet18_imagenet']
    fpn = float(re.search(r'fpn ([\d.]+)', retinanet[1])[1])
    sizes = [
        float(retinanet[0]),
        float(retinanet[0]) + fpn,
        float(retinanet[2]),
        float(resnet[0]),
        float(resnet[2]),
    ]
    rows = table('GPUs | B, GB/s')
    assert rows
    for row in rows:
        gpus, bandwidth, *times = map(number, row)
        for mib, milliseconds in zip(sizes, times, strict=True):
            sent = 2 * (gpus - 1) / gpus * mib * BYTES_PER_MIB
            assert milliseconds == pytest.approx(sent / bandwidth / 1e6, abs=0.051)


def test_linear_rule_and_iterations():
    rows = table('GPUs | RetinaNet batch')
    assert rows
    for row in rows:
        gpus, *cells = map(number, row)
        for (batch, lr, iterations), images, per_gpu, base, base_lr in (
            (cells[:3], COCO_IMAGES, 2, 16, 0.02),
            (cells[3:], IMAGENET_IMAGES, 32, 256, 0.1),
        ):
            assert batch == gpus * per_gpu
            assert lr == pytest.approx(base_lr * batch / base)
            # The sampler gives each GPU the same number of images.
            assert iterations == math.ceil(math.ceil(images / gpus) / per_gpu)
