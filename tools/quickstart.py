#!/usr/bin/env python
"""Train a teacher, and a student alone, with AlignHead and with DiffKD, and compare them.

The data set is small and synthetic, in COCO's layout; all steps take about 15 minutes on two CPU
cores. A second run reuses finished steps; --fresh repeats them.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from quickstart_stages import Stages, run_logged, show_progress

from mmdiffkd import __version__

CONFIGS = ROOT / 'configs/quickstart'
TEACHER = CONFIGS / 'retinanet_teacher_mini-coco.py'
STUDENT = CONFIGS / 'retinanet_student_mini-coco.py'
DISTILLED = CONFIGS / 'diffkd_retinanet_mini-coco.py'
DATA = dict(num_train=640, num_val=150, image_size=(160, 96), seed=0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--fresh', action='store_true', help='repeat finished steps')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/quickstart'),
        help='folder of data, models and pictures (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of all trainings (default: 0)')
    return parser.parse_args()


class Quickstart:
    """The steps in their order, and the files that they exchange."""

    def __init__(self, work_dir: Path, fresh: bool, seed: int) -> None:
        self.stages = Stages(total=7, fresh=fresh)
        self.seed = seed
        self.data = work_dir / 'data/coco'
        self.exported = work_dir / 'export/student.pth'
        self.picture = work_dir / 'picture/detections.png'
        self.runs: Dict[str, Path] = {
            'teacher': work_dir / 'teacher',
            'student alone': work_dir / 'student_alone',
            'student with AlignHead': work_dir / 'student_align',
            'student with DiffKD': work_dir / 'student_diffkd',
        }

    def run(self) -> None:
        """Do the unfinished steps and print the results."""
        teacher, alone, aligned, distilled = self.runs
        self.stages.run(
            'Miniature COCO data', self.data.parent, dict(DATA), lambda: make_data(self.data)
        )
        self.train('Training the teacher', teacher, TEACHER)
        self.train('Training the student alone', alone, STUDENT)
        align = 'model.pairs.fpn.head.type=AlignHead'
        self.train('Training the student with AlignHead', aligned, DISTILLED, align)
        self.train('Training the student with DiffKD', distilled, DISTILLED)
        self.stages.run(
            'Exporting the student, evaluating all four',
            self.exported.parent,
            dict(student=fingerprint(STUDENT), teacher=fingerprint(TEACHER)),
            self.export_and_evaluate,
        )
        self.stages.run(
            'Detections of the exported student in plain mmdet',
            self.picture.parent,
            {},
            self.draw,
        )
        self.report()

    def train(self, title: str, name: str, config: Path, *changes: str) -> None:
        """Train one model in its own directory."""
        directory = self.runs[name]
        options = [*self.data_options(), f'randomness.seed={self.seed}', *changes]
        if config == DISTILLED:
            options.append(f'model.teacher.checkpoint={last_checkpoint(self.runs["teacher"])}')
        command = [ROOT / 'tools/train.py', config, '--work-dir', directory, '--cfg-options']
        self.stages.run(
            title,
            directory,
            dict(config=fingerprint(config), version=__version__, seed=self.seed),
            lambda: run_logged([*command, *options], directory / 'console.log', show_progress),
        )

    def data_options(self) -> List[str]:
        """Overrides that point a quickstart config to this run's data."""
        annotations = self.data / 'annotations/instances_val2017.json'
        loaders = [
            f'{s}_dataloader.dataset.data_root={self.data}' for s in ('train', 'val', 'test')
        ]
        return loaders + [f'{s}_evaluator.ann_file={annotations}' for s in ('val', 'test')]

    def plain_models(self) -> Dict[str, tuple]:
        """Model name to config and checkpoint, none of which needs mmdiffkd any more."""
        teacher, alone, aligned, distilled = self.runs
        return {
            teacher: (TEACHER, last_checkpoint(self.runs[teacher])),
            alone: (STUDENT, last_checkpoint(self.runs[alone])),
            aligned: (STUDENT, last_checkpoint(self.runs[aligned])),
            distilled: (STUDENT, self.exported),
        }

    def export_and_evaluate(self) -> None:
        """Slim the distilled student's checkpoint; run mmdet's COCO metric on all models."""
        directory = self.exported.parent
        checkpoint = last_checkpoint(self.runs['student with DiffKD'])
        export = [ROOT / 'tools/export_student.py', checkpoint, self.exported]
        run_logged(export, directory / 'export.log')
        for name, (config, weights) in self.plain_models().items():
            print(f'      {name}:', flush=True)
            work_dir = self.evaluation(name)
            command = [ROOT / 'tools/test.py', config, weights, '--work-dir', work_dir]
            command += ['--cfg-options', *self.data_options()]
            run_logged(command, work_dir / 'console.log', show_progress)

    def evaluation(self, name: str) -> Path:
        """Directory of a model's evaluation."""
        return self.exported.parent / f'evaluation_{self.runs[name].name}'

    def draw(self) -> None:
        """Draw what the models detect, in a process that never imports mmdiffkd."""
        models = self.plain_models()
        del models['student with AlignHead']  # the picture has room for three
        # From the weakest to the strongest, as one reads.
        columns = [f'{name}={c}={w}' for name, (c, w) in [*models.items()][1:]]
        columns.append('teacher={}={}'.format(*models['teacher']))
        run_logged(
            [ROOT / 'tools/quickstart_picture.py', self.data, self.picture, *columns],
            self.picture.parent / 'console.log',
            show=lambda line: None,
        )

    def report(self) -> None:
        """Print the table, from the evaluations and the training logs."""
        rows = {}
        for name, directory in self.runs.items():
            metrics = json.loads(newest(self.evaluation(name), '*/*.json').read_text())
            rows[name] = dict(
                ap=metrics['coco/bbox_mAP'],
                ap50=metrics['coco/bbox_mAP_50'],
                step_ms=1000 * step_seconds(directory),
            )
        print(f'\n{"":<24}{"AP":>8}{"AP50":>8}{"ms per training step":>24}')
        for name, row in rows.items():
            print(f'{name:<24}{row["ap"]:>8.3f}{row["ap50"]:>8.3f}{row["step_ms"]:>24.0f}')
        features = newest(self.runs['student with DiffKD'], '*/vis_data/vis_image/*.png')
        print(f'\nExported student: {self.exported}\nPicture:          {self.picture}')
        print(f'Features:         {features}')
        print(f'Time of this run: {self.stages.seconds():.0f} s', flush=True)


def make_data(directory: Path) -> None:
    from mmdiffkd.testing import make_mini_dataset

    make_mini_dataset('coco', directory, **DATA)
    print(f'      {DATA["num_train"]} training and {DATA["num_val"]} validation pictures')


def fingerprint(config: Path) -> str:
    """A hash of a config's complete content."""
    from mmengine.config import Config

    content = json.dumps(Config.fromfile(config).to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def newest(directory: Path, pattern: str) -> Path:
    """The file that was written last."""
    files = sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f'no {pattern} in {directory}')
    return files[-1]


def last_checkpoint(directory: Path) -> Path:
    """The final checkpoint of a finished run."""
    return directory / Path((directory / 'last_checkpoint').read_text().strip()).name


def step_seconds(directory: Path) -> float:
    """Median time of a training step, without the first ones, from a run's own log."""
    lines = newest(directory, '*/vis_data/scalars.json').read_text().splitlines()
    times = [entry['time'] for entry in map(json.loads, lines) if 'loss' in entry]
    return statistics.median(times[2:])


def main() -> None:
    args = parse_args()
    # The operations are too small for several threads, which would wait for each other.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    try:
        Quickstart(args.work_dir.resolve(), args.fresh, args.seed).run()
    except KeyboardInterrupt:
        sys.exit('\ninterrupted; the next run goes on with the unfinished step')
    except (RuntimeError, FileExistsError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
