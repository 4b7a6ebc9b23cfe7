//! The composition root: builds one node out of the rooms and runs it.
