"""What happens during a run: the runner, its hooks."""
