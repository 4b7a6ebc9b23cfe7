//! Docker Engine API over HTTP: one file per resource.
