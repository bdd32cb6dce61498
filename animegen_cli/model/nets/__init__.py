"""Networks and parts of networks that two families share, and perceptual trunks."""
