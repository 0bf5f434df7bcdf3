//! A YAML document as a tree in which everything knows its place.

/// Line and column, both from 1; zeros when unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) location: Location,
    pub(super) value: Value,
}

/// What a value is. Numbers keep their text: `0640` and `640` are the same number to a YAML
/// parser, but not to the person who typed them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(String),
    Float(String),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value. A tree has no key twice in one map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) location: Location,
    pub(super) node: Node,
}

impl Node {
    /// The entry of this map under `key`; none also if this is no map.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of this map under `key`, if it is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key)
            .map(|entry| &entry.node)
            .filter(|node| node.value != Value::Null)
    }

    /// The best place to show for the field `path` (`spec.trustStores[1].trustDomain`): the value
    /// if it is a single one, else its key; for a field that is not there, whatever holds it.
    pub(super) fn locate(&self, path: &str) -> Location {
        let mut node = self;
        let mut best = self.location;
        for step in path.split(['.', '[']) {
            let (next, at) = match (&node.value, step.strip_suffix(']')) {
                (Value::Seq(items), Some(index)) => {
                    match index.parse().ok().and_then(|index: usize| items.get(index)) {
                        Some(item) => (item, item.location),
                        None => return best,
                    }
                }
                (Value::Map(_), None) => match node.entry(step) {
                    Some(entry) => (&entry.node, entry.location),
                    None => return best,
                },
                _ => return best,
            };
            best = match next.value {
                Value::Seq(_) | Value::Map(_) | Value::Null => at,
                _ => next.location,
            };
            node = next;
        }
        best
    }

    /// The value in words, for a message about a wrong type.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("{value}"),
            Value::Int(text) | Value::Float(text) => {
                format!(
                    "the number {}",
                    super::problem::quote(text).trim_matches('"')
                )
            }
            Value::String(text) => format!("the text {}", super::problem::quote(text)),
            Value::Seq(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// Whether `path` is `ancestor` or lies inside it.
pub(super) fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path of the field `key` in what `path` leads to.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
