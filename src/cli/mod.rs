//! The command line: a client of the API socket, and the only place that prints.
