"""What a user gives to a compile: network, weights, policy and images."""
