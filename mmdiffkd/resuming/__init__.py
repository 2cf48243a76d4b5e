"""What a killed run needs to go on as if nothing had happened."""

from .batches import AdvancedBatches, NumberedBatches, numbered
from .files import ATOMIC, AtomicBackend, remove_partial_files
from .search import latest_checkpoint, read_whole
from .seeding import seed_generators

__all__ = [
    'ATOMIC',
    'AdvancedBatches',
    'AtomicBackend',
    'NumberedBatches',
    'latest_checkpoint',
    'numbered',
    'read_whole',
    'remove_partial_files',
    'seed_generators',
]
