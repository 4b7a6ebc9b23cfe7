//! Encrypted connections between members, all on one UDP port.
