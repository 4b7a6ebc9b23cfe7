//! Names of services and containers, answered at 127.0.0.11 in each container.
