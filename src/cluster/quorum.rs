//! Who votes: a pure decision over the eligible nodes.
