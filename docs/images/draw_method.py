"""The picture of the method: python docs/images/draw_method.py [OUT]

A schematic drawing. The small maps are a made-up pattern with noise, not features of a model.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

WIDTH, HEIGHT = 7.6, 4.7  # in inches; at the width of a page, 12 points are the body's text
BLUE, ORANGE, GREEN, GREY = '#0072b2', '#d55e00', '#007a5a', '#555555'
ABOVE, MIDDLE, BELOW = 3.3, 2.15, 1.0  # heights of student, noise predictor and teacher


def pattern(noise: float) -> np.ndarray:
    """A map of three blobs with a share of noise, (10, 10)."""
    y, x = np.mgrid[:10, :10]
    blobs = ((2.5, 2, 1.0), (6.5, 6.5, 1.0), (7, 1.5, 0.6))
    clean = sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) for a, b, h in blobs)
    random = np.random.default_rng(1).normal(0.4, 0.4, clean.shape)
    return (1 - noise) * clean + noise * random


def draw_map(canvas, x, y, noise, label='', side=0.72, below=True):
    """A feature map with its name below or above it."""
    limits = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
    canvas.imshow(pattern(noise), extent=limits, vmin=-0.2, vmax=1, interpolation='nearest')
    place = dict(va='top') if below else dict(va='bottom')
    canvas.text(
        x, y + (-0.06 - side / 2 if below else side / 2 + 0.06), label, ha='center', **place
    )


def draw_box(canvas, x, y, width, text, colour, height=0.72):
    """A network: a filled box with white text."""
    corner, look = (x - width / 2, y - height / 2), dict(fc=colour, ec='none')
    canvas.add_patch(
        FancyBboxPatch(corner, width, height, 'round,pad=0,rounding_size=0.08', **look)
    )
    canvas.text(x, y, text, ha='center', va='center', color='white', weight='bold')


def draw_arrow(canvas, start, end, colour='black', style='-|>'):
    """An arrow from one point to another."""
    look = dict(arrowstyle=style, mutation_scale=16, lw=1.8, color=colour, shrinkA=0, shrinkB=0)
    canvas.add_patch(FancyArrowPatch(start, end, **look))


def draw_area(canvas, left, right, text, colour):
    """A frame around what has one fate after the training, with that fate above it."""
    corner, size = (left, 0.1), (right - left, HEIGHT - 0.2)
    look = dict(fc=colour + '14', ec=colour, lw=1.2)
    canvas.add_patch(FancyBboxPatch(corner, *size, 'round,pad=0,rounding_size=0.12', **look))
    canvas.text(
        (left + right) / 2, HEIGHT - 0.2, text, ha='center', va='top', color=colour, weight='bold'
    )


def draw_path_of_the_student(canvas):
    """From the student's feature to the refined one."""
    draw_box(canvas, 0.8, ABOVE, 1.1, 'student', GREEN)
    draw_arrow(canvas, (1.35, ABOVE), (1.77, ABOVE))
    draw_map(canvas, 2.13, ABOVE, 0.45, 'student\nfeature')
    draw_arrow(canvas, (2.5, ABOVE), (2.78, ABOVE))
    draw_box(canvas, 3.33, ABOVE, 1.08, 'noise\nadapter', BLUE)
    draw_arrow(canvas, (3.88, ABOVE), (4.16, ABOVE))
    for number, noise in enumerate((0.7, 0.5, 0.25)):
        draw_map(canvas, 4.46 + 0.7 * number, ABOVE, noise, side=0.6)
    canvas.text(5.16, ABOVE + 0.37, 'denoising steps', ha='center', va='bottom')
    draw_arrow(canvas, (6.17, ABOVE), (6.45, ABOVE))
    draw_map(canvas, 6.82, ABOVE, 0.1, 'refined\nfeature', below=False)


def main():
    """Draw and save."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=200)
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set_axis_off()
    draw_area(canvas, 0.1, 1.5, 'kept', GREEN)
    draw_area(canvas, 1.6, WIDTH - 0.1, 'used in training only, then thrown away', GREY)
    draw_path_of_the_student(canvas)

    draw_box(canvas, 5.16, MIDDLE, 1.8, 'noise predictor', BLUE, height=0.5)
    draw_arrow(canvas, (5.16, MIDDLE + 0.27), (5.16, ABOVE - 0.34), BLUE)
    canvas.text(
        5.06, (MIDDLE + ABOVE) / 2 - 0.03, 'finds the noise', ha='right', va='center', color=BLUE
    )

    draw_box(canvas, 2.3, BELOW, 1.1, 'teacher', ORANGE)
    draw_arrow(canvas, (2.87, BELOW), (6.42, BELOW))
    draw_map(canvas, 6.82, BELOW, 0, 'teacher\nfeature')
    draw_arrow(canvas, (5.16, BELOW), (5.16, MIDDLE - 0.27), ORANGE)
    canvas.text(
        5.06,
        (MIDDLE + BELOW) / 2,
        'learns from teacher\nfeatures with noise',
        ha='right',
        va='center',
        color=ORANGE,
    )
    draw_arrow(canvas, (6.82, ABOVE - 0.4), (6.82, BELOW + 0.4), style='<|-|>')
    loss = 'distance:\nextra loss'
    canvas.text(6.74, (MIDDLE + BELOW) / 2 + 0.05, loss, ha='right', va='center')
    canvas.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    figure.savefig(sys.argv[1] if sys.argv[1:] else Path(__file__).with_name('method.png'))


if __name__ == '__main__':
    rcParams['font.size'] = 12
    main()
