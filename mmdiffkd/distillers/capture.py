"""Capture: from module paths to the tensors of one forward."""

import difflib
import functools
import re
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, Union

from torch import Tensor, nn

_PATH = re.compile(r'(?P<module>[^\[\]:]+)(?P<indices>(\[-?\d+\])*)(?P<input>:input)?')
_MAX_SUGGESTIONS = 5


class FeaturePath(NamedTuple):
    """Where a feature is read.

    Attributes:
        text: As written in the config.
        module: Dotted name of a submodule.
        indices: Applied one after the other to the module's output (or input) if it is nested.
        from_input: Read the module's first argument instead of its output.
    """

    text: str
    module: str
    indices: Tuple[int, ...]
    from_input: bool

    @classmethod
    def parse(cls, text: str) -> 'FeaturePath':
        """Parse ``'neck'``, ``'backbone[-1]'`` or ``'head.fc:input'``."""
        match = _PATH.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f"module path {text!r} is not of the form 'neck', 'backbone[-1]' or 'head.fc:input'"
            )
        indices = tuple(int(index) for index in re.findall(r'-?\d+', match['indices'] or ''))
        return cls(text, match['module'], indices, match['input'] is not None)


class FeatureCapture:
    """Collects features of chosen modules while a model runs.

    Used as a context manager around one forward::

        with FeatureCapture(model, ['neck', 'bbox_head.retina_cls']) as features:
            model(images)
        features['neck']                    # one tensor per level
        features['bbox_head.retina_cls']    # one tensor per call of the shared module

    The modules' ``forward`` is wrapped inside the ``with`` block only, also when it raises. Hooks
    would miss the hosts' direct calls, such as ``self.bbox_head.forward(x)``. Tensors are copied
    when they are captured, because a later in-place operation (the ReLU after a batch norm) would
    change them.

    Args:
        model: The model that will run.
        paths: What :meth:`FeaturePath.parse` accepts.
        role: Named in errors, ``'student'`` or ``'teacher'``.

    Raises:
        ValueError: If a path is malformed or names no module; the closest names are listed.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str], role: str = 'model') -> None:
        self.role = role
        self.model = model
        self.paths = [FeaturePath.parse(path) for path in paths]
        self._features: Dict[str, List[Tensor]] = {}
        self._wrapped: List[Tuple[nn.Module, Optional[Callable]]] = []
        names = dict(model.named_modules(remove_duplicate=False))
        for path in self.paths:
            if path.module not in names:
                raise ValueError(self._unknown(path, names))

    def _unknown(self, path: FeaturePath, names: Iterable[str]) -> str:
        close = difflib.get_close_matches(path.module, names, n=_MAX_SUGGESTIONS, cutoff=0.5)
        close = close or [name for name in names if name and '.' not in name]
        return (
            f'{self.role} path {path.text!r}: {type(self.model).__name__} has no module '
            f'{path.module!r}; the closest are {", ".join(map(repr, close))}'
        )

    def __enter__(self) -> Dict[str, List[Tensor]]:
        self._features = {path.text: [] for path in self.paths}
        by_module: Dict[str, Set[FeaturePath]] = {}
        for path in self.paths:
            by_module.setdefault(path.module, set()).add(path)
        for name, paths in by_module.items():
            # Looked up anew: the runner may have replaced a module since (SyncBN, for one).
            self._wrap(self.model.get_submodule(name), paths)
        return self._features

    def __exit__(self, error_type, error, traceback) -> None:
        for module, previous in reversed(self._wrapped):
            if previous is None:
                del module.forward
            else:
                module.forward = previous
        self._wrapped.clear()
        features, self._features = self._features, {}
        if error_type is not None:
            features.clear()
            return
        for text, tensors in features.items():
            if not tensors:
                raise RuntimeError(
                    f'{self.role} path {text!r} yielded nothing: {type(self.model).__name__} did '
                    f'not run this module in its forward'
                )

    def _wrap(self, module: nn.Module, paths: Iterable[FeaturePath]) -> None:
        forward = module.forward

        @functools.wraps(forward)
        def capturing_forward(*args, **kwargs):
            for path in paths:
                if path.from_input:
                    self._store(path, [*args, *kwargs.values()][0])
            output = forward(*args, **kwargs)
            for path in paths:
                if not path.from_input:
                    self._store(path, output)
            return output

        # On the instance, where it hides the class's own until it is deleted.
        self._wrapped.append((module, vars(module).get('forward')))
        module.forward = capturing_forward

    def _store(self, path: FeaturePath, value) -> None:
        for index in path.indices:
            if not isinstance(value, (tuple, list)) or not -len(value) <= index < len(value):
                raise ValueError(
                    f'{self.role} path {path.text!r}: [{index}] does not apply to '
                    f'{_describe(value)}'
                )
            value = value[index]
        tensors = [value] if isinstance(value, Tensor) else value
        if not _is_sequence_of_tensors(tensors):
            raise ValueError(
                f'{self.role} path {path.text!r} yields {_describe(value)}; choose a part of it '
                f"with an index, as in '{path.module}[0]', or another module"
            )
        self._features[path.text] += [tensor.clone() for tensor in tensors]


def _is_sequence_of_tensors(value) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) > 0
        and all(isinstance(item, Tensor) for item in value)
    )


def _describe(value: Union[Tensor, tuple, list, dict]) -> str:
    if isinstance(value, Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, (tuple, list)):
        return f'a {type(value).__name__} of ' + ', '.join(type(item).__name__ for item in value)
    return f'a {type(value).__name__}'
