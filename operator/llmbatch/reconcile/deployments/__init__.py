"""ModelDeployments: whether each is ready, and who may use it."""
