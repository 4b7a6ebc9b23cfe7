//! Interfaces, namespaces and routes of containers.
