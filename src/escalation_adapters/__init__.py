"""What acts for the core: databases, channels, the network. One file or folder each; none imports another."""
