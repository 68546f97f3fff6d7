"""Running compiled networks on boards of a fleet, which a tracker of TVM hands out."""
