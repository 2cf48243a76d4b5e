"""What capture yields, and that nothing of it stays behind."""

import copy

import pytest
import torch
from torch import nn

from mmdiffkd.capture import replaced_input
from mmdiffkd.models import FeatureCapture, FeaturePath


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)])
        self.shared = nn.Conv2d(4, 2, 1)
        self.pyramid = Pyramid()
        self.unused = nn.Identity()

    def forward(self, x, fail=False):
        for layer in self.backbone:
            x = layer(x)
        nested = self.pyramid(x=x)
        if fail:
            raise RuntimeError('forward failed')
        return [self.shared(level) for level in nested[0]]


class Pyramid(nn.Module):
    def forward(self, x):
        return (x, x[..., ::2]), {'extra': x}


def wrapped(model):
    """Names of the modules that do not run their class's own forward."""
    return [name for name, module in model.named_modules() if 'forward' in vars(module)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


@pytest.fixture
def x():
    return torch.randn(2, 3, 4, 6)


def run(model, x, *paths):
    with FeatureCapture(model, paths) as features:
        model(x)
    return [features[path] for path in paths]


def test_shared_module_yields_one_tensor_per_call_in_order(model, x):
    (calls,) = run(model, x, 'shared')
    assert [tuple(t.shape) for t in calls] == [(2, 2, 4, 6), (2, 2, 4, 3)]


def test_index_picks_an_output(model, x):
    levels, last = run(model, x, 'pyramid[0]', 'pyramid[0][-1]')
    assert len(levels) == 2 and len(last) == 1
    assert torch.equal(levels[-1], last[0])


def test_list_of_modules_never_runs_itself(model, x):
    with pytest.raises(
        (RuntimeError, ValueError), match="never runs itself; choose one of 'backbone.0', 'backb"
    ):
        run(model, x, 'backbone')


def test_input_of_a_module(model, x):
    first, keyword = run(model, x, 'shared:input', 'pyramid:input')
    assert [t.shape[-1] for t in first] == [6, 3]
    assert keyword[0].shape == (2, 4, 4, 6)


def test_later_in_place_operations_do_not_change_what_was_captured(model, x):
    (captured,) = run(model, x, 'backbone.0')
    assert torch.equal(captured[0], model.backbone[0](x))
    assert (captured[0] < 0).any()


def test_gradient_flows_through_what_was_captured(model, x):
    (captured,) = run(model, x, 'backbone.0')
    captured[0].sum().backward()
    assert model.backbone[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize('fail', [False, True])
def test_wrappers_and_buffers_go_also_when_the_forward_raises(model, x, fail):
    capture = FeatureCapture(model, ['shared', 'pyramid:input'])
    features = None
    try:
        with capture as features:
            assert sorted(wrapped(model)) == ['pyramid', 'shared']
            model(x, fail=fail)
    except RuntimeError:
        assert fail
    assert wrapped(model) == []
    assert capture._features == {}
    assert bool(features) != fail


def test_direct_calls_of_forward_are_seen(model, x):
    """mmdet's `mode='tensor'` runs `self.bbox_head.forward(x)`, which no hook sees."""
    with FeatureCapture(model, ['shared', 'shared:input']) as features:
        model.shared.forward(torch.zeros(1, 4, 2, 2))
    assert features['shared'][0].shape == (1, 2, 2, 2)
    assert features['shared:input'][0].shape == (1, 4, 2, 2)


def test_module_replaced_after_building_is_followed(model, x):
    """The runner swaps SyncBN layers for others."""
    capture = FeatureCapture(model, ['shared'])
    model.shared = nn.Conv2d(4, 7, 1)
    with capture as features:
        model(x)
    assert features['shared'][0].shape[1] == 7


def test_module_of_two_names_and_a_forward_of_its_own(model, x):
    model.alias = model.shared
    own = model.shared.forward
    model.shared.forward = own
    (first, second) = run(model, x, 'shared', 'alias')
    assert len(first) == len(second) == 2
    assert vars(model.shared)['forward'] is own


def test_module_that_did_not_run_is_an_error(model, x):
    with (
        pytest.raises((RuntimeError, ValueError), match="teacher path 'unused' yielded nothing"),
        FeatureCapture(model, ['unused'], role='teacher'),
    ):
        model(x)


def test_typo_lists_the_closest_names(model):
    with pytest.raises(ValueError, match="student path 'pyramit'.*'pyramid'"):
        FeatureCapture(model, ['pyramit'], role='student')


@pytest.mark.parametrize('path', ['', 'a[', 'a:output', 'a[0]b', None, 3])
def test_malformed_paths(path):
    with pytest.raises(ValueError, match='is not of the form'):
        FeaturePath.parse(path)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('neck', ('neck', (), None)),
        ('backbone[-1]', ('backbone', ('-1',), None)),
        ('neck[1:-1][0]', ('neck', ('1:-1', '0'), None)),
        ('head.fc:input', ('head.fc', (), '0')),
        ('head[1][0]:input[2]', ('head', ('1', '0'), '2')),
        ('roi_head.extractor.0:input[rois]', ('roi_head.extractor.0', (), 'rois')),
    ],
)
def test_parse(text, expected):
    assert FeaturePath.parse(text) == (text, *expected)


def test_argument_by_name_and_by_position(model, x):
    """However the caller passes it."""
    named, first = run(model, x, 'shared:input[input]', 'shared:input[0]')
    (keyword,) = run(model, x, 'pyramid:input[x]')
    assert torch.equal(named[0], first[0]) and torch.equal(named[0], keyword[0])


class Swapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = Roi()

    def forward(self, x):
        return self.module(rois=x + 1, feats=x)


class Roi(nn.Module):
    def forward(self, feats, rois):
        return feats * rois


def test_positions_are_those_of_the_signature(x):
    first, second = run(Swapped(), x, 'module:input', 'module:input[1]')
    assert torch.equal(first[0], x) and torch.equal(second[0], x + 1)


@pytest.mark.parametrize('argument', ['1', 'rois'])
def test_argument_that_is_not_the_first(x, argument):
    model, path = nn.Sequential(Roi()), f'0:input[{argument}]'
    with FeatureCapture(model, [path]) as features:
        model[0](x, x + 1)
    assert torch.equal(features[path][0], x + 1)


class Open(nn.Module):
    def forward(self, x, *others, y=None):
        return x


def test_argument_behind_others(x):
    model = nn.Sequential(Open())
    with FeatureCapture(model, ['0:input[y]', '0:input[2]']) as features:
        model[0](x, x + 1, x + 2, y=x + 3)
    assert torch.equal(features['0:input[y]'][0], x + 3)
    assert torch.equal(features['0:input[2]'][0], x + 2)
    with pytest.raises(ValueError, match='the module takes x, others, y'):
        run(model, x, '0:input[1]')


def test_argument_that_is_not_given(model, x):
    with pytest.raises(ValueError, match="no argument 'y' was given; the module takes x"):
        run(model, x, 'pyramid:input[y]')


def test_stops_when_all_is_captured(model, x):
    capture = FeatureCapture(model, ['pyramid[0]', 'backbone.0'])
    capture.stop_after = {'pyramid[0]': 2, 'backbone.0': 1}
    ran = []
    model.shared.register_forward_hook(lambda *_: ran.append(True))
    with capture as features:
        model(x)
    assert not ran and wrapped(model) == []
    assert [len(features[path]) for path in capture.stop_after] == [2, 1]


@pytest.mark.parametrize(('module', 'argument', 'calls'), [('shared', '0', 2), ('pyramid', 'x', 1)])
def test_replaced_input(model, x, module, argument, calls):
    path = FeaturePath.parse(f'{module}:input[{argument}]')
    other = torch.zeros(2, 4, 2, 2)
    with (
        FeatureCapture(model, [f'{module}:input']) as features,
        replaced_input(model, path, [other] * calls),
    ):
        model(x)
    assert torch.equal(features[f'{module}:input'][0], other)
    assert wrapped(model) == []


def test_replaced_input_with_values_left(model, x):
    with (
        pytest.raises((RuntimeError, ValueError), match='called 1 times, there are 2 more values'),
        replaced_input(model, FeaturePath.parse('pyramid:input[x]'), [torch.zeros_like(x)] * 3),
    ):
        model.pyramid(x=x)


def test_only_tensors_can_be_replaced(model, x):
    path = FeaturePath.parse('pyramid:input')
    with (
        pytest.raises(ValueError, match='only a tensor can be replaced, got a list of Tensor'),
        replaced_input(model, path, [x]),
    ):
        model.pyramid([x])


def test_replaced_input_needs_a_value_per_call(model, x):
    path = FeaturePath.parse('shared:input')
    with (
        pytest.raises((RuntimeError, ValueError), match='called more often than there are values'),
        replaced_input(model, path, [torch.zeros(2, 4, 2, 2)]),
    ):
        model(x)


@pytest.mark.parametrize('path', ['pyramid[1]', 'pyramid[1][extra]', 'pyramid[1][-1]'])
def test_values_of_a_dict(model, x, path):
    """Backbones of torchvision and models of Hugging Face yield dicts."""
    assert [value.shape for value in run(model, x, path)[0]] == [(2, 4, 4, 6)]


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('pyramid', 'a tuple of tuple, dict; choose a part'),
        ('pyramid[7]', r'\[7\] does not apply to a tuple'),
        ('pyramid[2:]', r'\[2:\] does not apply to a tuple'),
        ('shared[0]', r'\[0\] does not apply to a tensor of shape \(2, 2, 4, 6\)'),
        ('pyramid[1][other]', r"\[other\] does not apply to a dict with the keys 'extra'"),
        ('pyramid[0][extra]', r'\[extra\] does not apply to a tuple'),
    ],
)
def test_output_that_is_no_feature(model, x, path, message):
    with pytest.raises(ValueError, match=message):
        run(model, x, path)
    assert wrapped(model) == []


@pytest.mark.slow
def test_compiled_once(model, x):
    """`compile=True` in a config compiles the step that captures; also parts, and early ends."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    capture = FeatureCapture(model, ['pyramid[0]', 'shared', 'shared:input'])
    early = FeatureCapture(model, ['pyramid[0]'])
    early.stop_after = {'pyramid[0]': 2}

    def step(x):
        with torch.no_grad(), early.subset(['pyramid[0]']) as first:
            model(x)
        with capture.subset(['pyramid[0]', 'shared']) as features:
            model(x)
        return [*first['pyramid[0]'], *features['pyramid[0]'], *features['shared']]

    compiled = torch.compile(step, backend='eager')
    counted = []
    for _ in range(3):
        for ours, expected in zip(compiled(x), step(x), strict=True):
            torch.testing.assert_close(ours, expected)
        counted.append(torch._dynamo.utils.counters['stats']['unique_graphs'])
    # torch 2.14 compiles once more, when the first call has made what later ones find.
    first = counted[0] if torch.__version__ < (2, 14) else counted[1]
    assert counted[0] > 0 and counted[1:] == [first] * 2


def test_copies_capture_for_themselves(model, x):
    """A copy (EMA) made after a forward must not write into the original's features."""
    capture = FeatureCapture(model, ['shared'])
    with capture:
        model(x)
    copied = copy.deepcopy(dict(model=model, capture=capture))
    with torch.no_grad():
        copied['model'].shared.weight.zero_()
    with capture as ours, copied['capture'] as others:
        copied['model'](x)
        assert ours['shared'] == []
        model(x)
    assert not torch.equal(ours['shared'][0], others['shared'][0])
