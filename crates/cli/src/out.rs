//! Tell people, and tell programs.
//!
//! Results go to standard output, as text or as one JSON object a line; messages and progress go to
//! standard error. Progress is a line in place after 300 ms on a terminal, a line every ten seconds elsewhere,
//! an object with `--json`.

use serde_json::Value;
use std::{
    io::{IsTerminal, Write, stderr, stdin, stdout},
    time::{Duration, Instant},
};

use crate::fault::{self, Fault, Result};

/// Shorter work needs no progress.
const QUIET: Duration = Duration::from_millis(300);
const TERMINAL_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How this command talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// The result of a command: `text` for people, `value` (which names its schema) for programs.
    pub(crate) fn result(&self, text: impl AsRef<str>, value: &Value) {
        assert!(value["schema"].is_string(), "each object names its schema");
        if self.json {
            self.line(&value.to_string());
        } else if !text.as_ref().is_empty() {
            self.line(&visible(text.as_ref()));
        }
    }

    /// A line on standard output. A reader that went away (`| head`) ends the command quietly.
    pub(crate) fn line(&self, text: &str) {
        let mut to = stdout().lock();
        if writeln!(to, "{text}").and_then(|()| to.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// A message beside the result.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            // Nobody reading messages is no reason to fail.
            let _ = writeln!(stderr().lock(), "{}", visible(text.as_ref()));
        }
    }

    /// The next useful command.
    pub(crate) fn next(&self, command: impl AsRef<str>) {
        if stdout().is_terminal() {
            self.say(format!("Next: {}", command.as_ref()));
        }
    }

    pub(crate) fn fault(&self, fault: &Fault) {
        let text = if self.json { fault.json().to_string() } else { visible(&fault.to_string()) };
        let _ = writeln!(stderr().lock(), "{text}");
    }

    /// Asks once, on a terminal; elsewhere nobody can say yes.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<()> {
        if yes {
            return Ok(());
        }
        let refused = |message: &str| {
            Err(Fault::new(&fault::CONFIRM, message, "pass -y to agree beforehand, or --dry-run to only look"))
        };
        if !stdin().is_terminal() || self.json {
            return refused("it costs something or changes what there is, and nobody is here to agree");
        }
        let _ = write!(stderr().lock(), "{question} [y/N] ");
        let mut answer = String::new();
        match stdin().read_line(&mut answer) {
            Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            _ => refused("the answer was no; nothing was changed"),
        }
    }

    pub(crate) fn progress(&self, what: impl Into<String>, total: Option<u64>) -> Progress {
        Progress {
            out: *self,
            what: what.into(),
            total,
            done: 0,
            started: Instant::now(),
            shown: None,
            terminal: stderr().is_terminal(),
        }
    }
}

/// Bytes done of bytes wanted.
pub(crate) struct Progress {
    out: Out,
    what: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        let now = Instant::now();
        let live = self.terminal && !self.out.json;
        let due = match self.shown {
            Some(shown) => now - shown >= if live { TERMINAL_EVERY } else { LINE_EVERY },
            None => now - self.started >= if live { QUIET } else { LINE_EVERY },
        };
        if due {
            self.shown = Some(now);
            self.show(now - self.started);
        }
    }

    fn show(&self, elapsed: Duration) {
        let mut to = stderr().lock();
        let _ = if self.out.json {
            let object = serde_json::json!({
                "schema": "hodei.progress/1", "event": "progress", "what": self.what,
                "done_bytes": self.done, "total_bytes": self.total, "elapsed_ms": elapsed.as_millis() as u64,
            });
            writeln!(to, "{object}")
        } else {
            let line = line(&one_line(&self.what), self.done, self.total, elapsed);
            if self.terminal { write!(to, "\r\x1b[K{line}").and_then(|()| to.flush()) } else { writeln!(to, "{line}") }
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() && self.terminal && !self.out.json {
            let _ = write!(stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let speed = format!("{}/s", bytes(rate as u64));
    match total.filter(|&total| total > 0) {
        None => format!("{what}  {}  {speed}", bytes(done)),
        Some(total) => {
            let share = done.min(total) as f64 / total as f64;
            let full = (share * 20.0) as usize;
            let left =
                if rate < 1.0 { "?".into() } else { format!("{} s", ((total - done.min(total)) as f64 / rate).ceil()) };
            format!(
                "{what}  [{}{}] {:3.0} %  {} of {}  {speed}  {left} left",
                "=".repeat(full),
                " ".repeat(20 - full),
                share * 100.0,
                bytes(done),
                bytes(total),
            )
        }
    }
}

/// What somebody else named must not steer the terminal: text of one line without control characters.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// The same of text that has lines of its own.
fn visible(text: &str) -> String {
    let is_steering = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if is_steering(letter) { '\u{fffd}' } else { letter }).collect()
}

/// `1.5 MiB`: binary units, one digit after the point.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit takes everything")
}

/// Columns under upper-case headers, without borders.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let draw = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = draw(head.to_vec());
    let rows = rows.iter().map(|row| draw(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn progress_says_how_far_how_fast_and_how_long() {
        let line = line("put", 512 << 20, Some(1 << 30), Duration::from_secs(4));
        for part in ["50 %", "512.0 MiB of 1.0 GiB", "128.0 MiB/s", "4 s left", "[==========          ]"] {
            assert!(line.contains(part), "{part:?} is missing from {line:?}");
        }
    }

    #[test]
    fn names_of_others_steer_no_terminal() {
        let text = table(&["OBJECT"], &[vec!["a\u{1b}[31m\nb\u{9b}2J".into()]]);
        assert_eq!(text, "OBJECT\na\u{fffd}[31m\u{fffd}b\u{fffd}2J");
        assert_eq!(visible("removed a\u{1b}[2J\r\n  next\tline"), "removed a\u{fffd}[2J\u{fffd}\n  next\tline");
    }

    #[test]
    fn tables_line_up_and_have_no_trailing_blanks() {
        let text = table(&["NAME", "SIZE"], &[vec!["a".into(), "1 B".into()], vec!["longer".into(), "22 B".into()]]);
        assert_eq!(text, "NAME    SIZE\na       1 B\nlonger  22 B");
    }
}
