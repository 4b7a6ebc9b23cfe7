//! Finds containerd.
