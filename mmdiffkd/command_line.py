"""The parts of the command line that do not import torch, which takes seconds.

So ``--help`` and a wrong flag are answered at once.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import List

from mmengine.config import DictAction

TOOLS = Path(__file__).resolve().parent / '.mim' / 'tools'
"""The tools of this package, one script each."""

METHODS = (
    'diffkd', 'align', 'l2', 'at', 'cwd', 'pkd', 'mgd', 'fgd', 'kd', 'dkd', 'dist', 'crosskd', 'ld',
)  # fmt: skip
"""The methods of ``tools/distill.py --method``."""

# Number of this process, as torchrun, slurm and mpirun tell it.
_RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def launched_as_first() -> bool:
    """Whether this process is the only one of its run, or the first that a launcher started."""
    return next(filter(None, map(os.environ.get, _RANK_VARIABLES)), '0') == '0'


def command_of(tool: str) -> str:
    """The command for a tool such as ``'analysis/plot_run'``, to be shown in a hint.

    It is ``python tools/analysis/plot_run.py`` where a script in ``tools/`` was started, else
    ``mmdiffkd plot_run``.
    """
    folder = Path(sys.argv[0]).parent
    if folder.resolve() == TOOLS.resolve():
        return f'python {shlex.quote(str(folder / tool))}.py'
    # mmdiffkd/__main__.py puts '[python -m ]mmdiffkd <tool>' there.
    prefix = 'python -m ' if sys.argv[0].startswith('python -m mmdiffkd ') else ''
    return f'{prefix}mmdiffkd {Path(tool).name}'


def flags_of(args: argparse.Namespace) -> List[str]:
    """The flags of a training's command line, except those of its smoke run and work directory."""
    words = []
    for name, value in vars(args).items():
        is_left_out = name in ('config', 'work_dir', 'smoke', 'local_rank')
        if is_left_out or value in (None, False, 'none'):
            continue
        words.append(f'--{name.replace("_", "-")}')
        if isinstance(value, dict):
            words += [f'{key}={item}' for key, item in value.items()]
        elif value is not True:
            words.append(value)
    return words


def tell_loading() -> None:
    """Say that the imports that come next take seconds, in the first process of a run."""
    if launched_as_first():
        name = Path(sys.argv[0]).name
        print(f'{name}: loading torch and the model libraries ...', file=sys.stderr, flush=True)


class KeyValueAction(DictAction):
    """mmengine's action for ``KEY=VALUE``, which complains in words about anything else."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse all values, or end the process with status 2."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError):
            parser.error(f'argument {option_string}: {" ".join(values)!r} is not KEY=VALUE')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of all tools that run a config, named as in the host libraries."""
    parser.add_argument('config', help="path of the config, or a name as 'mmdet::...'")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`add_config_arguments` except the config."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. model.teacher.checkpoint=random; lists as '
        'key="[a,b]" without white space',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle whatever the checkpoints contain that the run reads (load_from, --resume, '
        "init_cfg); for the teacher's there is teacher.trust_checkpoint",
    )
    parser.add_argument(
        '--verbose',
        action='store_true',
        help='show the whole log in the terminal; its file in the work directory has it anyway',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='job launcher',
    )
    # Some launchers pass it; torchrun sets the environment variable instead.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of training to those of every config, named as in the host libraries."""
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or without a path from the latest of the work directory',
    )
    parser.add_argument(
        '--exact-resume',
        action='store_true',
        help='given from the first start on, a resumed run equals one that was never stopped',
    )
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with GPUs x batch, relative to auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    parser.add_argument(
        '--check-teacher',
        action='store_true',
        help='validate the teacher once before training, logged as teacher/<metric>',
    )
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='try the config: two iterations on miniature data, with random weights',
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('student', help="config of the student: a path or a name as 'mmdet::...'")
    parser.add_argument('--teacher', required=True, help='config of the teacher, likewise')
    parser.add_argument(
        '--teacher-checkpoint',
        metavar='CHECKPOINT',
        help="the teacher's weights: a path, a URL or 'zoo', the default for a library's teacher",
    )


def add_distill_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`mmdiffkd.apis.distill`."""
    _add_models(parser)
    parser.add_argument(
        '--pairs',
        nargs='+',
        metavar='PATH',
        help="what to pair, as 'neck' or 'backbone[-1]=backbone.layer4' (student=teacher)",
    )
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='diffkd',
        help='method of distillation: diffkd (default), or another one with its published weights',
    )
    add_run_arguments(parser)
    add_train_arguments(parser)


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`mmdiffkd.apis.compare`."""
    _add_models(parser)
    parser.add_argument(
        '--methods',
        type=lambda text: text.split(','),
        default=['alone', 'diffkd'],
        metavar='NAME,...',
        help="'alone' for the student without a teacher, methods of distill.py, and those of "
        '--methods-file (default: alone,diffkd)',
    )
    parser.add_argument(
        '--methods-file',
        metavar='FILE',
        help='config with methods of your own: methods = dict(name=dict(pair=dict(...)), ...)',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=3,
        metavar='N',
        help='train each method with the seeds 0 to N-1 (default: %(default)s)',
    )
    parser.add_argument(
        '--weights',
        type=lambda text: [float(part) for part in text.split(',')],
        default=[],
        metavar='FACTOR,...',
        help="factors of each method's weights to try on held-out training data, e.g. 0.3,1,3; a "
        'single one is taken as it is',
    )
    parser.add_argument(
        '--tuning-seeds',
        type=int,
        default=1,
        metavar='N',
        help='trainings per factor of --weights (default: %(default)s)',
    )
    parser.add_argument('--metric', help='metric of the validation to compare')
    parser.add_argument(
        '--gpus', type=int, help='processes per training with --launcher pytorch (default: all)'
    )
    add_run_arguments(parser)
    add_train_arguments(parser)
