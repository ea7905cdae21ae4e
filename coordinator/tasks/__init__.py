"""Learning tasks: a torch module, its loss, and real data held per client."""
