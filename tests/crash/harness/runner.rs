//! Runs the series, a few at a time, and reports the result.

use crate::suite::core::{
    barrier, condition, event, lock, once, queue, rwlock, segment, semaphore,
};
use crate::suite::harness::operation::Operation;
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{Mode, Plan, Series};
use crate::suite::harness::trace::{self, Trouble};
use crate::suite::harness::{library, place, process};
use crate::suite::selftest::lock::BrokenLock;
use crate::suite::selftest::segment::BrokenSegment;
use crate::suite::soak;
use crate::suite::soak::lock::LockSoak;
use crate::suite::soak::participant::ClaimStorm;
use crate::suite::soak::queue::QueueSoak;
use crate::suite::soak::segment::ForkStorm;
use nix::sys::personality::{self, Persona};
use nix::sys::wait::{WaitStatus, wait};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// An operation, and how it is killed.
enum Job {
    Points(Rc<dyn Operation>, Mode),
    Long(Box<dyn Operation>),
    Storm(Box<dyn Operation>),
    LockSoak(LockSoak),
    QueueSoak(QueueSoak),
}

impl Job {
    fn operation(&self) -> &dyn Operation {
        match self {
            Job::Points(operation, _) => operation.as_ref(),
            Job::Long(operation) => operation.as_ref(),
            Job::Storm(storm) => storm.as_ref(),
            Job::LockSoak(soak) => soak,
            Job::QueueSoak(soak) => soak,
        }
    }

    fn name(&self) -> String {
        let name = self.operation().name();
        match self {
            Job::Points(operation, Mode::Bystander) if operation.blocks_bystander() => {
                format!("{name}; bystander waits")
            }
            Job::Points(_, Mode::Bystander) => format!("{name}; bystander runs"),
            Job::Points(_, Mode::BystanderFirst) => format!("{name}; bystander waits first"),
            Job::Points(_, Mode::BystanderDies) => format!("{name}; bystander dies"),
            _ => name,
        }
    }

    fn run(&self, plan: &Plan, number: usize) -> Result<Report, Trouble> {
        let series = Series::new(self.operation(), plan, number)?;
        match self {
            Job::Points(_, mode) => series.run(*mode, plan),
            Job::Long(_) => soak::random::run_long(&series, plan),
            Job::Storm(storm) => {
                soak::random::run_storm(&series, storm.expect_violation().is_some(), plan)
            }
            Job::LockSoak(soak) => soak.run(&series, plan),
            Job::QueueSoak(soak) => soak.run(&series, plan),
        }
    }

    /// Runs the series in this process, and prints its report; returns whether it has passed.
    fn run_and_report(&self, plan: &Plan, number: usize) -> bool {
        let (name, expected) = (self.name(), self.operation().expect_violation());
        let beside_bystander = matches!(self, Job::Points(_, mode) if *mode != Mode::Alone);
        let waits = beside_bystander && self.operation().blocks_bystander();
        let (text, passed) = match self.run(plan, number) {
            Ok(report) => report.describe(&name, expected, waits),
            Err(trouble) => (format!("{name:<64} FAILED: {trouble}\n"), false),
        };
        // In one call, because other series print at the same time.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        passed
    }
}

/// Returns the series of each operation: alone, and in each mode with a bystander that it supports.
fn in_all_modes(operations: Vec<impl Operation + 'static>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for operation in operations.into_iter().map(Rc::new) {
        let mut modes = vec![Mode::Alone];
        if operation.has_bystander() {
            modes.push(Mode::Bystander);
        }
        if operation.blocks_bystander() {
            modes.push(Mode::BystanderDies);
        }
        if operation.bystander_waits_first() {
            modes.push(Mode::BystanderFirst);
        }
        let in_mode = |mode| Job::Points(operation.clone(), mode);
        jobs.extend(modes.into_iter().map(in_mode));
    }
    jobs
}

/// Returns all series, slowest first.
fn all_jobs() -> Vec<Job> {
    let mut jobs: Vec<_> = vec![
        Job::LockSoak(LockSoak::new(None)),
        Job::QueueSoak(QueueSoak::new(None)),
        Job::Storm(Box::new(ForkStorm { leaky: false })),
        Job::Storm(Box::new(ClaimStorm { flaw: None })),
    ];
    for operation in soak::segment::long_operations() {
        jobs.push(Job::Long(Box::new(operation)));
    }
    jobs.push(Job::Long(Box::new(queue::long_operation())));
    jobs.extend(in_all_modes(segment::operations()));
    jobs.extend(in_all_modes(segment::managed::operations()));
    jobs.extend(in_all_modes(queue::life_cycle::operations()));
    jobs.extend(in_all_modes(queue::operations()));
    jobs.extend(in_all_modes(lock::life_cycle::operations()));
    jobs.extend(in_all_modes(lock::operations()));
    jobs.extend(in_all_modes(event::operations()));
    jobs.extend(in_all_modes(rwlock::operations()));
    jobs.extend(in_all_modes(barrier::operations()));
    jobs.extend(in_all_modes(once::operations()));
    jobs.extend(in_all_modes(condition::operations()));
    jobs.extend(in_all_modes(semaphore::operations()));
    for broken in BrokenSegment::ALL {
        jobs.push(Job::Points(Rc::new(broken), Mode::Alone));
    }
    jobs.push(Job::Storm(Box::new(ForkStorm { leaky: true })));
    for broken in BrokenLock::ALL {
        let mode = broken.mode();
        jobs.push(Job::Points(Rc::new(broken), mode));
    }
    for flaw in soak::participant::Flaw::ALL {
        jobs.push(Job::Storm(Box::new(ClaimStorm { flaw: Some(flaw) })));
    }
    for flaw in soak::lock::Flaw::ALL {
        jobs.push(Job::LockSoak(LockSoak::new(Some(flaw))));
    }
    for flaw in soak::queue::Flaw::ALL {
        jobs.push(Job::QueueSoak(QueueSoak::new(Some(flaw))));
    }
    jobs
}

/// Returns the series whose names contain one of the words on the command line, or all if there are none.
fn selected_jobs() -> Vec<Job> {
    let parts: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let selected =
        |job: &Job| parts.is_empty() || parts.iter().any(|part| job.name().contains(part));
    all_jobs().into_iter().filter(selected).collect()
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Restarts this program without address space randomization, so that the reports of two runs are comparable.
fn fix_addresses() {
    let now = personality::get().unwrap_or(Persona::empty());
    if now.contains(Persona::ADDR_NO_RANDOMIZE)
        || personality::set(now | Persona::ADDR_NO_RANDOMIZE).is_err()
    {
        // Some containers forbid it. The victims of a run are forked from one process, so it agrees with itself.
        return;
    }
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .exec();
    panic!("this program cannot be restarted: {error}");
}

fn plan() -> Result<Plan, Trouble> {
    let library = library::path()?;
    if library::is_stale(&library) {
        println!(
            "crash: {} is older than its sources: make build",
            library.display()
        );
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let random = now.map_or(0, |now| now.subsec_micros() as usize);
    // If tracing is not permitted, this reports it once, and not each series.
    trace::probe()?;
    Ok(Plan {
        library,
        every: number("SHMKIT_CRASH_EVERY"),
        offset: number("SHMKIT_CRASH_OFFSET").unwrap_or(random),
        private: place::enter_namespace(),
        run: std::process::id(),
    })
}

/// Runs the series, `limit` at a time; returns the names of those that have failed.
fn run_all(jobs: &[Job], plan: &Plan, limit: usize) -> Vec<String> {
    let (mut running, mut failed) = (HashMap::new(), Vec::new());
    let mut next = jobs.iter().enumerate();
    loop {
        while running.len() < limit {
            let Some((number, job)) = next.next() else {
                break;
            };
            let series = process::spawn(|| i32::from(!job.run_and_report(plan, number)));
            running.insert(series, job.name());
        }
        if running.is_empty() {
            return failed;
        }
        match wait().expect("there are children") {
            WaitStatus::Exited(series, 0) => drop(running.remove(&series)),
            WaitStatus::Exited(series, _) => failed.extend(running.remove(&series)),
            WaitStatus::Signaled(series, signal, _) => {
                let name = running.remove(&series).unwrap_or_default();
                println!("{name:<64} FAILED: {signal} killed the harness itself");
                failed.push(name);
            }
            _ => {}
        }
    }
}

/// Runs `cargo test --test crash`.
pub fn main() -> ExitCode {
    let jobs = selected_jobs();
    if std::env::args().any(|word| word == "--list") {
        jobs.iter().for_each(|job| println!("{}", job.name()));
        return ExitCode::SUCCESS;
    }
    fix_addresses();
    let plan = match plan() {
        Ok(plan) => plan,
        Err(trouble) => {
            println!("crash: FAILED: {trouble}");
            return ExitCode::FAILURE;
        }
    };
    let every = plan
        .every
        .map_or("as each operation sets".to_owned(), |every| {
            every.to_string()
        });
    let breakpoints = match trace::uses_debug_registers() {
        true => "debug registers",
        false => "instructions",
    };
    println!(
        "crash: {}\ncrash: every {every}, SHMKIT_CRASH_OFFSET={}, breakpoints: {breakpoints}",
        plan.library.display(),
        plan.offset
    );
    if !plan.private {
        println!("crash: no mount namespace: memory in /dev/shm is not accounted for");
    }
    let begin = Instant::now();
    let limit = number("SHMKIT_CRASH_JOBS").unwrap_or(2).max(1);
    let failed = run_all(&jobs, &plan, limit);
    if !plan.private {
        place::remove_all(plan.run);
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "crash: {} series, {} failed, {seconds:.1} s",
        jobs.len(),
        failed.len()
    );
    for name in &failed {
        println!("crash: FAILED: {name}");
    }
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
