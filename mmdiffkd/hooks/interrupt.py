"""Leave a checkpoint behind when a run is interrupted."""

import os
import signal
import threading
from pathlib import Path
from typing import Dict, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmdiffkd.registry import HOOKS
from mmdiffkd.resuming import ATOMIC

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Saves a checkpoint on Ctrl-C and SIGTERM, then ends the run with ``KeyboardInterrupt``.

    The running iteration is finished first, so that what is saved is a state that training has
    been in. Whoever sends SIGTERM (torchrun, slurm) usually kills 30 seconds later; an iteration
    that takes longer than ``grace_seconds`` is therefore not waited for, and the weights from
    before it are saved. A second signal ends the run at once.

    The file is ``interrupted_iter_<n>.pth`` in the work directory; auto-resume finds it.

    Args:
        grace_seconds: How long to wait for the running iteration.
    """

    priority = 'LOWEST'

    def __init__(self, grace_seconds: float = 15.0) -> None:
        self.grace_seconds = grace_seconds
        self._requested = threading.Event()
        self._iteration_over = threading.Event()
        # Held while the optimizer changes weights and while a checkpoint is written.
        self._weights = threading.Lock()
        self._saved: Optional[Path] = None
        self._previous: Dict = {}

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('InterruptHook: not in the main thread, signals are left alone')
            return
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for optimizer in (wrapper.optimizer for wrapper in wrappers):
            optimizer.register_step_pre_hook(lambda *_: self._weights.acquire() and None)
            optimizer.register_step_post_hook(lambda *_: self._weights.release())
        os.register_at_fork(after_in_child=self._leave_workers_alone)
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        # Python runs a handler only between two bytecodes, and one backward pass is a single
        # call that can take a minute on a CPU. The pipe is written at once.
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(runner, read_end), daemon=True).start()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Save and leave if a signal came during this iteration."""
        # Other ranks go on until the main process leaves, or it could not finish its iteration.
        if self._requested.is_set() and is_main_process():
            self._iteration_over.set()
            with self._weights:
                self._save(runner, completed=runner.iter + 1)
            raise KeyboardInterrupt

    @property
    def interrupted(self) -> bool:
        """Whether a signal came; errors after it are its consequences."""
        return self._requested.is_set()

    def save_unfinished(self, runner: Runner) -> None:
        """Save after an error that the signal caused, such as another process leaving first."""
        self._iteration_over.set()
        # The watching thread may be writing and must end before the process does. If the optimizer
        # was torn out of its step, the lock stays shut and the weights are not worth saving.
        if is_main_process() and self._weights.acquire(timeout=self.grace_seconds):
            self._save(runner, completed=runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        if self._previous:
            signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _leave_workers_alone(self) -> None:
        # Data loading workers are forked: Ctrl-C in a terminal reaches them as well, and the
        # iteration being finished may need their data. SIGTERM is how they are told to end.
        if self._previous:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, number: int, frame) -> None:
        if self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()
        # A signal to the whole process group (torchrun, scancel) ends the data loading workers as
        # well; torch would raise about it in the middle of the iteration.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if is_main_process():
            print(
                f'\n{signal.Signals(number).name}: saving a checkpoint after this iteration; '
                f'once more to leave at once',
                flush=True,
            )

    def _watch(self, runner: Runner, read_end: int) -> None:
        # Other signals with a Python handler (SIGCHLD of the data loader) are written here too.
        while not set(os.read(read_end, 64)) & set(_SIGNALS):
            pass
        if not self._iteration_over.wait(self.grace_seconds) and is_main_process():
            with self._weights:
                self._save(runner, completed=runner.iter)

    def _save(self, runner: Runner, completed: int) -> None:
        if self._saved is not None:
            return
        name = f'interrupted_iter_{completed}.pth'
        runner.save_checkpoint(
            runner.work_dir,
            name,
            meta=dict(epoch=runner.epoch, iter=completed),
            by_epoch=False,
            backend_args=dict(backend=ATOMIC),
        )
        self._saved = Path(runner.work_dir, name)
        Path(runner.work_dir, 'last_checkpoint').write_text(str(self._saved))
        runner.logger.info(f'Interrupted after {completed} iterations, saved {self._saved}')
