//! Templates of manifests: one text from which manifests and, in a test, the templates of the charts are made.
//!
//! Owns the four marks below and nothing of what they stand for.
//!
//! ```text
//! @name@                       a parameter, as a YAML scalar
//! @each@                       the element of the list around it
//! @file:NAME@                  alone on its line: a file, indented as the line is
//! #if FLAG  #unless FLAG  #each LIST  ...  #end      alone on their lines
//! ```

use std::collections::{BTreeMap, BTreeSet};

/// The mark around a parameter.
const MARK: char = '@';
/// What names a file rather than a parameter.
const FILE: &str = "file:";
/// The name of the element of the list around it.
pub(super) const EACH: &str = "each";

/// A template, read.
pub(super) struct Template<'a>(pub(super) Vec<Node<'a>>);

pub(super) enum Node<'a> {
    Line(&'a str),
    When { flag: &'a str, wanted: bool, body: Vec<Self> },
    Each { list: &'a str, body: Vec<Self> },
}

/// What is filled in to get manifests.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Parameters, each as a YAML scalar.
    pub scalars: BTreeMap<&'static str, String>,
    /// The flags that are set.
    pub flags: BTreeSet<&'static str>,
    /// Lists of YAML scalars.
    pub lists: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Template<'a> {
    /// Reads a template.
    ///
    /// # Errors
    /// The first line whose mark has no end or no beginning.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        Ok(Self(body(&mut lines, None)?))
    }

    /// Every name that is filled in.
    pub(super) fn render(&self, values: &Values, files: &BTreeMap<&str, &str>) -> Result<String, String> {
        let mut manifests = String::new();
        values.write(&self.0, None, &mut |line, each| {
            let filled = match file_of(line) {
                Some((indent, name)) => indented(files.get(name).ok_or_else(|| unknown(name))?, indent),
                None => fill(line, |name| values.scalar(name, each))?,
            };
            manifests.push_str(filled.trim_end_matches('\n'));
            manifests.push('\n');
            Ok(())
        })?;
        Ok(manifests)
    }
}

type Lines<'a> = std::iter::Enumerate<std::str::Lines<'a>>;

/// Reads lines up to the `#end` of `opened`, or to the end of the text.
fn body<'a>(lines: &mut Lines<'a>, opened: Option<usize>) -> Result<Vec<Node<'a>>, String> {
    let mut nodes = Vec::new();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        if let Some(flag) = line.strip_prefix("#if ") {
            nodes.push(Node::When { flag, wanted: true, body: body(lines, Some(number))? });
        } else if let Some(flag) = line.strip_prefix("#unless ") {
            nodes.push(Node::When { flag, wanted: false, body: body(lines, Some(number))? });
        } else if let Some(list) = line.strip_prefix("#each ") {
            nodes.push(Node::Each { list, body: body(lines, Some(number))? });
        } else if line == "#end" {
            return opened.map(|_| nodes).ok_or_else(|| format!("line {number}: #end ends nothing"));
        } else {
            nodes.push(Node::Line(line));
        }
    }
    opened.map_or(Ok(nodes), |number| Err(format!("line {number}: what begins here has no #end")))
}

impl Values {
    fn write<'a>(
        &self,
        nodes: &[Node<'a>],
        each: Option<&str>,
        line: &mut impl FnMut(&'a str, Option<&str>) -> Result<(), String>,
    ) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Line(text) => line(text, each)?,
                Node::When { flag, wanted, body } if self.flags.contains(flag) == *wanted => {
                    self.write(body, each, line)?;
                }
                Node::When { .. } => {}
                Node::Each { list, body } => {
                    for element in self.lists.get(list).ok_or_else(|| unknown(list))? {
                        self.write(body, Some(element), line)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn scalar(&self, name: &str, each: Option<&str>) -> Result<String, String> {
        let scalar = if name == EACH { each } else { self.scalars.get(name).map(String::as_str) };
        scalar.map(str::to_owned).ok_or_else(|| unknown(name))
    }
}

/// What is said of a name that nothing has.
pub(super) fn unknown(name: &str) -> String {
    format!("nothing is called {name}")
}

/// The indentation and the name of the file, where the line is one.
pub(super) fn file_of(line: &str) -> Option<(usize, &str)> {
    let name = line.trim_start().strip_prefix(MARK)?.strip_suffix(MARK)?.strip_prefix(FILE)?;
    Some((line.len() - line.trim_start().len(), name))
}

fn indented(text: &str, indent: usize) -> String {
    let lead = " ".repeat(indent);
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{lead}{line}\n") }).collect()
}

/// Replaces the parameters of a line.
pub(super) fn fill(line: &str, scalar: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    for (index, part) in line.split(MARK).enumerate() {
        if index % 2 == 0 { filled.push_str(part) } else { filled.push_str(&scalar(part)?) }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: @name@\n#if some\nb: 1\n#end\n#unless some\nb: 2\n#end\n#each list\n- @each@ @name@\n#end\nc: |\n  @file:f@\n";

    fn values(some: bool) -> Values {
        Values {
            scalars: [("name", "\"n\"".to_owned())].into(),
            flags: if some { ["some"].into() } else { BTreeSet::new() },
            lists: [("list", vec!["x".to_owned(), "y".to_owned()])].into(),
        }
    }

    #[test]
    fn manifests_are_the_template_with_its_marks_filled_in() {
        let files = BTreeMap::from([("f", "one\n\ntwo\n")]);
        let rendered = |some| Template::read(TEXT).unwrap().render(&values(some), &files).unwrap();
        assert_eq!(rendered(true), "a: \"n\"\nb: 1\n- x \"n\"\n- y \"n\"\nc: |\n  one\n\n  two\n");
        assert_eq!(rendered(false), "a: \"n\"\nb: 2\n- x \"n\"\n- y \"n\"\nc: |\n  one\n\n  two\n");
    }

    #[test]
    fn marks_without_a_match_and_names_that_are_unknown_are_refused() {
        for text in ["#if a\n", "#end\n", "#each a\n#if b\n#end\n"] {
            assert!(Template::read(text).is_err(), "{text}");
        }
        for text in ["@other@\n", "@each@\n", "#each other\n#end\n", "  @file:other@\n"] {
            assert!(Template::read(text).unwrap().render(&values(true), &BTreeMap::new()).is_err(), "{text}");
        }
    }
}
