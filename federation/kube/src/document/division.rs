//! A file divided into its documents.
//!
//! Owns the markers and the lines. Never parses.

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub(crate) text: &'a str,
    /// How many bytes of the file precede `text`.
    pub(crate) offset: usize,
    /// How many lines of the file precede `text`.
    pub(crate) lines_before: u32,
    /// How many lines of the file precede its first line with content.
    content_before: u32,
}

impl Document<'_> {
    /// The line of the file it starts at.
    pub(crate) fn line(&self) -> u32 {
        self.content_before.saturating_add(1)
    }
}

/// Divides a file at its document markers. `---` and `...` at the start of a line are markers wherever they stand, even
/// within a block scalar (YAML 1.2.2 section 9.1.2), so the lines alone decide, and a document that does not parse
/// takes no other with it.
pub(crate) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    // Editors of some systems put a byte order mark first.
    let mut offset = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text_start = offset;
    let (mut start, mut start_line) = (offset, 0);
    let mut content_line = None;
    let mut line_number = 0_u32;
    let document = |start, end, lines_before, content_before| Document {
        text: &text[start..end],
        offset: start,
        lines_before,
        content_before,
    };
    for line in text[text_start..].split_inclusive('\n') {
        if is_marker(line, "---") || is_marker(line, "...") {
            if let Some(content_before) = content_line.take() {
                documents.push(document(start, offset, start_line, content_before));
            }
            // A document may start on the line of its marker; what follows "..." may only be a comment.
            (start, start_line) = (offset, line_number);
            if is_marker(line, "...") {
                (start, start_line) = (offset + line.len(), line_number.saturating_add(1));
            } else if has_content(&line[3..]) {
                content_line = Some(line_number);
            }
        } else if content_line.is_none() && has_content(line) {
            content_line = Some(line_number);
        }
        offset += line.len();
        line_number = line_number.saturating_add(1);
    }
    if let Some(content_before) = content_line {
        documents.push(document(start, text.len(), start_line, content_before));
    }
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line says anything: blank lines, comments and directives (`%YAML 1.2`) do not.
fn has_content(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_divided_at_their_markers_alone() {
        let text = "%YAML 1.2\n--- # first\na: 1\n...\n# nothing\n---\n---\n\n# two\nb: |\n  x\n---- no marker\n--- {c: 3}\r\n";
        let parts: Vec<_> = split(text).iter().map(|d| (d.text.to_owned(), d.lines_before, d.line())).collect();
        assert_eq!(
            parts,
            [
                ("--- # first\na: 1\n".to_owned(), 1, 3),
                ("---\n\n# two\nb: |\n  x\n---- no marker\n".to_owned(), 6, 10),
                ("--- {c: 3}\r\n".to_owned(), 12, 13),
            ]
        );
        assert!(split("").is_empty());
        assert!(split("---\n# only a comment\n---\n").is_empty());
    }

    #[test]
    fn a_document_knows_where_in_its_file_it_stands() {
        let text = "\u{feff}a: 1\n---\nb: 2\n...\nc: 3";
        let parts = split(text);
        assert_eq!(parts.iter().map(|d| d.text).collect::<Vec<_>>(), ["a: 1\n", "---\nb: 2\n", "c: 3"]);
        assert!(parts.iter().all(|d| text[d.offset..].starts_with(d.text)));
    }
}
