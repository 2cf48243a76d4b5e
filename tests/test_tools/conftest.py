"""A tiny distillation run, and ways to start the tools as a user does."""

import contextlib
import gc
import io
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mmdiffkd.testing import make_mini_dataset

ROOT = Path(__file__).resolve().parents[2]
# Nobody listens there: a download fails.
RUNS = ('train', 'test', 'distill', 'dist_train', 'dist_test', 'slurm_train')
NOWHERE = 'http://127.0.0.1:9'

# Small enough for seconds: 16 images, batch 4, two epochs.
TINY = """
_base_ = '{base}'
data_root = '{data}/'
model = {model}
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best='coco/bbox_mAP', rule='greater'))
{more}
"""


@pytest.fixture(scope='session')
def mini_coco(tmp_path_factory):
    pytest.importorskip('mmdet')
    root = tmp_path_factory.mktemp('coco') / 'coco'
    return make_mini_dataset('coco', root, num_train=16, num_val=4, image_size=(96, 64))


@pytest.fixture(scope='session')
def write_config(mini_coco, tmp_path_factory):
    """Write a tiny config on top of one of the quickstart's; returns its path."""

    # Every box counts, or there would be nothing to evaluate after so few iterations.
    student = dict(test_cfg=dict(score_thr=0.0))
    models = dict(student=student, diffkd=dict(student=student, teacher=dict(checkpoint='random')))
    bases = dict(student='retinanet_student', diffkd='diffkd_retinanet')

    def write(kind='diffkd', more=''):
        path = tmp_path_factory.mktemp('config') / f'tiny_{kind}.py'
        path.write_text(
            TINY.format(
                base=ROOT / 'configs' / 'quickstart' / f'{bases[kind]}_mini-coco.py',
                data=mini_coco,
                model=models[kind],
                more=more,
            )
        )
        return path

    return write


@pytest.fixture
def environment():
    return make_environment()


def make_environment():
    """One thread, because the tests run in parallel, a port of one's own, and no network."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    cpu = dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='-1', PORT=str(port))
    offline = {f'{scheme}_proxy': NOWHERE for scheme in ('http', 'https', 'ftp')}
    return {**os.environ, **cpu, **offline}


@pytest.fixture(scope='session')
def run():
    """Run a command in a process of its own; returns what it printed."""
    return run_command


def verbose(arguments):
    """A command as texts; that of a run shows its whole log unless it has the argument None."""
    command = [str(argument) for argument in arguments if argument is not None]
    tool = Path(command[0])
    shows = tool.parent.name == 'tools' and tool.stem in RUNS and 'mmdet' not in command[0]
    return command + ['--verbose'] * (shows and None not in arguments)


def run_command(*arguments, expect=0, cwd=ROOT, **variables):
    command = verbose(arguments)
    if command[0].endswith('.py'):
        command.insert(0, sys.executable)
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**make_environment(), **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert result.returncode == expect, result.stdout[-5000:]
    return result.stdout


@pytest.fixture(scope='session')
def run_here():
    """Run a tool in this process, which saves the imports; returns what it printed."""
    return run_tool_here


def subclasses(cls):
    for derived in cls.__subclasses__():
        yield derived
        yield from subclasses(derived)


def run_tool_here(tool, *arguments, expect=0, cwd=ROOT):
    output, status = io.StringIO(), 0
    # Loggers and message hubs are named by the second and would be those of the run before.
    for kind in (MMLogger, MessageHub, DefaultScope, Visualizer):
        for cls in (kind, *subclasses(kind)):
            cls._instance_dict.clear()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', verbose([ROOT / tool, *arguments]))
        patch.setattr(sys, 'path', [str((ROOT / tool).parent), *sys.path])
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        # Every run formats its config five times, and asks compilers for their versions.
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        patch.delenv('RANK', raising=False)
        for name, value in dict(LOCAL_RANK='0', http_proxy=NOWHERE, https_proxy=NOWHERE).items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        # mmengine's data sets collect garbage: among all modules that takes a second.
        gc.freeze()
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as end:
            status = end.code or 0
        finally:
            gc.unfreeze()
            for number, handler in handlers.items():
                signal.signal(number, handler)
    # Without an expected status it may be that of any error.
    assert status == expect or (expect is None and status), output.getvalue()[-5000:]
    return output.getvalue()
