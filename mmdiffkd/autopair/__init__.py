"""From the names of a student and a teacher to the config of a distillation."""
