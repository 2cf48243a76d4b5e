"""Save a checkpoint when a run is interrupted."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Dict, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdiffkd.checkpoints.files import ATOMIC
from mmdiffkd.messages import tell
from mmdiffkd.registry import HOOKS


@HOOKS.register_module()
class InterruptHook(Hook):
    """Saves a checkpoint on Ctrl-C and SIGTERM, then ends the run with ``KeyboardInterrupt``.

    The running iteration or validation is finished first. A second signal ends the run at once.
    The file is ``interrupted_iter_<n>.pth`` in the work directory, where auto-resume finds it.
    With several processes the main one saves and ends; the others then lose contact with it.
    ``requested`` says whether a signal has arrived.
    """

    # After all others: after a validation EMAHook has put the model's own weights back.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.requested, self._process = False, 0
        self._previous: Dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python has signal handlers in the main thread only
        self._process = os.getpid()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save and end the run if a signal arrived."""
        self._leave_if_requested(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save and end the run if a signal arrived during the validation."""
        self._leave_if_requested(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Restore the signal handlers that were there before."""
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._process:
            # A data loading worker inherits the handler. Ctrl-C reaches it as well, but the main
            # process may still need its data; SIGTERM is how the main process ends it.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # SIGTERM for a whole process group ends the workers, too. The data loader would raise an
        # error about that in the middle of the iteration.
        self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if is_main_process():
            print('\nSaving a checkpoint soon; repeat the signal to end the run now', flush=True)

    def _leave_if_requested(self, runner: Runner, iterations: int) -> None:
        if self.requested and is_main_process():
            self.save(runner, iterations)
            raise KeyboardInterrupt

    def save(self, runner: Runner, iterations: int) -> None:
        """Save the checkpoint after so many iterations, in the main process."""
        if not is_main_process():
            return
        name = f'interrupted_iter_{iterations}.pth'
        meta = dict(epoch=runner.epoch, iter=iterations)
        settings = dict(meta=meta, by_epoch=False, backend_args=dict(backend=ATOMIC))
        runner.save_checkpoint(runner.work_dir, name, **settings)
        path = Path(runner.work_dir, name)
        path.with_name('last_checkpoint').write_text(str(path))
        tell(f'Interrupted after {iterations} iterations, saved {path}')
