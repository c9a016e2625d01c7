//! What the series are made of: tracing, processes that take part, verification and reports.

pub mod bystander;
#[path = "../../common/byte.rs"]
pub mod byte;
pub mod filter;
pub mod fixture;
pub mod library;
pub mod lock_worker;
pub mod message_log;
pub mod operation;
pub mod place;
pub mod process;
pub mod queue_audit;
pub mod queue_worker;
pub mod report;
pub mod runner;
pub mod series;
pub mod shared_state;
pub mod survivor;
pub mod trace;
pub mod verify;
