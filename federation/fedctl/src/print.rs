//! What a person reads, and the one place where it is written.
//!
//! Owns standard output and standard error, colour, questions and progress. Answers go to standard output, everything else
//! to standard error, so that a program gets what it asked for and nothing more. A closed pipe is not an error. Never
//! decides what is said.

use std::{
    fmt,
    io::{self, BufRead, IsTerminal, Write},
    time::{Duration, SystemTime},
};

use federation_model::time::Timestamp;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{args::Format, failure::Failure};

/// The longest answer to a question, bytes.
const MAX_ANSWER: u64 = 64;
/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Where a command reads and writes.
pub struct Console {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    stdin: Box<dyn BufRead + Send>,
    features: Features,
    /// How answers are written.
    pub format: Format,
    /// The time the command was started.
    pub now: Timestamp,
}

/// What the other side of the console is able to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Colours on standard output.
    pub color: bool,
    /// Somebody is there to answer questions.
    pub questions: bool,
    /// Progress on standard error may be overwritten.
    pub progress: bool,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("features", &self.features)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// The console of this process.
    #[must_use]
    pub fn of_process(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let features = Features {
            color: io::stdout().is_terminal() && !plain,
            questions: io::stdin().is_terminal() && io::stderr().is_terminal(),
            progress: io::stderr().is_terminal() && !plain,
        };
        Self {
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            stdin: Box::new(io::BufReader::new(io::stdin())),
            features,
            format,
            now: SystemTime::now().into(),
        }
    }

    /// A console over other streams, at a given time.
    #[must_use]
    pub fn new(
        streams: (Box<dyn BufRead + Send>, Box<dyn Write + Send>, Box<dyn Write + Send>),
        features: Features,
        format: Format,
        now: Timestamp,
    ) -> Self {
        let (stdin, stdout, stderr) = streams;
        Self { stdout, stderr, stdin, features, format, now }
    }

    /// Whether answers are coloured.
    #[must_use]
    pub fn color(&self) -> bool {
        self.features.color
    }

    /// Writes an answer: the text for people, or the value for programs.
    pub(crate) fn answer(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) {
        match self.format {
            Format::Table => self.out(&text()),
            // Our own values have string keys and no foreign types, so writing them cannot fail.
            Format::Json => self.out(&serde_json::to_string_pretty(value).unwrap_or_default()),
        }
    }

    /// Writes text to standard output, ending the line.
    pub(crate) fn out(&mut self, text: &str) {
        // Whoever closed the pipe has read enough.
        let text = match self.format {
            Format::Table => shown(text),
            // What is special in it is escaped.
            Format::Json => text.to_owned(),
        };
        let _ = writeln!(self.stdout, "{}", text.trim_end_matches('\n')).and_then(|()| self.stdout.flush());
    }

    /// Writes a remark to standard error.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{}", shown(text).trim_end_matches('\n'));
    }

    /// Writes why the command could not run.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let mut lines = String::new();
        for (index, cause) in failure.causes().iter().enumerate() {
            let lead = if index == 0 { "error: " } else { "  because: " };
            lines.push_str(&format!("{lead}{cause}\n"));
        }
        self.note(&format!("{lines}  try: {}", failure.hint()));
    }

    /// Whether somebody is there to answer questions.
    pub(crate) fn can_ask(&self) -> bool {
        self.features.questions
    }

    /// Standard input, for what is too large to be read at once.
    pub(crate) fn input(&mut self) -> &mut (dyn BufRead + Send) {
        &mut *self.stdin
    }

    /// Asks a question that is answered with yes or no; when nobody is there to answer, nothing is asked and it is yes.
    pub(crate) fn confirms(&mut self, question: &str) -> bool {
        if !self.features.questions {
            return true;
        }
        let _ = write!(self.stderr, "{} [y/N] ", shown(question)).and_then(|()| self.stderr.flush());
        let mut answer = String::new();
        let read = io::Read::take(&mut self.stdin, MAX_ANSWER).read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Reads standard input to its end, at most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read or is not text.
    pub(crate) fn read_input(&mut self, limit: u64) -> io::Result<String> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(&mut self.stdin, limit), &mut text)?;
        Ok(text)
    }

    /// Starts to show progress.
    pub(crate) fn progress(&mut self, doing: &str) -> Progress<'_> {
        let spinner = self.features.progress.then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar.set_message(doing.to_owned());
            bar
        });
        Progress { console: self, spinner }
    }
}

/// The colours that tables have: none of them hides what it colours.
const COLOURS: [&str; 5] = ["\u{1b}[38;5;9m", "\u{1b}[38;5;10m", "\u{1b}[38;5;11m", "\u{1b}[39m", "\u{1b}[0m"];

/// A text as it may be shown. Much of it comes from programs elsewhere, which could otherwise move the cursor, hide what is on
/// the screen, or turn the direction of writing around, before somebody answers a question about it.
fn shown(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        let colour = COLOURS.iter().find(|colour| rest.starts_with(**colour));
        let length = match colour {
            Some(colour) => {
                shown.push_str(colour);
                colour.len()
            }
            None if next == '\n' || !(next.is_control() || turns(next)) => {
                shown.push(next);
                next.len_utf8()
            }
            None => {
                shown.push(' ');
                next.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    shown
}

/// Whether a character turns the direction of writing around (UAX #9).
const fn turns(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Progress of a command: a spinner on a terminal, lines otherwise.
pub(crate) struct Progress<'a> {
    console: &'a mut Console,
    spinner: Option<ProgressBar>,
}

impl Progress<'_> {
    /// Something is done.
    pub(crate) fn done(&mut self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| self.console.note(text)),
            None => self.console.note(text),
        }
    }

    /// What is being waited for.
    pub(crate) fn doing(&mut self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(shown(text));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_elsewhere_moves_no_cursor_hides_nothing_and_keeps_its_direction() {
        let green = "\u{1b}[38;5;10mok\u{1b}[39m\n";
        assert_eq!(shown(green), green);
        assert_eq!(shown("a\u{1b}[2Jb\u{1b}[8mc\rd\u{7}"), "a [2Jb [8mc d ");
        assert_eq!(shown("east\u{202e}tsew"), "east tsew");
        assert_eq!(shown("größer – 5 ms"), "größer – 5 ms");
    }
}
