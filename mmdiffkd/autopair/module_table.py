"""What the modules of a model yield, as a table to choose pairs from."""

from typing import Any, List

from mmdiffkd.autopair.model_view import ModelView
from mmdiffkd.autopair.survey import ModuleRecord, TensorSpec

_HEADER = ('path', 'module', 'yields')
# Widest column of paths; longer ones push the rest of their line to the right.
_MAX_WIDTH = 60


def module_table(view: ModelView, title: str) -> str:
    """A line for every module that yields tensors, in the order of the model's definition.

    Args:
        view: What the modules yield.
        title: Of the table.
    """
    rows = [_HEADER]
    for record in view.records.values():
        yields = _yields(record)
        if yields:
            rows.append((record.name or '(the whole model)', record.bases[0], yields))
    widths = [min(_MAX_WIDTH, max(len(row[column]) for row in rows)) for column in (0, 1)]
    lines = [f'{title}; for one image of {view.shape[1]}x{view.shape[2]} its modules yield:', '']
    lines += [f'{a:{widths[0]}}  {b:{widths[1]}}  {c}' for a, b, c in rows]
    if not view.complete:
        lines += ['', 'The forward behind backbone and neck failed, so nothing there is shown.']
    return '\n'.join(lines)


def _yields(record: ModuleRecord) -> str:
    """All shapes of a module's outputs; empty if there is no tensor among them."""
    if not record.calls:
        return ''
    texts = [_describe(output) for output in record.calls]
    if not any(texts):
        return ''
    if len(texts) == 1:
        return texts[0]
    return f'{len(texts)} calls: ' + ' | '.join(texts)


def _describe(output: Any, index: str = '') -> str:
    """The shapes in an output; parts of a nested one with the index that picks them."""
    if isinstance(output, TensorSpec):
        return index + 'x'.join(map(str, output.shape[1:] or ('scalar',)))
    if not isinstance(output, tuple):
        return ''
    if all(isinstance(part, TensorSpec) for part in output):
        return f'{index}{", ".join(map(_describe, output))}' if output else ''
    parts: List[str] = [_describe(part, f'[{i}] ') for i, part in enumerate(output)]
    return '; '.join(index + part for part in parts if part)
