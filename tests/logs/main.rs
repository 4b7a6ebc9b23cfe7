//! The shipped program as a logger.
