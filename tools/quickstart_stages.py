"""Steps of the quickstart, which are not repeated once they are finished, and their processes."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

MARKER = 'quickstart.json'


class Stages:
    """Runs steps that fill one directory each, and skips finished ones.

    A marker file in the directory tells whether the step is finished. So an interrupted step is
    repeated, and directories without a marker are not touched. A step is also repeated if an
    earlier one was, or if its settings have changed.

    Args:
        total: Number of steps, for the headers.
        fresh: Whether finished steps are repeated.
    """

    def __init__(self, total: int, fresh: bool) -> None:
        self.total = total
        self.fresh = fresh
        self.count = 0
        self.previous = ''
        self.started = time.monotonic()

    def run(
        self, title: str, directory: Path, settings: Dict[str, Any], work: Callable[[], None]
    ) -> None:
        """Do one step, unless it is finished.

        Args:
            title: Title of the step.
            directory: Folder for the results, which is emptied before the step.
            settings: JSON values; the step is repeated if they have changed.
            work: Function that does the step.

        Raises:
            FileExistsError: ``directory`` has files that no quickstart has made.
        """
        self.count += 1
        print(f'[{self.count}/{self.total}] {title}', flush=True)
        settings = json.loads(json.dumps(dict(settings, previous=self.previous)))
        marker = directory / MARKER
        found = json.loads(marker.read_text()) if marker.is_file() else {}
        if found.get('finished') and found['settings'] == settings and not self.fresh:
            print('      finished before; --fresh does it again', flush=True)
        else:
            self._clear(directory)
            marker.write_text(json.dumps(dict(settings=settings, finished='')))
            start = time.monotonic()
            work()
            # The time identifies this run of the step.
            found = dict(settings=settings, finished=str(time.time_ns()))
            complete = marker.with_suffix('.complete')
            complete.write_text(json.dumps(found))
            complete.replace(marker)
            print(f'      done in {time.monotonic() - start:.0f} s', flush=True)
        self.previous = found['finished']

    def seconds(self) -> float:
        """Time since the first step."""
        return time.monotonic() - self.started

    @staticmethod
    def _clear(directory: Path) -> None:
        if (directory / MARKER).is_file():
            shutil.rmtree(directory)
        elif directory.exists() and any(directory.iterdir()):
            raise FileExistsError(
                f'{directory} holds files that no quickstart has made; '
                'nothing was touched. Choose another --work-dir.'
            )
        directory.mkdir(parents=True, exist_ok=True)


def run_logged(
    arguments: Sequence[Any], log: Path, show: Callable[[str], Optional[str]] = str
) -> None:
    """Run a Python script, write its output to a file and show some of it.

    Args:
        arguments: Path and arguments of the script.
        log: File for the complete output.
        show: Function from a line to the text to show, or None.

    Raises:
        RuntimeError: The script failed; the end of its output has been printed.
    """
    command = [sys.executable, *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open('w') as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            file.flush()
            shown = show(line.rstrip())
            if shown:
                print(f'      {shown}', flush=True)
    if process.returncode:
        print(''.join(log.read_text().splitlines(keepends=True)[-30:]), file=sys.stderr)
        raise RuntimeError(f'{Path(arguments[0]).name} failed, see {log}')


def show_progress(line: str) -> Optional[str]:
    """A line of a run if it is that of an epoch's last step or has metrics, else None."""
    step = re.match(r'epoch .* step (\d+)/(\d+) ', line)
    is_last = step is not None and step[1] == step[2]
    return line if is_last or line.startswith(('validation', 'test')) else None
