"""Files, read strictly whoever wrote them: JSON, paths, saved graphs, manifests."""
