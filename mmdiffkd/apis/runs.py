"""A training or a test in a process of its own, whose result is kept in a file."""

import difflib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, TextIO

import numpy as np
from mmengine.config import Config

from mmdiffkd import __version__
from mmdiffkd.errors import DEBUG_HINT, ConfigError, shortened
from mmdiffkd.messages import tell
from mmdiffkd.visualization.run_log import read_run

_ERROR = re.compile(r'error: |[\w.]*(Error|Exception)\b')
_NO_METRICS = ('time', 'data_time')
# Of a process that is running, in kB.
_PEAK_MEMORY = re.compile(r'VmHWM:\s*(\d+)')


class RunFailed(Exception):
    """A run that ended with an error, which is the message."""


class Run(NamedTuple):
    """A training or a test.

    Attributes:
        title: What messages call it.
        folder: Work directory.
        text: Text of its config.
        tool: ``'train'`` or ``'test'``.
        flags: Flags of the tool.
        processes: Number of processes; 0 for one without a process group.
    """

    title: str
    folder: Path
    text: str
    tool: str = 'train'
    flags: List[str] = []
    processes: int = 0

    @property
    def config(self) -> Path:
        """The file of the config."""
        # Not in the work directory itself: mmengine puts the resolved config there.
        return self.folder / 'config' / f'{self.tool}.py'

    def result(self) -> Optional[Dict[str, Any]]:
        """What :meth:`perform` has returned before, or None.

        Raises:
            ConfigError: If the folder has a run, finished or not, with another config.
        """
        if self.config.is_file() and (before := self.config.read_text()) != self.text:
            lines = difflib.ndiff(before.splitlines(), self.text.splitlines())
            first = next(line for line in lines if line[0] in '+-')
            where = 'now' if first[0] == '+' else 'there'
            raise ConfigError(
                f'{self.folder} has a run with another config (only {where}: {first[1:].strip()}); '
                f'choose another --work-dir, or remove that folder to run it again'
            )
        path = self.folder / 'result.json'
        return json.loads(path.read_text()) if path.is_file() else None

    def perform(self, lock: TextIO) -> Dict[str, Any]:
        """Run, or go on with an interrupted run.

        Args:
            lock: File whose lock is held as long as the process of the run lives.

        Returns:
            ``metrics`` by their names, and of a training ``seconds`` that it took,
            ``ms_per_step`` and ``memory_mb``, which are None where they are not known.

        Raises:
            RunFailed: If the run fails.
            SystemExit: If this process got a signal to end, after the run has ended.
        """
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self.text)
        command, started = self._command(), time.monotonic()
        with (self.folder / 'console.log').open('a+') as console:
            start = console.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
                pass_fds=[lock.fileno()],
                # Ctrl-C must reach it once: a second signal ends a training at once.
                start_new_session=True,
            )
            lock.truncate(0)
            lock.write(f'{process.pid}\n')
            lock.flush()
            with _signals_passed_on(process):
                resident = _wait(process)
            console.seek(start)
            printed = console.read()
        if process.returncode != 0:
            raise RunFailed(_last_error(printed, process.returncode))
        # Of an interrupted run only its last part was timed.
        seconds = None if '--resume' in command else time.monotonic() - started
        result = dict(self._measured(), seconds=seconds)
        if result.get('memory_mb') is None and not self.processes:
            result['memory_mb'] = resident  # no GPU
        (self.folder / 'result.json').write_text(json.dumps(result, indent=2) + '\n')
        return result

    def _command(self) -> List[str]:
        python = [sys.executable]
        if self.processes:
            # --standalone takes a free port.
            python += ['-m', 'torch.distributed.run', '--standalone']
            python += ['--nproc_per_node', str(self.processes)]
        command = [*python, '-m', 'mmdiffkd', self.tool, str(self.config)]
        command += ['--work-dir', str(self.folder), *self.flags]
        if self.processes:
            command += ['--launcher', 'pytorch']
        return command + ['--resume'] * (self.tool == 'train' and any(self.folder.glob('*.pth')))

    def _measured(self) -> Dict[str, Any]:
        if self.tool == 'test':
            newest = max(self.folder.glob('*/*_*.json'), key=lambda path: path.name, default=None)
            metrics = json.loads(newest.read_text()) if newest else {}
            return dict(metrics={k: v for k, v in metrics.items() if isinstance(v, (int, float))})
        try:
            log = read_run(self.folder / ('smoke' if '--smoke' in self.flags else ''))
        except ConfigError as error:
            raise RunFailed(str(error)) from error
        last = {name: float(values[-1]) for name, (_, values) in log.validation.items()}
        times, memory = log.training.get('time'), log.training.get('memory')
        return dict(
            metrics={name: value for name, value in last.items() if name not in _NO_METRICS},
            ms_per_step=1000 * float(np.median(times[1])) if times else None,
            memory_mb=float(memory[1].max()) if memory else None,
        )


@contextmanager
def _signals_passed_on(process: subprocess.Popen) -> Iterator[None]:
    """Give Ctrl-C and SIGTERM to a process, and end this one once the block is left."""
    got: List[int] = []

    def pass_on(number: int, frame: Optional[FrameType]) -> None:
        got.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        tell('Interrupted; the same command goes on from here')
        raise SystemExit(130)


def _wait(process: subprocess.Popen) -> Optional[float]:
    """Wait for the end of a process. Returns the largest resident memory of it in MB, if known."""
    status, peak = Path(f'/proc/{process.pid}/status'), None
    # rusage of a child begins with the memory of the process that started it.
    while process.poll() is None:
        with suppress(OSError):
            found = _PEAK_MEMORY.search(status.read_text())
            peak = int(found[1]) / 1024 if found else peak
        time.sleep(0.2)
    return peak


def _last_error(printed: str, status: int) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    # torchrun ends with an error of its own.
    errors = [line for line in lines if _ERROR.match(line) and 'ChildFailed' not in line]
    if errors:
        return shortened(errors[-1].removeprefix('error: ').removesuffix(DEBUG_HINT))
    ended = f'ended by {signal.Signals(-status).name}' if status < 0 else f'ended with {status}'
    return shortened(f'{ended}; last line: {lines[-1]}' if lines else ended)


def config_text(cfg: Config, *notes: str) -> str:
    """The text of a complete config that begins with notes and the version of this package."""
    lines = [f'# {note}\n' for note in (f'mmdiffkd {__version__}', *notes)]
    return ''.join(lines) + Config(cfg.to_dict(), format_python_code=False).pretty_text


@contextmanager
def locked(folder: Path) -> Iterator[TextIO]:
    """Wait until no run of another comparison is left in a folder, and hold its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'running.lock'
    path.touch()
    with path.open('r+') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            tell(f'{folder}: waiting for the end of a run that was started before (process {pid})')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
