"""Running compiled networks on a pool of boards, which a tracker of TVM leases."""
