//! Kills processes at every instruction of an operation, and checks that the surviving processes can continue.
//!
//! ```text
//! runner ── series (one operation; its own tmpfs; the library loaded) ──┬─ victim     runs it and dies at one point
//!                                                                      ├─ bystander  uses the same object too
//!                                                                      └─ verifier   checks, uses and removes the rest
//! ```
//!
//! Every series calls the release build of libshmkit.so through its C ABI, as a C program does.
//!
//! | folder      | contains                                                                                         |
//! |-------------|--------------------------------------------------------------------------------------------------|
//! | `core/`     | the series that kill at every instruction, one file a noun                                       |
//! | `soak/`     | the series that kill at random times: in long system calls, among forks, under load              |
//! | `selftest/` | victims that are broken on purpose: each fault must be detected                                  |
//! | `capi/`     | the C functions that the series call, one file a noun                                            |
//! | `harness/`  | tracing, processes, verification and reports                                                     |
//!
//! | noun                         | `core/`                       | `soak/`              | `selftest/`           |
//! |------------------------------|-------------------------------|----------------------|-----------------------|
//! | segment, plain and managed   | `segment`, `segment/managed`  | `segment`            | `segment`, `soak`     |
//! | participant                  | `lock` (claims)               | `participant`        | `soak`                |
//! | lock, rlock                  | `lock`, `lock/life_cycle`     | `lock`               | `lock`, `soak`        |
//! | rwlock                       | `rwlock`                      |                      |                       |
//! | semaphore, with undo as well | `semaphore`                   |                      |                       |
//! | condition                    | `condition`                   |                      |                       |
//! | event                        | `event`                       |                      |                       |
//! | barrier                      | `barrier`                     |                      |                       |
//! | once                         | `once`                        |                      |                       |
//! | queue                        | `queue`, `queue/life_cycle`   | `queue`              | `soak`                |
//!
//! Run `make build`, then `cargo test --test crash [-- part of a series name …]`. With `--list` the names of the series
//! are printed and nothing is run.
//!
//! | environment variable  | meaning                                                                       |
//! |-----------------------|-------------------------------------------------------------------------------|
//! | SHMKIT_CRASH_EVERY=k  | kill at every k-th point, 1: all; default: the step of each operation           |
//! | SHMKIT_CRASH_OFFSET=n | first point, and the seed of random times; default: another one each run      |
//! | SHMKIT_CRASH_JOBS=n   | number of series that run at a time; default: 2                               |
//! | SHMKIT_CRASH_INT3=1   | use breakpoint instructions even where there are debug registers              |
//! | SHMKIT_LIBRARY=path   | the library under test; default: target/release/libshmkit.so                  |

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
#[path = "."]
mod suite {
    mod capi;
    mod core;
    pub mod harness;
    mod selftest;
    mod soak;

    pub use harness::runner::main;
}

#[cfg(not(target_arch = "x86_64"))]
mod suite {
    /// Breakpoints are implemented for x86-64 only.
    pub fn main() -> std::process::ExitCode {
        println!("crash: skipped: not implemented for this architecture");
        std::process::ExitCode::SUCCESS
    }
}

fn main() -> ExitCode {
    suite::main()
}
