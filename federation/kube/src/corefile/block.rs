//! The server blocks of a Corefile, by the rules of the parser of CoreDNS (that of Caddy 1).
//!
//! Owns what belongs to which block. What a directive means is nobody's business here, but for `import` of a snippet.

use std::ops::Range;

use super::{CorefileError, key::Key, token::Token};

/// The deepest chain of snippets that import each other.
const MAX_DEPTH: usize = 8;
/// The most directives of all server blocks, those of a snippet as often as it is imported: a large Corefile has some hundreds.
pub(super) const MAX_DIRECTIVES: usize = 10_000;

/// One server block, or a snippet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerBlock {
    /// What it serves.
    pub(super) keys: Vec<Key>,
    /// From its first key to its closing brace.
    pub(super) span: Range<usize>,
    /// Its first line, from 1.
    pub(super) line: usize,
    directives: Vec<Directive>,
}

/// A directive with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive(Vec<Token>);

/// Everything a Corefile says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    /// The server blocks, in order.
    pub(super) servers: Vec<ServerBlock>,
    /// What is imported between them.
    pub(super) imports: Vec<String>,
    snippets: Vec<(String, ServerBlock)>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.0.first().map_or("", |token| token.word.as_str())
    }

    /// Its words after the name.
    pub(super) fn arguments(&self) -> Vec<&str> {
        self.0.iter().skip(1).map(|token| token.word.as_str()).collect()
    }

    /// Its words, line by line.
    pub(super) fn lines(&self) -> Vec<Vec<&str>> {
        let lines = self.0.chunk_by(|one, next| one.last_line >= next.line);
        lines.map(|line| line.iter().map(|token| token.word.as_str()).collect()).collect()
    }

    /// Its place in the text.
    pub(super) fn span(&self) -> Range<usize> {
        let ends = self.0.first().zip(self.0.last());
        ends.map_or(0..0, |(first, last)| first.span.start..last.span.end)
    }
}

impl Blocks {
    /// Reads the words of a whole Corefile.
    ///
    /// # Errors
    /// When CoreDNS would not take it, or takes all of it for one block, or there is too much of it.
    pub(super) fn read(tokens: &[Token]) -> Result<Self, CorefileError> {
        let mut parser = Parser { tokens, at: 0 };
        let mut blocks = Self::default();
        while parser.peek().is_some() {
            if let Some(imported) = parser.import() {
                blocks.imports.extend(imported);
                continue;
            }
            let (words, block) = parser.block()?;
            match words.as_slice() {
                [word] if word.starts_with('(') && word.ends_with(')') => {
                    let name = word.trim_matches(['(', ')']).to_owned();
                    blocks.snippets.push((name, block));
                }
                _ => blocks.servers.push(block),
            }
        }
        blocks.limited()
    }

    /// These, where it is not too much to go through.
    fn limited(self) -> Result<Self, CorefileError> {
        let mut left = MAX_DIRECTIVES;
        for block in &self.servers {
            let all = self.gather(block, MAX_DEPTH, &mut left);
            all.ok_or(CorefileError::Directives { line: block.line })?;
        }
        Ok(self)
    }

    /// The directives of a block, those of its snippets in their places.
    pub(super) fn directives<'a>(&'a self, block: &'a ServerBlock) -> Vec<&'a Directive> {
        // There is always something: whatever was read is within the limit.
        let mut left = MAX_DIRECTIVES;
        self.gather(block, MAX_DEPTH, &mut left).unwrap_or_default()
    }

    /// Nothing when there are more than `left`.
    fn gather<'a>(&'a self, block: &'a ServerBlock, depth: usize, left: &mut usize) -> Option<Vec<&'a Directive>> {
        let mut all = Vec::new();
        for directive in &block.directives {
            *left = left.checked_sub(1)?;
            let imported = directive.arguments().first().filter(|_| directive.name() == "import").copied();
            let snippet = imported.and_then(|name| self.snippets.iter().find(|(known, _)| known == name));
            match snippet {
                Some((_, snippet)) if depth > 0 => all.extend(self.gather(snippet, depth - 1, left)?),
                Some(_) | None => all.push(directive),
            }
        }
        Some(all)
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, word: &str) -> bool {
        self.peek().is_some_and(|token| token.word == word)
    }

    /// Whether the next word is the first of its line.
    fn on_new_line(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.zip(self.peek()).is_none_or(|(before, next)| before.last_line < next.line)
    }

    /// The line to name when something is missing at the end.
    fn line(&self) -> usize {
        self.peek().or_else(|| self.tokens.last()).map_or(1, |token| token.line)
    }

    /// What an import between blocks names.
    fn import(&mut self) -> Option<Vec<String>> {
        if !(self.is("import") && self.on_new_line()) {
            return None;
        }
        self.at += 1;
        let mut named = Vec::new();
        while let Some(token) = self.peek().filter(|_| !self.on_new_line()) {
            named.push(token.word.clone());
            self.at += 1;
        }
        Some(named)
    }

    fn block(&mut self) -> Result<(Vec<String>, ServerBlock), CorefileError> {
        let (start, line) = self.peek().map_or((0, 1), |token| (token.span.start, token.line));
        let words = self.keys()?;
        if !self.is("{") {
            return Err(CorefileError::Unbraced { line });
        }
        self.at += 1;
        let directives = self.directives(line)?;
        let end = self.tokens[self.at].span.end;
        self.at += 1;
        let keys = words.iter().map(|word| Key::of(word)).collect();
        Ok((words, ServerBlock { keys, span: start..end, line, directives }))
    }

    /// The keys before the brace; a comma at the end of one goes on to the next line.
    fn keys(&mut self) -> Result<Vec<String>, CorefileError> {
        let mut keys = Vec::new();
        let mut goes_on = true;
        while let Some(token) = self.peek() {
            if token.word == "{" || (!goes_on && self.on_new_line()) {
                break;
            }
            if token.word == "}" {
                return Err(CorefileError::Brace { line: token.line });
            }
            let word = token.word.strip_suffix(',');
            goes_on = word.is_some();
            keys.push(word.unwrap_or(&token.word).to_owned());
            self.at += 1;
        }
        if keys.is_empty() { Err(CorefileError::Brace { line: self.line() }) } else { Ok(keys) }
    }

    /// The directives of the block that began on `line`, up to its closing brace.
    fn directives(&mut self, line: usize) -> Result<Vec<Directive>, CorefileError> {
        let mut directives = Vec::new();
        loop {
            match self.peek() {
                None => return Err(CorefileError::Unclosed { line }),
                Some(token) if token.word == "}" => return Ok(directives),
                Some(_) => directives.push(self.directive(line)?),
            }
        }
    }

    fn directive(&mut self, line: usize) -> Result<Directive, CorefileError> {
        let (start, mut depth) = (self.at, 0_usize);
        self.at += 1;
        while let Some(token) = self.peek() {
            match token.word.as_str() {
                "{" => depth += 1,
                _ if depth == 0 && self.on_new_line() => break,
                "}" => depth = depth.checked_sub(1).ok_or(CorefileError::Brace { line: token.line })?,
                _ => {}
            }
            self.at += 1;
        }
        if depth > 0 {
            return Err(CorefileError::Unclosed { line });
        }
        Ok(Directive(self.tokens[start..self.at].to_vec()))
    }
}
