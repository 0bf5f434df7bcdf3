//! YAML text to located trees, within bounds. The only module that knows the YAML crate.
//!
//! It reads the parser's events, not serde values: only there a key has a place, a duplicate key
//! is still visible and a number still has its text.

mod builder;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScanError, StrInput};

use self::builder::Builder;
use super::tree::{Location, Node};

/// The largest text of one source, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most documents in one source.
pub const MAX_DOCUMENTS: usize = 10_000;
/// The deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 32;
/// The most values in one source. With [`MAX_BYTES`] it bounds the memory of any tree.
pub const MAX_NODES: usize = 100_000;

/// Something that keeps a text, a document or a key of it from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlProblem {
    pub(super) location: Location,
    /// The path of the duplicate key; none if the whole document is lost.
    pub(super) field: Option<String>,
    pub(super) message: String,
}

impl YamlProblem {
    fn new(location: Location, message: impl Into<String>) -> Self {
        Self {
            location,
            field: None,
            message: message.into(),
        }
    }
}

/// One document, or why it could not be read; duplicate keys are problems of a readable document.
pub(super) struct Document {
    /// None if the document is empty or could not be read.
    pub(super) root: Option<Node>,
    pub(super) problems: Vec<YamlProblem>,
}

impl Document {
    fn broken(problem: YamlProblem) -> Self {
        Self {
            root: None,
            problems: vec![problem],
        }
    }
}

/// The documents of one text, one at a time: a broken one does not hide those behind it.
pub(super) struct Documents<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    started: usize,
    nodes: usize,
    finished: bool,
}

impl<'t> Documents<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut options = granit_parser::options! {
            emit_unresolved_aliases: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        options.set_emit_comments(false);
        let parser = Parser::new_from_str_with_options(text, options);
        Self {
            text,
            parser,
            started: 0,
            nodes: 0,
            finished: false,
        }
    }

    /// Ends the iteration: what follows is not read.
    fn stop(&mut self, location: Location, message: String) -> Document {
        self.finished = true;
        Document::broken(YamlProblem::new(location, message))
    }

    /// The tree of the document that has just started, or why there is none.
    fn read_document(&mut self) -> Result<(Option<Node>, Vec<YamlProblem>), Failure> {
        let mut builder = Builder::default();
        loop {
            let Some(next) = self.parser.next_event() else {
                return Ok(builder.finish());
            };
            let (event, span) = next.map_err(|error| Failure::Syntax(Box::new(error)))?;
            if event.is_node() {
                self.nodes += 1;
                if self.nodes > MAX_NODES {
                    return Err(Failure::TooManyNodes(location(&span.start)));
                }
            }
            match event {
                Event::DocumentEnd | Event::StreamEnd => return Ok(builder.finish()),
                other => builder.take(other, &span).map_err(Failure::Refused)?,
            }
        }
    }

    /// Moves behind the broken document; whether there is another one.
    fn recover(&mut self) {
        if !self.parser.proceed_next_document().unwrap_or(false) {
            self.finished = true;
        }
    }
}

enum Failure {
    Syntax(Box<ScanError>),
    Refused(YamlProblem),
    TooManyNodes(Location),
}

impl Iterator for Documents<'_> {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        if self.finished {
            return None;
        }
        if self.text.len() > MAX_BYTES {
            let message = format!(
                "the file has {} bytes, more than the {MAX_BYTES} that are read; split it",
                self.text.len()
            );
            return Some(self.stop(Location::default(), message));
        }
        loop {
            let syntax = match self.parser.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => {
                    self.finished = true;
                    return None;
                }
                Some(Ok((Event::DocumentStart(..), span))) => {
                    self.started += 1;
                    if self.started > MAX_DOCUMENTS {
                        let message =
                            format!("more than {MAX_DOCUMENTS} documents in one file; split it");
                        return Some(self.stop(location(&span.start), message));
                    }
                    match self.read_document() {
                        Ok((root, problems)) => return Some(Document { root, problems }),
                        Err(Failure::TooManyNodes(at)) => {
                            let message = format!(
                                "more than {MAX_NODES} values in one file; this is no configuration"
                            );
                            return Some(self.stop(at, message));
                        }
                        Err(Failure::Refused(problem)) => {
                            self.recover();
                            return Some(Document::broken(problem));
                        }
                        Err(Failure::Syntax(error)) => error,
                    }
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => {
                    self.started += 1;
                    Box::new(error)
                }
            };
            let problem = explain(&syntax, self.text);
            self.recover();
            return Some(Document::broken(problem));
        }
    }
}

/// A syntax error in words that name the place where somebody has to type.
fn explain(error: &ScanError, text: &str) -> YamlProblem {
    let at = location(error.marker());
    if let Some(tab) = tab_in_indentation(text, error.marker(), error.kind()) {
        let message = "a tab in the indentation: YAML is indented by spaces only; replace the tab";
        return YamlProblem::new(tab, message);
    }
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(at);
    }
    let info = error.info();
    let first = info.lines().next().unwrap_or_default();
    YamlProblem::new(at, format!("the YAML cannot be read from here on: {first}"))
}

fn too_deep(at: Location) -> YamlProblem {
    let message = format!(
        "lists and maps are nested deeper than {MAX_DEPTH} levels; this is no configuration"
    );
    YamlProblem::new(at, message)
}

/// The tab that probably caused the error: on its line, or on one beside it.
///
/// Looks at these three lines only, so that many errors in a long text stay cheap.
fn tab_in_indentation(text: &str, mark: &Marker, kind: &ErrorKind) -> Option<Location> {
    let is_about_tabs = matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
    );
    let at = location(mark);
    let tab = |start: usize, line: u32| {
        let rest = text.get(start..)?;
        let indentation = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let column = u32::try_from(rest.get(..indentation)?.find('\t')?).ok()?;
        Some(Location {
            line,
            column: column + 1,
        })
    };
    let found = mark.byte_offset().and_then(|offset| {
        let breaks = ['\n', '\r'];
        let start_of = |end| Some(text.get(..end)?.rfind(breaks).map_or(0, |index| index + 1));
        let own = start_of(offset)?;
        let next = text
            .get(offset..)?
            .find('\n')
            .map(|index| offset + index + 1);
        let before = own.checked_sub(1).and_then(start_of);
        tab(own, at.line)
            .or_else(|| tab(next?, at.line.saturating_add(1)))
            .or_else(|| tab(before?, at.line.saturating_sub(1)))
    });
    found.or(is_about_tabs.then_some(at))
}

fn location(mark: &Marker) -> Location {
    Location {
        line: u32::try_from(mark.line()).unwrap_or(u32::MAX),
        column: u32::try_from(mark.col().saturating_add(1)).unwrap_or(u32::MAX),
    }
}
