//! What all objects share, tested for each noun: where they are stored, how they are created and opened, what is refused.
//!
//! | module  | what is tested                                             |
//! |---------|------------------------------------------------------------|
//! | `noun`  | the rows of the suite: one for each file of `src/object`   |
//! | `place` | at an offset of a managed segment                          |
//! | `name`  | by name, in a file that contains nothing else              |
//! | `fd`    | unnamed ones, and those opened by their descriptor         |
//! | `guard` | guards and timeouts of the Rust API, noun by noun          |
//! | `fork`  | forks in a signal handler during a call                    |

#[macro_use]
mod common;

#[macro_use]
#[path = "object/noun.rs"]
mod noun;

#[path = "object/fd.rs"]
mod fd;
#[path = "object/fork.rs"]
mod fork;
#[path = "object/guard.rs"]
mod guard;
#[path = "object/name.rs"]
mod name;
#[path = "object/place.rs"]
mod place;

use common::managed;
use shmkit::segment::{self, Form, Segment};
use std::sync::atomic::Ordering::Relaxed;

fn form(form: Form) -> segment::Options {
    segment::Options {
        form,
        ..segment::Options::default()
    }
}

/// Fills bytes of a segment.
fn fill(segment: &Segment, bytes: std::ops::Range<u64>, value: u8) {
    for byte in &segment.bytes().unwrap()[bytes.start as usize..bytes.end as usize] {
        byte.store(value, Relaxed);
    }
}
