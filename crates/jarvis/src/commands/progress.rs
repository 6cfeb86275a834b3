//! How far moving, archiving or restoring has come, for whoever waits.

use jarvis_store::keep::{Contents, Progress, Step};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

/// One line on a terminal that changes; elsewhere a line for each table that is begun.
pub(super) struct Shown {
    terminal: bool,
    last: Option<(Step, &'static str)>,
    open: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            last: None,
            open: false,
        }
    }
}

impl Shown {
    pub(super) fn step(&mut self, progress: Progress) {
        let now = Some((progress.step, progress.table));
        let next = self.last != now;
        self.last = now;
        if !self.terminal && !next {
            return;
        }
        let text = line(&progress);
        // Nobody is left to tell if standard error is closed.
        let mut out = io::stderr();
        let _ = match (self.terminal, next && self.open) {
            (true, true) => write!(out, "\n\r{text}\x1b[K"),
            (true, false) => write!(out, "\r{text}\x1b[K"),
            (false, _) => writeln!(out, "{text}"),
        };
        self.open = self.terminal;
    }

    /// Ends the line.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(io::stderr());
        }
    }
}

fn line(progress: &Progress) -> String {
    let step = match progress.step {
        Step::Copying => "copying  ",
        Step::Verifying => "verifying",
    };
    let (table, rows) = (progress.table, progress.rows);
    match progress.of {
        Some(of) => format!("{step}  {table:<18} {rows} of {of}"),
        None => format!("{step}  {table:<18} {rows}"),
    }
}

/// A line for each table, with the count and checksum of its rows.
pub(super) fn contents(contents: &Contents) -> String {
    let mut text = String::new();
    for (table, tally) in &contents.tables {
        let _ = writeln!(
            text,
            "{table:<18} {:>9}  {}",
            tally.rows(),
            tally.checksum()
        );
    }
    text
}
