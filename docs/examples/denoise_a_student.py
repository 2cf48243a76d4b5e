"""DiffKD in a training loop of one's own: torch and `mmdiffkd.diffusion`, no runner, no config.

    python docs/examples/denoise_a_student.py [--epochs 60] [--seed 0] [--figure FILE]

A large network learns 500 of scikit-learn's handwritten digits. A small one has the labels of only
100 of them. It learns alone, and once more with the large one's features of all 500. One minute on
a CPU core.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmdiffkd.diffusion import DiffKDHead  # noqa: E402

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

DISTILL_WEIGHT = 0.2
NO_LABEL = -100  # cross_entropy ignores such images


class Digits(nn.Module):
    """A classifier of digits that also returns the feature map before its classifier."""

    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width)),
        )
        self.classifier = nn.Linear(2 * width, 10)

    def forward(self, images: Tensor):
        """(N, 1, 8, 8) to features (N, 2 width, 8, 8) and logits (N, 10)."""
        features = self.features(images)
        return features, self.classifier(features.relu().mean((2, 3)))


def train(model, images, labels, epochs, teacher=None, head=None):
    """Train ``model``, with ``teacher`` and ``head`` by distillation; returns what was logged."""
    modules = nn.ModuleList([model] if head is None else [model, head])
    # The head's weights belong to the optimizer too: it learns while the student learns.
    optimizer = torch.optim.AdamW(modules.parameters())
    steps = epochs * len(images) // 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    log = []
    for _ in range(epochs):
        modules.train()
        for batch in torch.randperm(len(images)).split(50):
            features, logits = model(images[batch])
            loss = F.cross_entropy(logits, labels[batch], reduction='sum') / len(batch)
            if head is not None:
                with torch.no_grad():
                    teacher_features, _ = teacher(images[batch])
                out = head(features, teacher_features)
                loss_kd = F.mse_loss(out.refined, out.target)
                loss = loss + DISTILL_WEIGHT * loss_kd + sum(out.losses.values())
                log.append(
                    dict(
                        gamma=out.stats['gamma'].mean().item(),
                        loss_diffusion=out.losses['diff'].item(),
                        before=F.mse_loss(out.aligned, out.target).item(),
                        after=loss_kd.item(),
                    )
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    return log


@torch.no_grad()
def accuracy(model, images, labels):
    """Percentage of images whose digit is recognised."""
    return 100 * (model(images)[1].argmax(1) == labels).float().mean().item()


@torch.no_grad()
def draw(path, log, student, teacher, head, images):
    """Curves of the run on the left; on the right what the head makes of some images."""
    head.eval()
    out = head(student(images)[0], teacher(images)[0])
    channel = out.target.var((0, 2, 3)).argmax()
    columns = dict(
        image=images[:, 0],
        aligned=out.aligned[:, channel],
        refined=out.refined[:, channel],
        target=out.target[:, channel],
    )
    figure = plt.figure(figsize=(8, 4), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=(5, 4))
    distances, gammas = left.subplots(2, 1, sharex=True)
    distances.plot([entry['before'] for entry in log], label='aligned to target')
    distances.plot([entry['after'] for entry in log], label='refined to target')
    distances.plot([entry['loss_diffusion'] for entry in log], label='loss of noise predictor')
    distances.set(ylabel='mean squared error', yscale='log', ylim=(0.2, None))
    distances.legend(loc='lower left', frameon=False, fontsize=9)
    gammas.plot([entry['gamma'] for entry in log], color='black')
    gammas.set(xlabel='training step', ylabel='gamma', ylim=(0, 1))
    grid = right.subplots(len(images), len(columns), squeeze=False)
    for column, (name, maps) in enumerate(columns.items()):
        grid[0, column].set_title(name)
        for row, axes in enumerate(grid[:, column]):
            # One scale of colours for the three that are compared.
            shown = [columns[key][row] for key in ('aligned', 'refined', 'target')]
            limits = {} if name == 'image' else dict(vmin=min(map(torch.min, shown)))
            if limits:
                limits['vmax'] = max(map(torch.max, shown))
            axes.imshow(maps[row], cmap='gray' if name == 'image' else 'viridis', **limits)
            axes.set_axis_off()
    right.supxlabel(f'channel {int(channel)} of four test images')
    figure.savefig(path, dpi=150)


def parse_args():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--figure', default='denoise_a_student.png', help='picture to write')
    return parser.parse_args()


def main():
    """Train three networks, print a table, draw a picture."""
    args = parse_args()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    test_images, test_labels = images[500:], labels[500:]
    images, labels = images[:500], labels[:500]
    few_labels = labels.clone()
    few_labels[100:] = NO_LABEL

    teacher, alone, distilled = Digits(width=32), Digits(width=8), Digits(width=8)
    distilled.load_state_dict(alone.state_dict())  # both start from the same weights
    # The diffusion works on 16 channels, to which an autoencoder reduces the teacher's 64.
    head = DiffKDHead(student_channels=16, teacher_channels=64, ae_channels=16)

    train(teacher, images, labels, args.epochs)
    train(alone, images, few_labels, args.epochs)
    log = train(distilled, images, few_labels, args.epochs, teacher, head)

    print(f'{"step":>6} {"gamma":>7} {"noise predictor":>16} {"before":>8} {"after":>8}')
    for step in sorted({round(share * (len(log) - 1)) for share in (0, 0.1, 0.25, 0.5, 1)}):
        entry = log[step]
        print(
            f'{step:6} {entry["gamma"]:7.3f} {entry["loss_diffusion"]:16.3f} '
            f'{entry["before"]:8.3f} {entry["after"]:8.3f}'
        )
    for name, model in (('teacher', teacher), ('student alone', alone), ('with DiffKD', distilled)):
        print(f'{name:14} {accuracy(model, test_images, test_labels):5.1f} % of the test digits')
    draw(args.figure, log, distilled, teacher, head, test_images[:4])
    print(f'picture: {args.figure}')


if __name__ == '__main__':
    main()
