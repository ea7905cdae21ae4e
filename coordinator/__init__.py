"""The service that runs federated rounds: the only package that knows torch and Flower."""
