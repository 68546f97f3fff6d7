"""What files hold, read strictly: JSON, paths, saved graphs, manifests, whoever wrote them."""
