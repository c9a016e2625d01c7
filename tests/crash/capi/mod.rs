//! The C functions of nouns with more than one file of series.

pub mod condition;
pub mod lock;
pub mod queue;
