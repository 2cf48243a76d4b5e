"""The table of what a model's modules yield."""

from mmdiffkd.autopair.model_view import view_model
from mmdiffkd.autopair.module_table import module_table
from tests.test_autopair.test_model_view import Model


def test_table():
    """Shapes of one image, with the indices that pick them, of modules that yield tensors."""
    view = view_model(Model(), 'teacher', ((3, 64, 64),), complete=True, trains=False)
    table = module_table(view, 'Teacher')
    assert 'Teacher; for one image of 64x64 its modules yield' in table
    rows = {
        line.split()[0]: line.split(maxsplit=2)[2]
        for line in table.splitlines()
        if line[:6] == 'parts.'
    }
    assert rows['parts.maps'] == '3x32x32'
    assert rows['parts.several'] == '3x64x64, 3x1x1'
    assert rows['parts.nested'] == '[0] 3x64x64; [1] 3x64x64, 3x64x64'
    assert rows['parts.scalars'] == 'scalar'
    assert not {'parts.dicts', 'parts.nothing', 'parts.no_outputs'} & set(rows)


def test_what_did_not_run_is_said():
    view = view_model(Model(fails=True), 'student', ((3, 64, 64),), complete=True, trains=False)
    table = module_table(view, 'Student')
    assert 'The forward behind backbone and neck failed' in table
    assert 'backbone' in table and 'parts.' not in table
