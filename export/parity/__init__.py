"""Compare an exported graph with its network, tensor by tensor."""
