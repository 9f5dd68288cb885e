"""What is wanted: the project file, people, roles and the pipeline graph. Frozen, typed, no I/O."""
