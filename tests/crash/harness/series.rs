//! One series: kills an operation at one point after another, verifies each death, and reports the failures.

use crate::suite::capi::Status;
use crate::suite::harness::bystander::Bystander;
use crate::suite::harness::filter;
use crate::suite::harness::library::{Library, Text};
use crate::suite::harness::operation::{Failure, Operation, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::{self, PANICKED, WATCHDOG};
use crate::suite::harness::report::Report;
use crate::suite::harness::shared_state::shared_state;
use crate::suite::harness::trace::{self, Point, Reached, Trouble, Victim};
use nix::sys::wait::WaitStatus;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Instant;

/// What all series of a run have in common.
#[derive(Clone)]
pub struct Plan {
    /// The path of the library.
    pub library: PathBuf,
    /// The step between two kill points; `None`: that of each operation.
    pub every: Option<usize>,
    /// The first point, and the seed of random times.
    pub offset: usize,
    /// Whether each series has a tmpfs of its own.
    pub private: bool,
    /// The PID of the harness.
    pub run: u32,
}

/// What the bystander does when the victim dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is none.
    Alone,
    /// It runs while the victim is stopped, and must continue when the victim is dead.
    Bystander,
    /// As `Bystander`, but it waits before the victim begins.
    BystanderFirst,
    /// It is killed while it waits, and the victim must continue.
    BystanderDies,
}

/// The number of failures that end a series: each may take as long as the watchdog.
pub const MAX_FAILURES: usize = 10;
/// The exit code of a verifier that has found a failure.
const FAILED: i32 = 1;

/// The process that kills one operation again and again.
pub struct Series<'a> {
    operation: &'a dyn Operation,
    shmkit: Library,
    place: Place,
    /// A pipe from the verifiers.
    failures: (File, File),
}

impl<'a> Series<'a> {
    /// Loads the library, and creates a place for the victims.
    pub fn new(
        operation: &'a dyn Operation,
        plan: &Plan,
        number: usize,
    ) -> Result<Series<'a>, Trouble> {
        let place = Place::create(plan.private, plan.run, number)?;
        let shmkit = Library::load(&plan.library, !operation.is_warm())?;
        if operation.is_warm() {
            let warm = shmkit.warm_up();
            warm.map_err(|status| format!("the library's first use returned {status}"))?;
        }
        // Made before the forks, so that all processes share it.
        shared_state().clear();
        let (read, write) = nix::unistd::pipe().map_err(|errno| errno.to_string())?;
        Ok(Series {
            operation,
            shmkit,
            place,
            failures: (read.into(), write.into()),
        })
    }

    /// Runs in a forked victim; `stop` is the marker before the operation.
    pub fn victim(&self, stop: impl FnOnce()) -> Status {
        if !self.operation.has_tmpfile() {
            filter::forbid_tmpfile();
        }
        shared_state().become_victim();
        let run = self.operation.prepare(&self.shmkit);
        stop();
        run()
    }

    /// Runs the setup of the operation, in a process that ends.
    pub fn run_setup(&self) -> Result<(), Trouble> {
        shared_state().clear();
        let Some(setup) = self.operation.setup(&self.shmkit) else {
            return Ok(());
        };
        let process = process::spawn(|| {
            setup();
            0
        });
        match process::wait(process, WATCHDOG) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            other => Err(format!("the setup failed: {other:?}")),
        }
    }

    fn start(&self) -> Result<Victim, Trouble> {
        self.run_setup()?;
        Victim::start(|| self.victim(process::stop_here))
    }

    /// Runs the verification in a process of its own, under a watchdog.
    pub fn verify(&self, done: bool) -> Result<(), Failure> {
        let child = process::spawn(|| {
            if !self.operation.has_tmpfile() {
                filter::forbid_tmpfile();
            }
            let verifier = Verifier {
                shmkit: &self.shmkit,
                place: &self.place,
            };
            let Err(failure) = self.operation.verify(&verifier, done) else {
                return 0;
            };
            let written = (&self.failures.1).write_all(failure.to_string().as_bytes());
            written.expect("its parent reads the pipe");
            FAILED
        });
        let verdict = match process::wait(child, self.operation.time_limit()) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, FAILED)) => {
                let mut text = [0; 4096];
                let length = (&self.failures.0).read(&mut text).unwrap_or(0);
                let text = String::from_utf8_lossy(&text[..length]);
                Failure::parse(&text).unwrap_or_else(|| Violation::Misbehaved.failure(text))
            }
            Ok(WaitStatus::Exited(_, PANICKED)) => {
                Violation::Misbehaved.failure("the verifier panicked")
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Violation::Refused.failure(format!("{signal} killed a survivor"))
            }
            Ok(other) => Violation::Misbehaved.failure(format!("the verifier: {other:?}")),
            Err(_) => {
                process::kill(child);
                let limit = self.operation.time_limit();
                Violation::Stuck.failure(format!("a survivor still waits after {limit} s"))
            }
        };
        self.place.clear();
        Err(verdict)
    }

    /// Kills a victim at `point`, and has it verified.
    fn kill_at(&self, point: Point, mode: Mode, report: &mut Report) -> Result<(), Failure> {
        let misbehaved = |trouble| Violation::Misbehaved.failure(trouble);
        let victim = self.start().map_err(misbehaved)?;
        if mode != Mode::Alone {
            return self.kill_beside_bystander(victim, point, mode, report);
        }
        let done = match victim.run_to(point).map_err(misbehaved)? {
            Reached::Point => {
                report.killed += 1;
                let process = victim.process();
                self.operation.inspect_live(process, false, &self.place)?;
                false
            }
            Reached::Ended(status) => {
                report.not_reached += 1;
                expect_success(status)?;
                true
            }
        };
        drop(victim);
        self.verify(done)
    }

    /// As `kill_at`, with a bystander.
    fn kill_beside_bystander(
        &self,
        victim: Victim,
        point: Point,
        mode: Mode,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let misbehaved = |trouble| Violation::Misbehaved.failure(trouble);
        let bystander = self.start_bystander(mode)?;
        let reached = victim.run_to(point).map_err(misbehaved)?;
        let waits = bystander.go()?;
        report.waited += usize::from(waits);
        if reached == Reached::Point {
            let process = victim.process();
            self.operation.inspect_live(process, !waits, &self.place)?;
        }
        match (reached, mode) {
            (Reached::Ended(status), _) => {
                report.not_reached += 1;
                expect_success(status)?;
            }
            (Reached::Point, Mode::BystanderDies) => {
                report.killed += usize::from(waits);
                drop(bystander);
                let status = victim.finish().map_err(misbehaved)?;
                // A bystander that did not wait may have been first.
                if waits || !self.operation.accepts_from_bystander(status) {
                    expect_success(status)?;
                }
                return self.verify(true);
            }
            (Reached::Point, _) => {
                report.killed += 1;
                drop(victim);
            }
        }
        let status = bystander.end(self.operation.time_limit())?;
        if !self.operation.accepts_from_bystander(status) {
            let text = format!("a bystander's operation returned {status}");
            return Err(Violation::Refused.failure(text));
        }
        self.verify(true)
    }

    /// Starts a bystander. It is stopped before its operation, or waits in it (`Mode::BystanderFirst`).
    fn start_bystander(&self, mode: Mode) -> Result<Bystander, Failure> {
        let bystander = Bystander::start(|| {
            let run = self.operation.bystander(&self.shmkit);
            let run = run.expect("the operation has a bystander");
            process::stop_here();
            run()
        })?;
        if mode == Mode::BystanderFirst && !bystander.go()? {
            return Err(Violation::NotExclusive.failure("a bystander did not wait for the victim"));
        }
        Ok(bystander)
    }

    /// Records the path of a victim that is not killed, and verifies its result.
    fn record(&self, mode: Mode, text: &Text) -> Result<Vec<u64>, Trouble> {
        let unharmed = |failure| format!("without being killed: {failure}");
        let victim = self.start()?;
        let bystander = match mode {
            Mode::BystanderFirst => Some(self.start_bystander(mode).map_err(unharmed)?),
            _ => None,
        };
        let (path, status) = victim.record(&text.range)?;
        if status != 0 {
            return Err(format!(
                "without being killed the operation returned {status}"
            ));
        }
        if let Some(bystander) = bystander {
            let status = bystander
                .end(self.operation.time_limit())
                .map_err(unharmed)?;
            if !self.operation.accepts_from_bystander(status) {
                return Err(format!("a bystander's operation returned {status}"));
            }
        }
        self.verify(true).map_err(unharmed)?;
        Ok(path)
    }

    /// Records the path, and kills at every k-th point of it.
    pub fn run(&self, mode: Mode, plan: &Plan) -> Result<Report, Trouble> {
        let text = match self.operation.expect_violation() {
            None => Text::of(&plan.library)?,
            Some(_) => Text::of(&std::env::current_exe().map_err(|error| error.to_string())?)?,
        };
        let path = self.record(mode, &text)?;
        let (points, left_out) = trace::points(&path);
        /// The factor of the step if there is a bystander, which makes each point slower.
        const BYSTANDER_FACTOR: usize = 2;
        let fit = match mode {
            Mode::Alone => self.operation.every(),
            Mode::Bystander | Mode::BystanderFirst | Mode::BystanderDies => {
                BYSTANDER_FACTOR * self.operation.every()
            }
        };
        let every = plan.every.unwrap_or(fit).max(1);
        let mut report = Report::new(points.len(), left_out, every);
        let begin = Instant::now();
        for &point in points.iter().skip(plan.offset % every).step_by(every) {
            report.taken += 1;
            if let Err(failure) = self.kill_at(point, mode, &mut report) {
                self.place.clear();
                report.failures.push((Some(point), failure));
            }
            // One violation of a broken victim suffices.
            let proven = |violation| {
                report
                    .failures
                    .iter()
                    .any(|(_, found)| found.violation == violation)
            };
            if report.failures.len() >= MAX_FAILURES
                || self.operation.expect_violation().is_some_and(proven)
            {
                break;
            }
        }
        report.time = begin.elapsed();
        report.text = Some(text);
        Ok(report)
    }

    /// Returns the library, for processes other than victims.
    pub fn shmkit(&self) -> &Library {
        &self.shmkit
    }

    /// Returns the place, for series with their own victims.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// Fails unless a victim that was not killed has succeeded.
fn expect_success(status: Status) -> Result<(), Failure> {
    match status {
        0 => Ok(()),
        _ => Err(Violation::Misbehaved.failure(format!("the operation returned {status}"))),
    }
}
