#!/usr/bin/env python
"""Draw the detections of several detectors side by side, with mmdet's own inference.

Example:
    python tools/quickstart_picture.py data/coco out.png 'student=config.py=weights.pth'
"""

import argparse
import sys
from pathlib import Path
from typing import List, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from pycocotools.coco import COCO

# class name, score (None for the truth), x1 y1 x2 y2 in pixels
Detection = Tuple[str, float, Sequence[float]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path, help='root of a data set in the layout of COCO 2017')
    parser.add_argument('out', type=Path, help='PNG to write')
    parser.add_argument('models', nargs='+', metavar='TITLE=CONFIG=CHECKPOINT')
    parser.add_argument('--rows', type=int, default=5, help='number of pictures')
    parser.add_argument('--score', type=float, default=0.5, help='lowest score shown')
    return parser.parse_args()


def choose_images(coco: COCO, count: int) -> List[dict]:
    """The first images with at least three objects."""
    images = [coco.imgs[i] for i in sorted(coco.imgs) if len(coco.getAnnIds(imgIds=i)) >= 3]
    return images[:count]


def ground_truth(coco: COCO, image: dict) -> List[Detection]:
    truth = []
    for annotation in coco.imgToAnns[image['id']]:
        x, y, w, h = annotation['bbox']
        name = coco.cats[annotation['category_id']]['name']
        truth.append((name, None, (x, y, x + w, y + h)))
    return truth


def detect(config: str, checkpoint: str, paths: Sequence[str], score: float) -> List[list]:
    """Detections of one model above a score, per image."""
    import torch
    from mmdet.apis import inference_detector, init_detector

    from mmdiffkd.checkpoints.reading import weights_only

    device = 'cuda:0' if torch.cuda.is_available() else 'cpu'
    with weights_only():
        model = init_detector(config, checkpoint, device=device)
    classes = model.dataset_meta['classes']
    detections = []
    for result in inference_detector(model, list(paths)):
        found = result.pred_instances.cpu()
        found = found[found.scores >= score]
        found = found[found.scores.argsort()]  # the surest is drawn last, on top
        detections.append(
            [
                (classes[label], float(value), box.tolist())
                for label, value, box in zip(found.labels, found.scores, found.bboxes)
            ]
        )
    return detections


def draw(axes, image, detections: Sequence[Detection], colours: dict) -> None:
    """One picture with its boxes."""
    axes.imshow(image, interpolation='nearest')
    for name, score, (x1, y1, x2, y2) in detections:
        colour = colours[name]
        axes.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=1.5, ec=colour))
        text = name if score is None else f'{name} {score:.2f}'
        axes.text(
            x1,
            max(y1, 12),
            text,
            fontsize=8,
            color='white',
            va='bottom',
            bbox=dict(facecolor=colour, edgecolor='none', pad=1),
            clip_on=True,
        )
    axes.set_axis_off()


def main() -> None:
    args = parse_args()
    coco = COCO(str(args.data / 'annotations/instances_val2017.json'))
    images = choose_images(coco, args.rows)
    paths = [str(args.data / 'val2017' / image['file_name']) for image in images]
    columns = {'picture, ground truth': [ground_truth(coco, image) for image in images]}
    for model in args.models:
        title, config, checkpoint = model.split('=')
        columns[title] = detect(config, checkpoint, paths, args.score)

    names = sorted({name for column in columns.values() for row in column for name, *_ in row})
    colours = {name: plt.cm.tab10(i % 10) for i, name in enumerate(names)}
    figure, grid = plt.subplots(
        len(images),
        len(columns),
        squeeze=False,
        layout='constrained',
        figsize=(2.1 * len(columns), 1.3 * len(images) + 0.3),
    )
    for axes, title in zip(grid[0], columns):
        axes.set_title(title, fontsize=11)
    for row, path in enumerate(paths):
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        for axes, detections in zip(grid[row], columns.values()):
            draw(axes, picture, detections[row], colours)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=160)
    print(f'{args.out}: {len(images)} pictures, {len(args.models)} detectors')


if __name__ == '__main__':
    main()
