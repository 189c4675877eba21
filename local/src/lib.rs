//! weir up: the same resources without a cluster.
