//! The harness itself: prepares the ground, and has the series run, a few at a time.

use crate::suite::core::{
    barrier, condition, event, lock, once, queue, rwlock, segment, semaphore,
};
use crate::suite::harness::operation::Operation;
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{Mode, Plan, Series};
use crate::suite::harness::trace::{self, Trouble};
use crate::suite::harness::{library, place, process};
use crate::suite::selftest::lock::BrokenLock;
use crate::suite::selftest::segment::Broken;
use crate::suite::soak;
use crate::suite::soak::lock::Soak;
use crate::suite::soak::participant::ClaimStorm;
use crate::suite::soak::queue::QueueSoak;
use crate::suite::soak::random::{self, Storm};
use nix::sys::personality::{self, Persona};
use nix::sys::wait::{WaitStatus, wait};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// How an operation is killed.
enum Way {
    Points(Rc<dyn Operation>, Mode),
    Long(Box<dyn Operation>),
    Storm(Box<dyn Operation>),
    Soak(Soak),
    QueueSoak(QueueSoak),
}

impl Way {
    fn operation(&self) -> &dyn Operation {
        match self {
            Way::Points(operation, _) => operation.as_ref(),
            Way::Long(operation) => operation.as_ref(),
            Way::Storm(storm) => storm.as_ref(),
            Way::Soak(soak) => soak,
            Way::QueueSoak(soak) => soak,
        }
    }

    fn name(&self) -> String {
        let name = self.operation().name();
        match self {
            Way::Points(operation, Mode::Bystander) if operation.makes_others_wait() => {
                format!("{name}; a bystander waits")
            }
            Way::Points(_, Mode::Bystander) => format!("{name}; a bystander comes"),
            Way::Points(_, Mode::Early) => format!("{name}; one waits from the start"),
            Way::Points(_, Mode::Waiter) => format!("{name}; the waiter dies"),
            _ => name,
        }
    }

    fn run(&self, plan: &Plan, number: usize) -> Result<Report, Trouble> {
        let series = Series::new(self.operation(), plan, number)?;
        match self {
            Way::Points(_, mode) => series.run(*mode, plan),
            Way::Long(_) => random::run_long(&series, plan),
            Way::Storm(storm) => random::run_storm(&series, storm.guilty_of().is_some(), plan),
            Way::Soak(soak) => soak.run(&series, plan),
            Way::QueueSoak(soak) => soak.run(&series, plan),
        }
    }

    /// Runs it in this process, tells about it, and says whether all is well.
    fn run_and_tell(&self, plan: &Plan, number: usize) -> bool {
        let (name, guilty_of) = (self.name(), self.operation().guilty_of());
        let company = matches!(self, Way::Points(_, mode) if *mode != Mode::Alone);
        let waiters = company && self.operation().makes_others_wait();
        let (text, good) = match self.run(plan, number) {
            Ok(report) => report.tell(&name, guilty_of, waiters),
            Err(trouble) => (format!("{name:<56} FAILED: {trouble}\n"), false),
        };
        // In one piece: others tell at the same time.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        good
    }
}

/// Each operation alone, and in each company that it can have.
fn in_all_modes(operations: Vec<impl Operation + 'static>) -> Vec<Way> {
    let mut ways = Vec::new();
    for operation in operations.into_iter().map(Rc::new) {
        let mut modes = vec![Mode::Alone];
        if operation.has_company() {
            modes.push(Mode::Bystander);
        }
        if operation.makes_others_wait() {
            modes.push(Mode::Waiter);
        }
        if operation.holds_at_marker() {
            modes.push(Mode::Early);
        }
        ways.extend(
            modes
                .into_iter()
                .map(|mode| Way::Points(operation.clone(), mode)),
        );
    }
    ways
}

/// Everything there is, what takes longest first.
fn ways() -> Vec<Way> {
    let mut ways: Vec<_> = vec![
        Way::Soak(Soak::new(None)),
        Way::QueueSoak(QueueSoak::new(None)),
        Way::Storm(Box::new(Storm { leaky: false })),
        Way::Storm(Box::new(ClaimStorm { flaw: None })),
    ];
    ways.extend(
        random::long_ones()
            .into_iter()
            .map(|operation| Way::Long(Box::new(operation))),
    );
    ways.push(Way::Long(Box::new(queue::long_one())));
    ways.extend(in_all_modes(segment::operations()));
    ways.extend(in_all_modes(segment::managed::operations()));
    ways.extend(in_all_modes(queue::life_cycle::operations()));
    ways.extend(in_all_modes(queue::operations()));
    ways.extend(in_all_modes(lock::life_cycle::operations()));
    ways.extend(in_all_modes(lock::operations()));
    ways.extend(in_all_modes(event::operations()));
    ways.extend(in_all_modes(rwlock::operations()));
    ways.extend(in_all_modes(barrier::operations()));
    ways.extend(in_all_modes(once::operations()));
    ways.extend(in_all_modes(condition::operations()));
    ways.extend(in_all_modes(semaphore::operations()));
    for broken in Broken::ALL {
        ways.push(Way::Points(Rc::new(broken), Mode::Alone));
    }
    ways.push(Way::Storm(Box::new(Storm { leaky: true })));
    for broken in BrokenLock::ALL {
        let mode = broken.mode();
        ways.push(Way::Points(Rc::new(broken), mode));
    }
    for flaw in soak::participant::Flaw::ALL {
        ways.push(Way::Storm(Box::new(ClaimStorm { flaw: Some(flaw) })));
    }
    for flaw in soak::lock::Flaw::ALL {
        ways.push(Way::Soak(Soak::new(Some(flaw))));
    }
    for flaw in soak::queue::Flaw::ALL {
        ways.push(Way::QueueSoak(QueueSoak::new(Some(flaw))));
    }
    ways
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Starts this program once more with its addresses where they always are, so that reports of two runs are alike.
fn fix_addresses() {
    let now = personality::get().unwrap_or(Persona::empty());
    if now.contains(Persona::ADDR_NO_RANDOMIZE)
        || personality::set(now | Persona::ADDR_NO_RANDOMIZE).is_err()
    {
        // Not permitted in some containers: victims are forked from one process, so a run agrees with itself.
        return;
    }
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .exec();
    panic!("this program cannot be started again: {error}");
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
    // Whoever may not trace gets to know it here, once, and not from each series.
    trace::probe()?;
    Ok(Plan {
        library,
        every: number("SHMKIT_CRASH_EVERY"),
        offset: number("SHMKIT_CRASH_OFFSET").unwrap_or(random),
        private: place::enter_namespace(),
        run: std::process::id(),
    })
}

/// Runs them all, `jobs` at a time; returns the names of those that failed.
fn run_all(ways: &[Way], plan: &Plan, jobs: usize) -> Vec<String> {
    let (mut running, mut failed) = (HashMap::new(), Vec::new());
    let mut next = ways.iter().enumerate();
    loop {
        while running.len() < jobs {
            let Some((number, way)) = next.next() else {
                break;
            };
            let series = process::spawn(|| i32::from(!way.run_and_tell(plan, number)));
            running.insert(series, way.name());
        }
        if running.is_empty() {
            return failed;
        }
        match wait().expect("there are children") {
            WaitStatus::Exited(series, 0) => drop(running.remove(&series)),
            WaitStatus::Exited(series, _) => failed.extend(running.remove(&series)),
            WaitStatus::Signaled(series, signal, _) => {
                let name = running.remove(&series).unwrap_or_default();
                println!("{name:<56} FAILED: {signal} killed the harness itself");
                failed.push(name);
            }
            _ => {}
        }
    }
}

/// Returns the series whose names contain one of the words on the command line, or all if there are none.
fn selected() -> Vec<Way> {
    let parts: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |way: &Way| parts.is_empty() || parts.iter().any(|part| way.name().contains(part));
    ways().into_iter().filter(wanted).collect()
}

/// What `cargo test --test crash` runs.
pub fn main() -> ExitCode {
    let ways = selected();
    if std::env::args().any(|word| word == "--list") {
        ways.iter().for_each(|way| println!("{}", way.name()));
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
        .map_or("what each thinks fit".to_owned(), |every| every.to_string());
    let breakpoints = match trace::uses_debug_registers() {
        true => "debug registers",
        false => "written into the victim",
    };
    println!(
        "crash: {}\ncrash: every {every}, SHMKIT_CRASH_OFFSET={}, breakpoints: {breakpoints}",
        plan.library.display(),
        plan.offset
    );
    if !plan.private {
        println!("crash: no namespace of our own here: memory in /dev/shm is not accounted for");
    }
    let begin = Instant::now();
    let failed = run_all(
        &ways,
        &plan,
        number("SHMKIT_CRASH_JOBS").unwrap_or(2).max(1),
    );
    if !plan.private {
        place::remove_all(plan.run);
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "crash: {} series, {} failed, {seconds:.1} s",
        ways.len(),
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
