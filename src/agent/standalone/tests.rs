//! Lives of standalone containers.
