//! The runner on a runtime in memory: what becomes of tasks, and of those of a daemon that is killed at any step.

mod lives;
mod single;
mod world;
