"""Batch norms that follow a convolution become part of it."""

from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# What a batch norm's class must run for `nn.Identity` to be able to take its place.
_NORM_FORWARDS = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


class _Convolved(NamedTuple):
    """One convolution: the weight and the bias it read, and what it made."""

    weight: Tensor
    bias: Optional[Tensor]
    output: Tensor


class ConvNormTrace(TorchDispatchMode):
    """Watches the operations of one forward, to find out what :class:`Folding` may fold.

    The names and classes of modules do not tell what follows what, and how often; a model is free
    to use a convolution's output twice, or to share a convolution among batch norms. Operations
    tell. Whatever reads a tensor counts, also the capture that copies it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reads: Counter = Counter()
        self._convolutions: List[_Convolved] = []
        self._norm_inputs: Dict[int, List[Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        read = {id(value) for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)}
        self._reads.update(read)
        output = func(*args, **kwargs)
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args)), **kwargs}
        if func is torch.ops.aten.convolution.default and not given['transposed']:
            self._convolutions.append(_Convolved(given['weight'], given['bias'], output))
            # The memory of a tensor that is gone may be used, and have been counted, before.
            self._reads[id(output)] = 0
        elif given.get('running_mean') is not None:
            # Backends have their own operations for batch norm.
            self._norm_inputs.setdefault(id(given['running_mean']), []).append(given['input'])
        return output

    def pairs(self, model: nn.Module) -> List[Tuple[nn.Module, nn.Module]]:
        """The convolutions of ``model`` and the batch norms that nothing separates from them.

        Every output of such a convolution went into its batch norm and nowhere else, every input
        of the batch norm came from the convolution.
        """
        convolutions = _owners(model, 'weight', lambda m: isinstance(m, nn.modules.conv._ConvNd))
        norms = _owners(model, 'running_mean', lambda m: type(m).forward in _NORM_FORWARDS)
        outputs: Dict[nn.Module, Set[int]] = {}
        refused = set()
        for weight, bias, output in self._convolutions:
            conv = convolutions.get(id(weight))
            if conv is None:
                continue
            outputs.setdefault(conv, set()).add(id(output))
            if bias is not conv.bias or self._reads[id(output)] != 1:
                refused.add(conv)
        norm_of = {
            frozenset(map(id, values)): norms[key]
            for key, values in self._norm_inputs.items()
            if key in norms
        }
        return [
            (conv, norm_of[frozenset(ids)])
            for conv, ids in outputs.items()
            if conv not in refused
            and frozenset(ids) in norm_of
            and self._reads[id(conv.weight)] == len(ids)
        ]


def _owners(
    model: nn.Module, name: str, accepts: Callable[[nn.Module], bool]
) -> Dict[int, nn.Module]:
    """Modules by the id of their parameter or buffer ``name``, as far as it is theirs alone."""
    owners: Dict[int, List[Tuple[str, nn.Module]]] = {}
    for module in model.modules():
        tensors = (*module._parameters.items(), *module._buffers.items())
        for own_name, tensor in tensors:
            if tensor is not None:
                owners.setdefault(id(tensor), []).append((own_name, module))
    return {
        key: found[0][1]
        for key, found in owners.items()
        if len(found) == 1 and found[0][0] == name and accepts(found[0][1])
    }


class Folding:
    """Batch norms of a model folded into the convolutions before them; can be undone.

    New weights are made, the model's tensors are not changed. The batch norms become
    ``nn.Identity`` wherever they are registered.

    Args:
        model: In eval mode.
        pairs: Convolutions and their batch norms, from :meth:`ConvNormTrace.pairs`.
    """

    def __init__(self, model: nn.Module, pairs: List[Tuple[nn.Module, nn.Module]]) -> None:
        self._replaced: List[Tuple[Dict[str, Any], str, Any]] = []
        places: Dict[nn.Module, List[Tuple[nn.Module, str]]] = {}
        for parent in list(model.modules()):
            for name, child in parent._modules.items():
                places.setdefault(child, []).append((parent, name))
        for conv, norm in pairs:
            weight, bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            self._replace(conv._parameters, 'weight', weight)
            self._replace(conv._parameters, 'bias', bias)
            for parent, name in places[norm]:
                self._replace(parent._modules, name, nn.Identity().eval())

    def _replace(self, members: Dict[str, Any], name: str, value: Any) -> None:
        self._replaced.append((members, name, members[name]))
        members[name] = value

    def undo(self) -> None:
        """Put back what was there."""
        for members, name, value in reversed(self._replaced):
            members[name] = value
        self._replaced.clear()
