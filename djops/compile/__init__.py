"""From the model to rights, and from rights to what each system should hold. Pure functions."""
