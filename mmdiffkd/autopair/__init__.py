"""From the names of two models to the config of a distillation."""
