//! Kills one operation at point after point, has each death verified, and tells what came of it.

use crate::suite::harness::bystander::Bystander;
use crate::suite::harness::filter;
use crate::suite::harness::library::{Library, Status, Text};
use crate::suite::harness::operation::{Crime, Finding, Look, Operation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::{self, PANICKED, WATCHDOG};
use crate::suite::harness::report::Report;
use crate::suite::harness::shared_state::board;
use crate::suite::harness::trace::{self, Point, Reached, Trouble, Victim};
use nix::sys::wait::WaitStatus;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Instant;

/// What all series of a run have in common.
#[derive(Clone)]
pub struct Plan {
    /// Where the library is.
    pub library: PathBuf,
    /// Every how many points; `None`: what each operation thinks fit.
    pub every: Option<usize>,
    /// Which of them is the first.
    pub offset: usize,
    /// Whether each series can have a tmpfs of its own.
    pub private: bool,
    /// The process that is the harness.
    pub run: u32,
}

/// Who else is there when the victim dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    Alone,
    /// A process that does the same and waits for the victim: it must go on.
    Bystander,
    /// The same, but it waits already when the victim begins, and the victim knows.
    Early,
    /// As `Bystander`, but that process is killed while it waits: the victim must go on.
    Waiter,
}

/// So many findings are enough: each may have cost a watchdog's time.
pub const ENOUGH: usize = 10;
/// The exit code of a verifier that has found something.
const FOUND: i32 = 1;

/// The process in which one operation is killed again and again.
pub struct Series<'a> {
    operation: &'a dyn Operation,
    shmkit: Library,
    place: Place,
    /// A pipe from the verifiers.
    findings: (File, File),
}

impl<'a> Series<'a> {
    /// Loads the library and makes a place for the victims.
    pub fn new(
        operation: &'a dyn Operation,
        plan: &Plan,
        number: usize,
    ) -> Result<Series<'a>, Trouble> {
        let place = Place::make(plan.private, plan.run, number)?;
        let shmkit = Library::load(&plan.library, !operation.is_warm())?;
        if operation.is_warm() {
            let warm = shmkit.warm_up();
            warm.map_err(|status| format!("the library's first use returned {status}"))?;
        }
        // Made here, it is shared by all that are forked from here on.
        board().clear();
        let (read, write) = nix::unistd::pipe().map_err(|errno| errno.to_string())?;
        Ok(Series {
            operation,
            shmkit,
            place,
            findings: (read.into(), write.into()),
        })
    }

    /// Returns what runs in a victim after it was forked; `stop` is the marker before the operation.
    pub fn victim(&self, stop: impl FnOnce()) -> Status {
        if !self.operation.has_tmpfile() {
            filter::forbid_tmpfile();
        }
        let run = self.operation.prepare(&self.shmkit);
        stop();
        run()
    }

    /// Prepares the ground for a victim, in a process that is gone afterwards.
    pub fn prepare_ground(&self) -> Result<(), Trouble> {
        board().clear();
        let Some(ground) = self.operation.ground(&self.shmkit) else {
            return Ok(());
        };
        let process = process::spawn(|| {
            ground();
            0
        });
        match process::wait(process, WATCHDOG) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            other => Err(format!("the ground cannot be prepared: {other:?}")),
        }
    }

    fn start(&self) -> Result<Victim, Trouble> {
        self.prepare_ground()?;
        Victim::start(|| self.victim(process::stop_here))
    }

    /// Lets a verifier look, in a process of its own, under a watchdog.
    pub fn verify(&self, done: bool) -> Result<(), Finding> {
        let verifier = process::spawn(|| {
            if !self.operation.has_tmpfile() {
                filter::forbid_tmpfile();
            }
            let look = Look {
                shmkit: &self.shmkit,
                place: &self.place,
            };
            let Err(finding) = self.operation.verify(&look, done) else {
                return 0;
            };
            let written = (&self.findings.1).write_all(finding.to_string().as_bytes());
            written.expect("its parent reads");
            FOUND
        });
        let verdict = match process::wait(verifier, self.operation.patience()) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, FOUND)) => {
                let mut text = [0; 4096];
                let length = (&self.findings.0).read(&mut text).unwrap_or(0);
                let text = String::from_utf8_lossy(&text[..length]);
                Finding::parse(&text).unwrap_or_else(|| Crime::Misbehaved.found(text))
            }
            Ok(WaitStatus::Exited(_, PANICKED)) => Crime::Misbehaved.found("the verifier panicked"),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Crime::Refused.found(format!("{signal} killed a survivor"))
            }
            Ok(other) => Crime::Misbehaved.found(format!("the verifier: {other:?}")),
            Err(_) => {
                process::kill(verifier);
                let patience = self.operation.patience();
                Crime::Stuck.found(format!("a survivor still waits after {patience} s"))
            }
        };
        self.place.clear();
        Err(verdict)
    }

    /// Kills a victim at `point` and looks.
    fn kill_at(&self, point: Point, mode: Mode, report: &mut Report) -> Result<(), Finding> {
        let misbehaved = |trouble| Crime::Misbehaved.found(trouble);
        let victim = self.start().map_err(misbehaved)?;
        if mode != Mode::Alone {
            return self.kill_in_company(victim, point, mode, report);
        }
        let done = match victim.run_to(point).map_err(misbehaved)? {
            Reached::Point => {
                report.killed += 1;
                let process = victim.process();
                self.operation.look_at(process, false, &self.place)?;
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

    /// As `kill_at`, while another process does the same and waits for the victim, as far as it must.
    fn kill_in_company(
        &self,
        victim: Victim,
        point: Point,
        mode: Mode,
        report: &mut Report,
    ) -> Result<(), Finding> {
        let misbehaved = |trouble| Crime::Misbehaved.found(trouble);
        let bystander = self.start_bystander(mode)?;
        let reached = victim.run_to(point).map_err(misbehaved)?;
        let waits = bystander.go()?;
        report.waited += usize::from(waits);
        if reached == Reached::Point {
            let process = victim.process();
            self.operation.look_at(process, !waits, &self.place)?;
        }
        match (reached, mode) {
            (Reached::Ended(status), _) => {
                report.not_reached += 1;
                expect_success(status)?;
            }
            (Reached::Point, Mode::Waiter) => {
                report.killed += usize::from(waits);
                drop(bystander);
                let status = victim.finish().map_err(misbehaved)?;
                // Where it did not have to wait it may have been first.
                if waits || !self.operation.bystander_may(status) {
                    expect_success(status)?;
                }
                return self.verify(true);
            }
            (Reached::Point, _) => {
                report.killed += 1;
                drop(victim);
            }
        }
        let status = bystander.end(self.operation.patience())?;
        if !self.operation.bystander_may(status) {
            let text = format!("a bystander's operation returned {status}");
            return Err(Crime::Refused.found(text));
        }
        self.verify(true)
    }

    /// Starts a bystander: it stands before its operation, or in `Mode::Early` waits in it for the victim.
    fn start_bystander(&self, mode: Mode) -> Result<Bystander, Finding> {
        let bystander = Bystander::start(|| {
            let run = self.operation.bystander(&self.shmkit);
            let run = run.expect("an operation that makes others wait has a bystander");
            process::stop_here();
            run()
        })?;
        if mode == Mode::Early && !bystander.go()? {
            return Err(Crime::Shared.found("a bystander has not waited for who has it all"));
        }
        Ok(bystander)
    }

    /// Records the path of a victim that nobody kills, and has that verified too.
    fn record(&self, mode: Mode, text: &Text) -> Result<Vec<u64>, Trouble> {
        let unharmed = |finding| format!("without being killed: {finding}");
        let victim = self.start()?;
        let bystander = match mode {
            Mode::Early => Some(self.start_bystander(mode).map_err(unharmed)?),
            _ => None,
        };
        let (path, status) = victim.record(&text.range)?;
        if status != 0 {
            return Err(format!(
                "without being killed the operation returned {status}"
            ));
        }
        if let Some(bystander) = bystander {
            let status = bystander.end(self.operation.patience()).map_err(unharmed)?;
            if !self.operation.bystander_may(status) {
                return Err(format!("a bystander's operation returned {status}"));
            }
        }
        self.verify(true).map_err(unharmed)?;
        Ok(path)
    }

    /// Records the path and kills at every k-th point of it.
    pub fn run(&self, mode: Mode, plan: &Plan) -> Result<Report, Trouble> {
        let text = match self.operation.guilty_of() {
            None => Text::of(&plan.library)?,
            Some(_) => Text::of(&std::env::current_exe().map_err(|error| error.to_string())?)?,
        };
        let path = self.record(mode, &text)?;
        let (points, left_out) = trace::points(&path);
        /// Three processes take longer than two.
        const CROWD: usize = 2;
        let fit = match mode {
            Mode::Alone => self.operation.every(),
            Mode::Bystander | Mode::Early | Mode::Waiter => CROWD * self.operation.every(),
        };
        let every = plan.every.unwrap_or(fit).max(1);
        let mut report = Report::new(points.len(), left_out, every);
        let begin = Instant::now();
        for &point in points.iter().skip(plan.offset % every).step_by(every) {
            report.taken += 1;
            if let Err(finding) = self.kill_at(point, mode, &mut report) {
                self.place.clear();
                report.findings.push((Some(point), finding));
            }
            // Who is guilty once is guilty.
            let proven = |crime| {
                report
                    .findings
                    .iter()
                    .any(|(_, found)| found.crime == crime)
            };
            if report.findings.len() >= ENOUGH || self.operation.guilty_of().is_some_and(proven) {
                break;
            }
        }
        report.time = begin.elapsed();
        report.text = Some(text);
        Ok(report)
    }

    /// Returns the library, for those who are no victims.
    pub fn shmkit(&self) -> &Library {
        &self.shmkit
    }

    /// Returns the place, for those who bring their own victims.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// Refuses the status of a victim that was not killed, unless it has succeeded.
fn expect_success(status: Status) -> Result<(), Finding> {
    match status {
        0 => Ok(()),
        _ => Err(Crime::Misbehaved.found(format!("the operation returned {status}"))),
    }
}
