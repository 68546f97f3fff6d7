"""The main job: policy, network and images to a directory of verified, measured programs."""
