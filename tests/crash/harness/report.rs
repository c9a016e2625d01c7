//! Tells what came of a series of deaths: one line, and everything about what was found.

use crate::suite::harness::library::Text;
use crate::suite::harness::operation::{Crime, Finding};
use crate::suite::harness::trace::Point;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

/// What came of a series.
pub struct Report {
    /// Points on the path.
    pub points: usize,
    /// Repeats in loops that are not among them.
    pub left_out: usize,
    /// Every how many of them were to be taken.
    pub every: usize,
    /// Points for which a victim was started.
    pub taken: usize,
    /// Victims that were killed where they should; with a waiter that dies, waiters killed while they waited.
    pub killed: usize,
    /// Victims that never came to their point: a pass says nothing of it.
    pub not_reached: usize,
    /// How often somebody waited for the victim.
    pub waited: usize,
    /// What else there is to say.
    pub note: String,
    /// What was wrong, and where the victim was killed.
    pub findings: Vec<(Option<Point>, Finding)>,
    /// How long it took.
    pub time: Duration,
    /// Whose instructions the points are.
    pub text: Option<Text>,
}

impl Report {
    /// Begins one.
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
            findings: Vec::new(),
            time: Duration::ZERO,
            text: None,
        }
    }

    /// Says what is wrong with the series itself: a pass that says nothing is none.
    fn nonsense(&self, waiters: bool) -> Option<&'static str> {
        /// With fewer than this a rotating offset may miss every point at which somebody waits.
        const SURELY: usize = 30;
        if self.killed + self.waited == 0 {
            return Some("nobody was killed");
        }
        if self.not_reached > self.killed {
            return Some("most points were not reached");
        }
        if waiters && self.waited == 0 && self.killed >= SURELY {
            return Some("nobody ever waited");
        }
        None
    }

    /// Writes it down; true if all is well. `guilty_of`: what must have been found.
    pub fn tell(&self, name: &str, guilty_of: Option<Crime>, waiters: bool) -> (String, bool) {
        let proven = |crime| {
            self.findings
                .iter()
                .any(|(_, finding)| finding.crime == crime)
        };
        let wrong = match guilty_of {
            None if !self.findings.is_empty() => Some("FAILED".to_owned()),
            Some(crime) if !proven(crime) => Some(format!("FAILED: not found guilty of {crime:?}")),
            _ => self.nonsense(waiters).map(|text| format!("FAILED: {text}")),
        };
        let verdict = match (&wrong, guilty_of) {
            (Some(wrong), _) => wrong.clone(),
            (None, Some(crime)) => format!("found guilty of {crime:?}, as it should"),
            (None, None) => "ok".to_owned(),
        };
        let speed = self.taken as f64 / self.time.as_secs_f64().max(1e-9);
        let waited = match waiters {
            true => format!(", {} with a waiter", self.waited),
            false => String::new(),
        };
        let mut text = format!(
            "{name:<56} {:>6} points (+{} repeats), every {:>3}: {:>5} killed{waited}, {} not reached, {:>4.0}/s{}: \
             {verdict}\n",
            self.points, self.left_out, self.every, self.killed, self.not_reached, speed, self.note
        );
        if wrong.is_some() {
            self.tell_findings(&mut text);
        }
        (text, wrong.is_none())
    }

    fn tell_findings(&self, out: &mut String) {
        for (point, finding) in &self.findings {
            let place = match (point, &self.text) {
                (Some(point), Some(text)) => describe(*point, text),
                _ => "at a random time".to_owned(),
            };
            let _ = writeln!(out, "    killed {place}\n        {finding}");
        }
    }
}

/// Names an instruction: its offset in the file, and its function and line where addr2line is installed.
fn describe(point: Point, text: &Text) -> String {
    let offset = point.address - text.base;
    let file = text.path.file_name().unwrap_or_default().to_string_lossy();
    let mut place = format!("at {file}+{offset:#x}, time {}", point.time);
    let looked_up = Command::new("addr2line")
        .args(["-C", "-f", "-i", "-p", "-s", "-e"])
        .arg(&text.path)
        .arg(format!("{offset:#x}"))
        .output();
    if let Ok(found) = looked_up {
        for line in String::from_utf8_lossy(&found.stdout).lines() {
            let _ = write!(place, "\n        {}", line.trim());
        }
    }
    place
}
