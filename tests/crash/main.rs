//! Kills processes at every instruction of an operation, and looks whether those that survive can go on.
//!
//! ```text
//! harness ── series (one operation; its own tmpfs; the library loaded) ──┬─ victim     runs it, dies at one point
//!                                                                       ├─ bystander  waits for the victim
//!                                                                       └─ verifier   looks, goes on, cleans up
//! ```
//!
//! | what is killed                | at every instruction            | at random times         | broken on purpose |
//! |-------------------------------|---------------------------------|-------------------------|-------------------|
//! | segments                      | `segment`, `full`               | `random`                | `broken`          |
//! | readers-writer locks          | `rwlock`                        |                         |                   |
//! | onces                         | `once`                          |                         |                   |
//! | events                        | `event`                         |                         |                   |
//! | semaphores                    | `semaphore`                     |                         |                   |
//! | participants and their locks  | `lock`, `named`                 | `participant`, `soak`   | `broken_lock`     |
//! | barriers                      | `barrier`                       |                         |                   |
//! | conditions                    | `condition`                     |                         |                   |
//! | queues                        | `queue`, `queue_place`          | `queue_soak`            |                   |
//!
//! `cargo test --test crash [-- part of a name]`, after `make build`; with `--list` it prints the names of the series
//! and runs none. In the environment:
//!
//! | variable              | means                                                                        |
//! |-----------------------|------------------------------------------------------------------------------|
//! | SHMKIT_CRASH_EVERY=k  | every k-th point, 1: all; else what each operation thinks fit                 |
//! | SHMKIT_CRASH_OFFSET=n | which of them comes first, and the seed of random times; else another each run |
//! | SHMKIT_CRASH_JOBS=n   | so many series at a time; else 2                                              |
//! | SHMKIT_CRASH_INT3=1   | breakpoints written into the victim, as where there are no debug registers     |
//! | SHMKIT_LIBRARY=path   | another libshmkit.so than target/release has                                   |

#[cfg(target_arch = "x86_64")]
mod audit;
#[cfg(target_arch = "x86_64")]
mod barrier;
#[cfg(target_arch = "x86_64")]
mod board;
#[cfg(target_arch = "x86_64")]
mod broken;
#[cfg(target_arch = "x86_64")]
mod broken_lock;
#[cfg(target_arch = "x86_64")]
mod bystander;
#[cfg(target_arch = "x86_64")]
#[path = "../common/byte.rs"]
mod byte;
#[cfg(target_arch = "x86_64")]
mod condition;
#[cfg(target_arch = "x86_64")]
mod conditions;
#[cfg(target_arch = "x86_64")]
mod event;
#[cfg(target_arch = "x86_64")]
mod filter;
#[cfg(target_arch = "x86_64")]
mod full;
#[cfg(target_arch = "x86_64")]
mod hand;
#[cfg(target_arch = "x86_64")]
mod harness;
#[cfg(target_arch = "x86_64")]
mod library;
#[cfg(target_arch = "x86_64")]
mod lock;
#[cfg(target_arch = "x86_64")]
mod locks;
#[cfg(target_arch = "x86_64")]
mod named;
#[cfg(target_arch = "x86_64")]
mod once;
#[cfg(target_arch = "x86_64")]
mod operation;
#[cfg(target_arch = "x86_64")]
mod participant;
#[cfg(target_arch = "x86_64")]
mod party;
#[cfg(target_arch = "x86_64")]
mod place;
#[cfg(target_arch = "x86_64")]
mod post;
#[cfg(target_arch = "x86_64")]
mod process;
#[cfg(target_arch = "x86_64")]
mod queue;
#[cfg(target_arch = "x86_64")]
mod queue_place;
#[cfg(target_arch = "x86_64")]
mod queue_soak;
#[cfg(target_arch = "x86_64")]
mod queues;
#[cfg(target_arch = "x86_64")]
mod random;
#[cfg(target_arch = "x86_64")]
mod report;
#[cfg(target_arch = "x86_64")]
mod rwlock;
#[cfg(target_arch = "x86_64")]
mod segment;
#[cfg(target_arch = "x86_64")]
mod semaphore;
#[cfg(target_arch = "x86_64")]
mod series;
#[cfg(target_arch = "x86_64")]
mod soak;
#[cfg(target_arch = "x86_64")]
mod survivor;
#[cfg(target_arch = "x86_64")]
mod trace;
#[cfg(target_arch = "x86_64")]
mod verify;

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    harness::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("crash: skipped: breakpoints are those of x86-64 only, so far");
}
