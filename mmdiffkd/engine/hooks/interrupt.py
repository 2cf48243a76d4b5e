"""Leave a checkpoint behind when a run is interrupted."""

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmdiffkd.checkpoints.files import ATOMIC
from mmdiffkd.engine.hooks.buffers import BufferCopies
from mmdiffkd.engine.hooks.exact_resume import BATCHES_DONE
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.registry import HOOKS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Position(NamedTuple):
    """Where training was when all that belongs to an iteration or an epoch was done.

    Attributes:
        epoch: Epochs done.
        batches: Of the next epoch.
        iterations: In all.
    """

    epoch: int
    batches: int
    iterations: int


class AveragesHook(Hook):
    """Knows whether an EMA has put its weights in the place of the model's, as for a validation.

    To be registered behind the ``EMAHook``: right after that swaps, and before others, such as
    those that write files, take their time.
    """

    def __init__(self) -> None:
        self._in_place = False

    def before_val_epoch(self, runner: Runner) -> None:
        """They are there from here on."""
        self._in_place = True

    def after_val_epoch(self, runner: Runner, *args, **kwargs) -> None:
        """The weights are the model's own again."""
        self._in_place = False

    @contextmanager
    def undone(self, runner: Runner) -> Iterator[None]:
        """Give the model its own weights inside the ``with`` block."""
        averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
        averages = averages if self._in_place else []
        for hook in averages:
            hook.after_val_epoch(runner)
        yield
        for hook in averages:
            hook.before_val_epoch(runner)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Saves a checkpoint on Ctrl-C and SIGTERM, then ends the run with ``KeyboardInterrupt``.

    The running iteration is finished first, so that what is saved is a state that training has
    been in. Whoever sends SIGTERM (torchrun, slurm) usually kills 30 seconds later; an iteration
    that takes longer than ``grace_seconds`` is therefore not waited for, and the weights and
    buffers from before it are saved. A validation is left after its next batch. A second signal
    ends the run at once.

    The file is ``interrupted_iter_<n>.pth`` in the work directory; auto-resume finds it.

    Args:
        grace_seconds: How long to wait for the running iteration.

    Attributes:
        averages: A hook to be registered, too, if the run has an ``EMAHook``.
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
        self._position = _Position(0, 0, 0)
        # An iteration has begun; the optimizer has made its step in it.
        self._running = self._stepped = False
        self._buffers = BufferCopies()
        self.averages = AveragesHook()

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        batches = runner.message_hub.runtime_info.get(BATCHES_DONE, 0)
        self._position = _Position(runner.epoch, batches, runner.iter)
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('InterruptHook: not in the main thread, signals are left alone')
            return
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        for optimizer in (wrapper.optimizer for wrapper in wrappers):
            optimizer.register_step_pre_hook(lambda *_: self._weights.acquire() and None)
            optimizer.register_step_post_hook(self._after_step)
        os.register_at_fork(after_in_child=self._leave_workers_alone)
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        # Python runs a handler only between two bytecodes, and one backward pass is a single
        # call that can take a minute on a CPU. The pipe is written at once.
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(runner, read_end), daemon=True).start()

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Keep what the iteration changes before the optimizer's step."""
        self._buffers.take(model_of(runner))
        self._running, self._stepped = True, False

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        """Save and leave if a signal came during this iteration."""
        self._position = _Position(runner.epoch, batch_idx + 1, runner.iter + 1)
        self._running = self._stepped = False
        self._leave_if_requested(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Note that the epoch is over."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._position = _Position(runner.epoch + 1, 0, runner.iter)

    def after_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Save and leave if a signal came during the validation."""
        self._leave_if_requested(runner)

    def _leave_if_requested(self, runner: Runner) -> None:
        # Other ranks go on until the main process leaves, or it could not finish its iteration.
        if self._requested.is_set() and is_main_process():
            self._iteration_over.set()
            with self._weights:
                self._save(runner)
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
            self._save(runner)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        if self._previous:
            signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _after_step(self, *_) -> None:
        self._stepped = True
        self._weights.release()

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
        if self._iteration_over.wait(self.grace_seconds) or not is_main_process():
            return
        with self._weights:
            # After the step schedules and averages follow; the main thread saves behind them.
            if not self._stepped:
                self._save(runner)

    def _save(self, runner: Runner) -> None:
        if self._saved is not None:
            return
        if self._stepped:
            runner.logger.warning(
                'Not saved: the run was interrupted between a step of the optimizer and what '
                'belongs to it (schedules, averages). The last checkpoint is the one to go on from'
            )
            return
        if self._running:
            self._buffers.put_back()
        name = f'interrupted_iter_{self._position.iterations}.pth'
        runner.message_hub.update_info(BATCHES_DONE, self._position.batches)
        with self.averages.undone(runner):
            runner.save_checkpoint(
                runner.work_dir,
                name,
                meta=dict(epoch=self._position.epoch, iter=self._position.iterations),
                by_epoch=False,
                backend_args=dict(backend=ATOMIC),
            )
        self._saved = Path(runner.work_dir, name)
        Path(runner.work_dir, 'last_checkpoint').write_text(str(self._saved))
        runner.logger.info(
            f'Interrupted after {self._position.iterations} iterations, saved {self._saved}'
        )
