//! The report of a series: one line, and all failures.

use crate::suite::harness::library::Text;
use crate::suite::harness::operation::{Failure, Violation};
use crate::suite::harness::trace::Point;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

/// The result of a series.
pub struct Report {
    /// The points on the path.
    pub points: usize,
    /// The repeats in loops that are not among them.
    pub left_out: usize,
    /// The step between two kill points.
    pub every: usize,
    /// The points for which a victim was started.
    pub taken: usize,
    /// The victims killed at their point; if the bystander dies, the bystanders killed while they waited.
    pub killed: usize,
    /// The victims that did not reach their point, which a pass does not cover.
    pub not_reached: usize,
    /// The number of times that a bystander waited for the victim.
    pub waited: usize,
    /// A note.
    pub note: String,
    /// The failures, and where the victim was killed.
    pub failures: Vec<(Option<Point>, Failure)>,
    /// The duration.
    pub time: Duration,
    /// The file whose instructions the points are.
    pub text: Option<Text>,
}

impl Report {
    /// Returns an empty report.
    pub fn new(points: usize, left_out: usize, every: usize) -> Report {
        Report {
            points,
            left_out,
            every,
            taken: 0,
            killed: 0,
            not_reached: 0,
            waited: 0,
            note: String::new(),
            failures: Vec::new(),
            time: Duration::ZERO,
            text: None,
        }
    }

    /// Returns why a pass of the series proves nothing.
    fn proves_nothing(&self, waiters: bool) -> Option<&'static str> {
        /// With fewer deaths, a step may miss all points at which a bystander waits.
        const MIN_DEATHS: usize = 30;
        if self.killed + self.waited == 0 {
            return Some("no victim was killed");
        }
        if self.not_reached > self.killed {
            return Some("most points were not reached");
        }
        if waiters && self.waited == 0 && self.killed >= MIN_DEATHS {
            return Some("no bystander has waited");
        }
        None
    }

    /// Returns the text, and whether the series has passed. `expect_violation`: the violation that must be detected.
    pub fn describe(
        &self,
        name: &str,
        expect_violation: Option<Violation>,
        waiters: bool,
    ) -> (String, bool) {
        let detected = |violation| {
            self.failures
                .iter()
                .any(|(_, failure)| failure.violation == violation)
        };
        let wrong = match expect_violation {
            None if !self.failures.is_empty() => Some("FAILED".to_owned()),
            Some(violation) if !detected(violation) => {
                Some(format!("FAILED: {violation:?} was not detected"))
            }
            _ => self
                .proves_nothing(waiters)
                .map(|text| format!("FAILED: {text}")),
        };
        let verdict = match (&wrong, expect_violation) {
            (Some(wrong), _) => wrong.clone(),
            (None, Some(violation)) => format!("ok, detected {violation:?}"),
            (None, None) => "ok".to_owned(),
        };
        let speed = self.taken as f64 / self.time.as_secs_f64().max(1e-9);
        let waited = match waiters {
            true => format!(", {} made a bystander wait", self.waited),
            false => String::new(),
        };
        let mut text = format!(
            "{name:<64} {:>6} points (+{} repeats), every {:>3}: {:>5} killed{waited}, {} not reached, {:>4.0}/s{}: \
             {verdict}\n",
            self.points, self.left_out, self.every, self.killed, self.not_reached, speed, self.note
        );
        if wrong.is_some() {
            self.describe_failures(&mut text);
        }
        (text, wrong.is_none())
    }

    fn describe_failures(&self, out: &mut String) {
        for (point, failure) in &self.failures {
            let place = match (point, &self.text) {
                (Some(point), Some(text)) => describe_point(*point, text),
                _ => "at a random time".to_owned(),
            };
            let _ = writeln!(out, "    killed {place}\n        {failure}");
        }
    }
}

/// Describes an instruction: its offset in the file, and its function and line if addr2line is installed.
fn describe_point(point: Point, text: &Text) -> String {
    let offset = point.address - text.base;
    let file = text.path.file_name().unwrap_or_default().to_string_lossy();
    let mut place = format!("at {file}+{offset:#x}, time {}", point.time);
    let output = Command::new("addr2line")
        .args(["-C", "-f", "-i", "-p", "-s", "-e"])
        .arg(&text.path)
        .arg(format!("{offset:#x}"))
        .output();
    if let Ok(output) = output {
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let _ = write!(place, "\n        {}", line.trim());
        }
    }
    place
}
