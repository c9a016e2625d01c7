//! Victims that are broken on purpose: they show that the harness detects each kind of violation.

pub mod lock;
pub mod segment;
