"""One place where student and teacher are matched: captured features -> heads -> loss."""

import logging
from collections import OrderedDict
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.diffusion.precision import at_least_float32
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import tell
from mmdiffkd.models.context import PairContext, call, takes_context
from mmdiffkd.models.hosts import build_component
from mmdiffkd.models.pair_checks import check_gradient
from mmdiffkd.models.pair_config import input_replacements
from mmdiffkd.models.shapes import Size, TokenLayout, resize_like, to_map


class DistillPair(nn.Module):
    """Features of the student that learn from features of the teacher, through heads and a loss.

    A head is called with one student and one teacher map and returns a :class:`HeadOutput`; a loss
    is called with its ``refined`` and ``target`` and returns a scalar. A head that computes the
    ``distance`` itself takes the place of the loss. Either gets a :class:`PairContext` if its
    forward has a parameter ``context``.

    Args:
        name: Name of the pair, with which its entries in the log end.
        cfg: Its config: ``student`` and ``teacher`` are module paths, ``loss`` and ``head`` configs
            of components, ``weight`` is the attribute below, ``teacher_inputs`` says which modules
            of the teacher run on inputs of the student's modules.
        teacher_model: Teacher, in which ``teacher_inputs`` names modules.
        teacher_name: Name of the teacher, if there are several.

    Attributes:
        heads: One head per map, after :meth:`build_heads`; none to compare the features themselves.
        replaced: Input path of the teacher -> input path of the student whose value it gets.
        layouts: Role, ``'student'`` or ``'teacher'`` -> how its tokens lie in an image.
        teacher_size: Height and width of the teacher's images, if they are not the student's.
        active: Whether the pair takes part in training; see :meth:`idle` for one that does not.
        summary: What the pair compares, with the shapes for one image, in words; after the fitting.
        weight: Factor of ``loss_kd_<name>``, on top of the ``loss_weight`` of the loss.
        kd_weight: Factor on top of ``weight``, which a schedule changes during training.
    """

    def __init__(
        self, name: str, cfg: Dict, teacher_model: nn.Module, teacher_name: str = ''
    ) -> None:
        super().__init__()
        self.name, self.cfg, self.teacher_name = name, cfg, teacher_name
        self.student_path, self.teacher_path = cfg['student'], cfg['teacher']
        self.replaced = input_replacements(name, cfg.get('teacher_inputs'), teacher_model)
        self.heads = nn.ModuleList()
        has_loss = cfg.get('loss') is not None
        self.loss = build_component(cfg['loss'], f'pairs.{name}.loss') if has_loss else None
        self.layouts: Dict[str, List[TokenLayout]] = {}
        self.teacher_size: Optional[Size] = None
        self.active = True
        self.summary = ''
        self.weight, self.kd_weight = cfg.get('weight', 1.0), 1.0
        self._output_hooks: Dict[int, Callable] = OrderedDict()
        self._warned: set = set()

    @property
    def student_paths(self) -> List[str]:
        """What has to be captured of the student."""
        return [self.student_path, *self.replaced.values()]

    def build_heads(
        self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], teacher: nn.Module
    ) -> None:
        """Build heads whose channels are those of the given maps.

        Args:
            student_maps: Student maps, each (N, Cs, H, W).
            teacher_maps: As many teacher maps, each (N, Ct, H, W).
            teacher: Teacher model, for heads whose constructor has a parameter ``teacher_model``.

        Raises:
            ConfigError: If the config of the head is wrong, there is no head and the channels
                differ, or a head has made the teacher one of its submodules.
        """
        where = f'pairs.{self.name}'
        channels = [(s.shape[1], t.shape[1]) for s, t in zip(student_maps, teacher_maps)]
        if self.cfg.get('head') is None:
            if any(cs != ct for cs, ct in channels) and not hasattr(self.loss, 'any_channels'):
                raise ConfigError(
                    f'{where}: without a head the channels must agree, but student and teacher '
                    f"have {channels}; add head=dict(type='AlignHead') or "
                    f"head=dict(type='DiffKDHead')"
                )
            return
        for cs, ct in channels:
            filled_in = dict(student_channels=cs, teacher_channels=ct, teacher_model=teacher)
            self.heads.append(build_component(self.cfg['head'], f'{where}.head', **filled_in))
        own = {id(parameter) for parameter in self.parameters()}
        if own & {id(parameter) for parameter in teacher.parameters()}:
            raise ConfigError(
                f'{where}.head has registered the teacher, which would be trained and saved; keep '
                f'it out of the submodules, for example as self.teacher = [teacher_model]'
            )

    @property
    def uses_context(self) -> bool:
        """Whether a head or the loss asks for the training batch."""
        parts = [*self.heads, *([] if self.loss is None else [self.loss])]
        return any(takes_context(type(module)) for module in parts)

    def register_output_hook(
        self, hook: Callable[[Mapping[int, HeadOutput]], None]
    ) -> RemovableHandle:
        """Have ``hook`` called after every forward with the detached outputs by the maps' levels.

        Returns:
            A handle whose ``remove()``, or the end of a ``with`` block, takes the hook away.
        """
        handle = RemovableHandle(self._output_hooks)
        self._output_hooks[handle.id] = hook
        return handle

    def maps(
        self, features: Mapping[str, Sequence[Tensor]], target: Sequence[Tensor], inputs: Tensor
    ) -> Tuple[List[Tensor], List[Tensor]]:
        """The captured features of student and teacher as maps (N, C, H, W) with as many rows.

        The arguments are those of :meth:`forward`.
        """
        size, ours = inputs.shape[-2:], features[self.student_path]
        roles = ('student', ours, size), ('teacher', target, self.teacher_size or size)
        sides = [
            [to_map(x, image_size, self.layouts.get(role, ())) for x in tensors]
            for role, tensors, image_size in roles
        ]
        for mine, other in zip(*sides):
            if len(mine) != len(other) or not (self.replaced or len(mine) == len(inputs)):
                raise ConfigError(
                    f'pairs.{self.name}: the feature {self.student_path!r} of the student has '
                    f'{len(mine)} rows for {len(inputs)} images, {self.teacher_path!r} of the '
                    f'teacher {len(other)}. Modules that run on proposals, queries or a part of '
                    f'the images see different ones in the two models: say with teacher_inputs '
                    f"which inputs the teacher's modules get from the student's, or choose others"
                )
        return sides[0], sides[1]

    def takes_part(self, features: Mapping[str, Sequence[Tensor]]) -> bool:
        """Whether the captured tensors of the student, by path, have something to compare.

        An image without an object may give a module nothing to run on. Batch norms that use the
        statistics of all processes wait for each other, so a pair that has them and nothing to
        compare in one process rests in all.
        """
        idle = [path for path in self.student_paths if not features[path]]
        if idle:
            self.warn_once(
                f'student path {idle[0]!r} did not run in this step, so the loss of the pair is '
                f'0; it teaches nothing if that module never runs in training'
            )
        found = not idle and any(tensor.numel() for tensor in features[self.student_path])
        norms = [m for m in self.heads.modules() if isinstance(m, nn.SyncBatchNorm)]
        if not (self.replaced and norms):
            return found
        everywhere = torch.tensor(float(found), device=norms[0].weight.device)
        all_reduce(everywhere, 'min')
        return bool(everywhere)

    def forward(
        self,
        features: Mapping[str, Sequence[Tensor]],
        target: Sequence[Tensor],
        inputs: Tensor,
        data_samples: Any = None,
    ) -> Dict[str, Tensor]:
        """Losses and diagnostics of this pair.

        Maps without rows are left out, as if their heads were not there.

        Args:
            features: Path -> captured tensors of the student.
            target: Captured tensors of the teacher.
            inputs: Images, (N, C, H, W).
            data_samples: Data samples of the host.

        Returns:
            Scalars: ``loss_kd_<name>``, the sums over maps of the heads' losses
            (``loss_diff_<name>``, ``loss_ae_<name>``, ...), and the detached means over maps of
            ``dist_before_<name>``, ``dist_after_<name>`` and the heads' statistics
            (``gamma_<name>``, ...).
        """
        student_maps, teacher_maps = self.maps(features, target, inputs)
        expected = len(self.heads) or len(teacher_maps)
        if not len(student_maps) == len(teacher_maps) == expected:
            raise ConfigError(
                f'pairs.{self.name}: {len(student_maps)} student and {len(teacher_maps)} teacher '
                f'maps were captured, {expected} were seen when the distiller was built; a module '
                f'that yields more in training than in evaluation cannot be paired, but one in it'
            )
        if self.training and torch.is_grad_enabled():
            check_gradient(self, student_maps)
        outputs, distance = {}, self._zero(inputs, student_maps)
        for level, (ours, theirs) in enumerate(zip(student_maps, teacher_maps)):
            if ours.numel():
                context = PairContext.of_map(inputs, data_samples, level, theirs)
                output = self._refine(level, resize_like(ours, theirs), theirs, context)
                distance = distance + self._distance(output, context)
                outputs[level] = output
        if not outputs:
            return self.idle(*student_maps)
        if self._output_hooks:
            detached = {level: output.detach() for level, output in outputs.items()}
            for hook in self._output_hooks.values():
                hook(detached)
        return {
            f'loss_kd_{self.name}': self.kd_weight * self.weight * distance,
            **self._entries(list(outputs.values())),
        }

    def _refine(
        self, level: int, student_map: Tensor, teacher_map: Tensor, context: PairContext
    ) -> HeadOutput:
        if self.heads:
            return call(self.heads[level], student_map, teacher_map, context)
        # Losses of other libraries do not leave half precision by themselves.
        student_map, teacher_map = at_least_float32(student_map), at_least_float32(teacher_map)
        return HeadOutput(student_map, teacher_map, student_map.detach())

    def _distance(self, output: HeadOutput, context: PairContext) -> Tensor:
        if self.loss is None and output.distance is not None:
            return output.distance
        if self.loss is None or output.distance is not None:
            needs = "'loss' is required, because" if self.loss is None else 'set loss=None, because'
            does = 'computes no' if self.loss is None else 'computes the'
            kind = type(self.heads[0]).__name__
            raise ConfigError(f'pairs.{self.name}: {needs} {kind} {does} distance itself')
        return call(self.loss, output.refined, output.target, context)

    def _entries(self, outputs: Sequence[HeadOutput]) -> Dict[str, Tensor]:
        """Everything that the pair logs beside ``loss_kd_<name>``."""
        entries = {key: sum(o.losses[key] for o in outputs) for key in outputs[0].losses}
        entries = {f'loss_{key}_{self.name}': value for key, value in entries.items()}
        with torch.no_grad():
            stats = [output.scalars() for output in outputs]
            means = {
                f'{key}_{self.name}': torch.stack([of_map[key] for of_map in stats]).mean()
                for key in stats[0]
            }
        return {**entries, **means}

    def idle(self, *features: Tensor) -> Dict[str, Tensor]:
        """A loss of zero, for a pair that is not active or has nothing to compare.

        Its parameters are part of the graph, because DDP waits for all of them, but get no
        gradient. The features are without rows, or any tensor on the right device.
        """
        zero = ReachedWithoutGradient.apply(self._zero(features[0], features), *self.parameters())
        return {f'loss_kd_{self.name}': zero}

    def _zero(self, like: Tensor, features: Iterable[Tensor]) -> Tensor:
        """A zero whose graph leads to the features without rows, and to the heads of these."""
        zero = like.new_zeros((), dtype=torch.float32)
        for level, feature in enumerate(features):
            if not feature.numel():
                heads = self.heads[level : level + 1]
                zero = ReachedWithoutGradient.apply(zero + feature.sum(), *heads.parameters())
        return zero

    def warn_once(self, text: str) -> None:
        """Log a warning about this pair, the first time that it is given."""
        if text not in self._warned:
            self._warned.add(text)
            tell(f'pairs.{self.name}: {text}', logging.WARNING)


class ReachedWithoutGradient(torch.autograd.Function):
    """Its first argument; the others are part of the graph and get no gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *parameters: Tensor) -> Tensor:
        """The value, as a new tensor."""
        ctx.number = len(parameters)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple:
        """The gradient for the value alone."""
        return gradient, *(None for _ in range(ctx.number))
