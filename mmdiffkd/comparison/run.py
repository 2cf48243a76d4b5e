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
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, TextIO

import numpy as np
from mmengine.config import Config

from mmdiffkd import __version__
from mmdiffkd.errors import DEBUG_HINT, ConfigError, shortened
from mmdiffkd.messages import tell
from mmdiffkd.visualization.run_log import read_run

_ERROR = re.compile(r'(\[rank\d+\]: )?(error: |[\w.]*(Error|Exception)\b)')


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
            first = ' '.join(next(line for line in lines if line[0] in '+-').split())
            raise ConfigError(
                f'{self.folder} has a run with another config (- there, + now: {first}); choose '
                f'another --work-dir, or remove that folder to run it again'
            )
        path = self.folder / 'result.json'
        return json.loads(path.read_text()) if path.is_file() else None

    def perform(self) -> Dict[str, Any]:
        """Run, or go on with an interrupted run.

        Returns:
            ``metrics`` by their names, and of a training ``seconds`` that it took,
            ``ms_per_step`` and ``memory_mb``, which are None where they are not known.

        Raises:
            RunFailed: If the run fails.
            SystemExit: If this process got a signal to end, after the run has ended.
        """
        self.config.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / 'console.log').open('a+') as console:
            try:
                # The process of a run inherits the lock, and keeps it as long as it lives.
                fcntl.flock(console, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(f'{self.title}: waiting for its process, which was started before')
                fcntl.flock(console, fcntl.LOCK_EX)
            if (result := self.result()) is not None:
                return result
            self.config.write_text(self.text)
            command, started, before = self._command(), time.monotonic(), console.tell()
            status, resident = _run(command, console)
            console.seek(before)
            printed = console.read()
            if status != 0:
                raise RunFailed(_last_error(printed, status))
            # Of an interrupted run only its last part was timed.
            seconds = None if '--resume' in command else time.monotonic() - started
            result = dict(self._measured(), seconds=seconds)
            if result.get('memory_mb') is None and not self.processes:
                result['memory_mb'] = resident  # no GPU
            (self.folder / 'result.json').write_text(json.dumps(result, indent=2) + '\n')
        return result

    def _command(self) -> List[str]:
        command = [sys.executable, '-m']
        if self.processes:
            # --standalone takes a free port.
            command += ['torch.distributed.run', '--standalone']
            command += ['--nproc_per_node', str(self.processes), '-m']
        command += ['mmdiffkd', self.tool, str(self.config), '--work-dir', str(self.folder)]
        command += [*self.flags, *['--launcher', 'pytorch'] * (self.processes > 0)]
        return command + ['--resume'] * (self.tool == 'train' and any(self.folder.glob('*.pth')))

    def _measured(self) -> Dict[str, Any]:
        if self.tool == 'test':
            newest = max(self.folder.glob('*/*_*.json'), key=lambda path: path.name)
            return dict(metrics=_metrics(json.loads(newest.read_text())))
        try:
            log = read_run(self.folder / ('smoke' if '--smoke' in self.flags else ''))
        except ConfigError as error:
            raise RunFailed(str(error)) from error
        last = {name: float(values[-1]) for name, (_, values) in log.validation.items()}
        times, memory = log.training.get('time'), log.training.get('memory')
        return dict(
            metrics=_metrics(last),
            ms_per_step=1000 * float(np.median(times[1])) if times else None,
            memory_mb=float(memory[1].max()) if memory else None,
        )


def _metrics(numbers: Dict[str, Any]) -> Dict[str, float]:
    """The scalars of a validation without its times."""
    return {
        name: value
        for name, value in numbers.items()
        if isinstance(value, (int, float)) and name not in ('time', 'data_time')
    }


def _run(command: List[str], console: TextIO) -> Any:
    """Run a command; Ctrl-C and SIGTERM are passed on to it, and then end this process.

    Returns:
        Its exit status, and the largest resident memory of its process in MB, if known.
    """
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        env={**os.environ, 'PYTHONPATH': path},
        # Ctrl-C must reach it once: a second signal ends a training at once.
        start_new_session=True,
    )
    got: List[int] = []

    def pass_on(number: int, _: Any) -> None:
        got.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    # The rusage of a child begins with the memory of the process that started it.
    memory, peak = Path(f'/proc/{process.pid}/status'), []
    while process.poll() is None:
        with suppress(OSError):
            peak = re.findall(r'VmHWM:\s*(\d+) kB', memory.read_text()) or peak
        time.sleep(0.2)
    for number, handler in before.items():
        signal.signal(number, handler)
    if got:
        tell('Interrupted; the same command goes on from here')
        raise SystemExit(130)
    return process.returncode, int(peak[0]) / 1024 if peak else None


def _last_error(printed: str, status: int) -> str:
    # torchrun ends with an error of its own.
    lines = [line for line in printed.splitlines() if 'ChildFailed' not in line]
    errors = [line for line in lines if _ERROR.match(line)]
    last = errors[-1] if errors else f'ended with status {status}'
    return shortened(last.removeprefix('error: ').removesuffix(DEBUG_HINT))


def config_text(cfg: Config, *notes: str) -> str:
    """The text of a complete config that begins with notes and the version of this package."""
    lines = [f'# {note}\n' for note in (f'mmdiffkd {__version__}', *notes)]
    return ''.join(lines) + Config(cfg.to_dict(), format_python_code=False).pretty_text
