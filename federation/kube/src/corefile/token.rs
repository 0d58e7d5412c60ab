//! The words of a Corefile, as the lexer of CoreDNS (that of Caddy 1) cuts them, each with its place in the text.

use std::ops::Range;

use super::CorefileError;

/// One word. A brace is one only when it stands alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// What it says, without quotes.
    pub(super) word: String,
    /// Where it is, quotes included.
    pub(super) span: Range<usize>,
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// The line it ends on: a quoted word may have several.
    pub(super) last_line: usize,
}

/// A comment that has its line for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    /// Its text, with the `#`.
    pub(super) text: String,
    /// The whole line, with its end.
    pub(super) span: Range<usize>,
    /// Its line, from 1.
    pub(super) line: usize,
}

/// The words and the comments of `text`.
///
/// # Errors
/// When a quote is not closed: CoreDNS would read on, and not what was meant.
pub(super) fn read(text: &str) -> Result<(Vec<Token>, Vec<Comment>), CorefileError> {
    let mut lexer = Lexer { text, at: 0, line: 1, tokens: Vec::new(), comments: Vec::new() };
    while let Some(next) = lexer.peek() {
        match next {
            '#' => lexer.comment(),
            '"' => lexer.quoted()?,
            next if is_space(next) => lexer.step(),
            _ => lexer.plain(),
        }
    }
    Ok((lexer.tokens, lexer.comments))
}

/// White space, and the mark with which some editors begin a file.
fn is_space(char: char) -> bool {
    char.is_whitespace() || char == '\u{feff}'
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn step(&mut self) {
        if let Some(char) = self.peek() {
            self.at += char.len_utf8();
            self.line += usize::from(char == '\n');
        }
    }

    fn push(&mut self, word: String, start: usize, line: usize) {
        self.tokens.push(Token { word, span: start..self.at, line, last_line: self.line });
    }

    /// A comment begins in the middle of a word too.
    fn comment(&mut self) {
        let length = self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at);
        let end = self.at + length;
        let from = self.text[..self.at].rfind('\n').map_or(0, |newline| newline + 1);
        if self.text[from..self.at].chars().all(is_space) {
            let whole = from..(end + 1).min(self.text.len());
            let text = self.text[self.at..end].trim_end().to_owned();
            self.comments.push(Comment { text, span: whole, line: self.line });
        }
        self.at = end;
    }

    fn plain(&mut self) {
        let start = self.at;
        while self.peek().is_some_and(|char| char != '#' && !is_space(char)) {
            self.step();
        }
        self.push(self.text[start..self.at].to_owned(), start, self.line);
    }

    fn quoted(&mut self) -> Result<(), CorefileError> {
        let (start, line) = (self.at, self.line);
        let mut word = String::new();
        self.step();
        while let Some(char) = self.peek() {
            self.step();
            match (char, self.peek()) {
                ('"', _) => {
                    self.push(word, start, line);
                    return Ok(());
                }
                ('\\', Some(escaped)) => {
                    self.step();
                    // Only quotes can be escaped; all else stands for itself, the backslash too.
                    if escaped != '"' {
                        word.push('\\');
                    }
                    word.push(escaped);
                }
                (char, _) => word.push(char),
            }
        }
        Err(CorefileError::Quote { line })
    }
}
