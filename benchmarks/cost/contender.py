"""One of the models that a benchmark of training steps compares."""

import copy
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from measuring import KeptForBackward, Stopwatch, count_flops, wrapped
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn


class Contender:
    """A model with its optimizer, which makes training steps on one batch at a learning rate of 0.

    Args:
        model: Student or distiller.
        cfg: Config whose ``optim_wrapper`` is used.
        batch: Batch as a data loader yields it.
        device: ``'cpu'`` or ``'cuda'``.
        amp: Whether the forward runs in bfloat16 autocast.

    Attributes:
        rounds: For each step the milliseconds of its parts and of the whole, ``'step'``.
        peak_bytes: Most GPU memory that a step allocated beyond what was there before it; None on
            a CPU.
    """

    def __init__(
        self, model: nn.Module, cfg: Config, batch: Any, device: str, amp: bool = False
    ) -> None:
        self.model = model.to(device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        # The weights stay as they are, so that all steps compute the same. Random networks that
        # learn one batch soon have gradients so small that a CPU takes far longer for them.
        for group in self.optim_wrapper.param_groups:
            group['lr'] = 0.0
        self.batch = batch
        self.device = torch.device(device)
        self.amp = amp
        self.rounds: List[Dict[str, float]] = []
        self.peak_bytes: Optional[int] = None

    @property
    def pairs(self) -> List[nn.Module]:
        """The distillation pairs; none of a plain student."""
        return list(self.model.pairs.values()) if hasattr(self.model, 'teacher') else []

    def step(self) -> None:
        """Train one step and note its times."""
        on_gpu = self.device.type == 'cuda'
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        stopwatch = Stopwatch(self.device)
        with self._watched(stopwatch), stopwatch.part('step'):
            self.optim_wrapper.update_params(self.loss())
        times = stopwatch.milliseconds()
        self.rounds.append({**times, 'rest': 2 * times['step'] - sum(times.values())})
        if on_gpu:
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device) - before

    def _watched(self, stopwatch: Stopwatch) -> ExitStack:
        def watching(part: str) -> Callable:
            return lambda method: (
                lambda *args, **kwargs: _timed(stopwatch, part, method, args, kwargs)
            )

        stack = ExitStack()
        stack.enter_context(wrapped(self.optim_wrapper, 'backward', watching('backward')))
        for pair in self.pairs:
            stack.enter_context(wrapped(pair, 'forward', watching('heads forward')))
        if self.pairs:
            stack.enter_context(wrapped(self.model.teacher, 'features', watching('teacher')))
        return stack

    def loss(self) -> Tensor:
        """Total loss of the batch, with its graph."""
        with self._autocast():
            losses = self.model(**self.data(), mode='loss')
        return self.model.parse_losses(losses)[0]

    def data(self) -> Dict[str, Any]:
        """The batch after the data preprocessor."""
        return self.model.data_preprocessor(copy.deepcopy(self.batch), True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp)

    def exact_figures(self) -> Dict[str, int]:
        """Bytes kept for backward and floating-point operations; they do not vary."""
        with KeptForBackward(self.model.parameters()) as kept:
            self.loss()
        figures = {
            # What DDP averages over the GPUs.
            'bytes of gradients': sum(
                p.numel() * p.itemsize for p in self.model.parameters() if p.requires_grad
            ),
            'bytes kept for backward': kept.num_bytes,
            'FLOPs': count_flops(lambda: self.loss().backward()),
        }
        if self.pairs:
            figures.update(self._figures_of_parts())
        return figures

    def _figures_of_parts(self) -> Dict[str, int]:
        maps = self._maps_of_pairs()

        def heads() -> Tensor:
            with self._autocast():
                scalars = [pair(*given) for pair, given in zip(self.pairs, maps)]
            return sum(v for part in scalars for name, v in part.items() if 'loss' in name)

        with KeptForBackward(self.model.parameters()) as kept:
            heads()
        forward = count_flops(heads)
        return {
            'bytes kept by the heads': kept.num_bytes,
            'FLOPs of the teacher': self._teacher_flops(),
            'FLOPs of the heads forward': forward,
            'FLOPs of the heads backward': count_flops(lambda: heads().backward()) - forward,
        }

    def _teacher_flops(self) -> int:
        """The operations of the teacher's forward in one step."""
        counts = []

        def counting(features: Callable) -> Callable:
            def count(*args, **kwargs):
                results = []
                counts.append(count_flops(lambda: results.append(features(*args, **kwargs))))
                return results[0]

            return count

        with wrapped(self.model.teacher, 'features', counting):
            self.loss()
        return sum(counts)

    def _maps_of_pairs(self) -> List[Tuple]:
        """The arguments of each pair in one step, with leaves of a graph of their own."""
        given = []

        def recording(forward: Callable) -> Callable:
            def record(features: Mapping[str, Sequence[Tensor]], *others: Any):
                leaves = {
                    path: [tensor.detach().requires_grad_() for tensor in tensors]
                    for path, tensors in features.items()
                }
                given.append((leaves, *others))
                return forward(features, *others)

            return record

        with ExitStack() as stack:
            for pair in self.pairs:
                stack.enter_context(wrapped(pair, 'forward', recording))
            self.loss()
        return given


def _timed(stopwatch: Stopwatch, part: str, method: Callable, args: tuple, kwargs: dict) -> Any:
    with stopwatch.part(part):
        return method(*args, **kwargs)
