//! Read YAML into one tree that knows the line of everything in it.
//!
//! Anchors, aliases and merge keys are worked off here, so that nothing after it knows of them. A text may ask for far
//! more than it is long by aliases of aliases: what they stand for is counted, and refused before it is made.

use super::broken::{Broken, Fault};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::BTreeMap;

/// Longest text that is read, of any file.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// Mappings and lists inside each other; the subset itself needs eight.
pub const DEPTH_MAX: usize = 32;
/// Nodes with all aliases worked off: a file of sixty services has some four thousand.
pub const NODES_MAX: usize = 1 << 16;
/// Bytes of text with all aliases worked off and all variables filled in.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) node: Node,
}

/// How much a tree is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
    depth: usize,
}

impl Node {
    /// Moves it so many lines on.
    pub(super) fn shift(&mut self, lines: usize) {
        self.line += lines;
        match &mut self.value {
            Value::Null | Value::Scalar(_) => {}
            Value::List(nodes) => nodes.iter_mut().for_each(|node| node.shift(lines)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.line += lines;
                entry.node.shift(lines);
            }),
        }
    }

    pub(super) fn weight(&self) -> Weight {
        let mut sum = Weight { nodes: 1, ..Weight::default() };
        let mut add = |bytes: usize, node: &Self| {
            let of = node.weight();
            sum.nodes += of.nodes;
            sum.bytes += bytes + of.bytes;
            sum.depth = sum.depth.max(of.depth + 1);
        };
        match &self.value {
            Value::Null => {}
            Value::Scalar(text) => sum.bytes = text.len(),
            Value::List(nodes) => nodes.iter().for_each(|node| add(0, node)),
            Value::Map(entries) => entries.iter().for_each(|entry| add(entry.key.len(), &entry.node)),
        }
        sum
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key)
    }
}

/// A mapping or list that is not yet closed.
struct Open {
    anchor: usize,
    node: Node,
    /// The key that waits for its value.
    key: Option<(usize, String)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    done: Option<Node>,
    nodes: usize,
    bytes: usize,
}

/// The tree of a text of one document.
pub(super) fn parse(text: &str) -> Result<Node, Broken> {
    let (documents, _) = documents(text, Weight::default(), 1)?;
    Ok(documents.into_iter().next().unwrap_or(Node { line: 1, value: Value::Null }))
}

/// The trees of a text of at most so many documents, and how much they are with what was read before.
pub(super) fn documents(text: &str, before: Weight, most: usize) -> Result<(Vec<Node>, Weight), Broken> {
    if text.len() > FILE_BYTES_MAX {
        let rule = format!("at most {FILE_BYTES_MAX} bytes are read");
        let fault = Fault { found: format!("{} bytes long", text.len()), rule };
        return Err(fault.at(None, 1, "the file"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { nodes: before.nodes, bytes: before.bytes, ..Builder::default() };
    let mut documents = Vec::new();
    let mut count = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let fault = Fault { found: "not YAML".into(), rule: error.info().to_owned() };
            fault.at(None, error.marker().line().max(1), "the file")
        })?;
        let line = span.start.line().max(1);
        if let Event::DocumentStart(_) = event {
            count += 1;
            if count > most && most == 1 {
                return Err(refuse(line, "a second document", "one file is one document: remove what follows ---"));
            }
            if count > most {
                return Err(refuse(line, "one document more", &format!("at most {most} documents are read")));
            }
            documents.extend(builder.done.take());
            builder.anchors.clear();
        }
        builder.take(event, line)?;
    }
    documents.extend(builder.done.take());
    Ok((documents, Weight { nodes: builder.nodes, bytes: builder.bytes, ..before }))
}

fn refuse(line: usize, found: &str, rule: &str) -> Broken {
    Fault { found: found.to_owned(), rule: rule.to_owned() }.at(None, line, "the file")
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Broken> {
        let tag = match &event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => tag.as_ref(),
            _ => None,
        };
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(refuse(line, &format!("tagged {tag}"), "tags have no meaning here: remove it"));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_null = style == ScalarStyle::Plain
                    && tag.is_none()
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                // An empty value's place is where the next thing begins: its key's line is meant.
                let line = match self.open.last().and_then(|open| open.key.as_ref()) {
                    Some((line, _)) if text.is_empty() => *line,
                    _ => line,
                };
                let is_key =
                    self.open.last().is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none());
                let value = if is_null && !is_key { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.put(Node { line, value }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Node { line, value: Value::List(Vec::new()) }, anchor),
            Event::MappingStart(anchor, _) => self.begin(Node { line, value: Value::Map(Vec::new()) }, anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.put(merge(open.node)?, open.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let (node, weight) = (node.clone(), node.weight());
                    self.charge(weight, line)?;
                    self.put(node, 0)
                }
                None => Err(refuse(line, "an alias inside of what it stands for", "write out what is meant")),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        if self.open.len() >= DEPTH_MAX {
            return Err(refuse(
                node.line,
                "too deep",
                &format!("at most {DEPTH_MAX} mappings and lists inside each other"),
            ));
        }
        self.open.push(Open { anchor, node, key: None });
        Ok(())
    }

    fn charge(&mut self, weight: Weight, line: usize) -> Result<(), Broken> {
        self.nodes += weight.nodes;
        self.bytes += weight.bytes;
        let depth = self.open.len() + weight.depth;
        if self.nodes > NODES_MAX || self.bytes > TEXT_BYTES_MAX || depth > DEPTH_MAX {
            let rule = format!(
                "with all aliases at most {NODES_MAX} values, {TEXT_BYTES_MAX} bytes and {DEPTH_MAX} levels are read"
            );
            return Err(refuse(line, "too much", &rule));
        }
        Ok(())
    }

    /// A whole node to where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        let line = node.line;
        if matches!(node.value, Value::Null | Value::Scalar(_)) {
            self.charge(Weight { nodes: 1, ..Weight::default() }, line)?;
        }
        if anchor > 0 {
            self.charge(node.weight(), line)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.done = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(nodes), _) => nodes.push(node),
            (Value::Map(entries), Some((line, key))) => entries.push(Entry { line, key, node }),
            (_, _) => {
                let Value::Scalar(key) = node.value else {
                    return Err(refuse(line, "a key that is no text", "keys are texts"));
                };
                open.key = Some((line, key));
            }
        }
        Ok(())
    }
}

/// A mapping with what its merge keys bring; what it says itself wins, and of what it merges the first.
fn merge(mut node: Node) -> Result<Node, Broken> {
    let Value::Map(entries) = &mut node.value else { return Ok(node) };
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries.iter() {
        if let Some(first) = lines.insert(&entry.key, entry.line) {
            let rule = format!("a key is said once, and line {first} said it: remove one of them");
            return Err(Fault { found: "said twice".into(), rule }.at(None, entry.line, &entry.key));
        }
    }
    let Some(place) = entries.iter().position(|entry| entry.key == "<<") else { return Ok(node) };
    let merged = entries.remove(place);
    let sources = match merged.node.value {
        Value::List(nodes) => nodes,
        _ => vec![merged.node],
    };
    let mut known: std::collections::BTreeSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for source in sources {
        let Value::Map(brought) = source.value else {
            let rule = "<< takes a mapping, or a list of mappings, as *name";
            return Err(Fault { found: "no mapping".into(), rule: rule.into() }.at(None, merged.line, "<<"));
        };
        entries.extend(brought.into_iter().filter(|entry| known.insert(entry.key.clone())));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_line() {
        let root = parse("# mine\na:\n  - 1\n  - b: |\n      two\n      lines\nc:\nd: x\n").unwrap();
        let a = root.get("a").unwrap();
        let Value::List(items) = &a.node.value else { panic!("{a:?}") };
        assert_eq!((a.line, items[0].line, items[1].get("b").unwrap().line), (2, 3, 4));
        assert_eq!((root.get("c").unwrap().line, &root.get("c").unwrap().node.value), (7, &Value::Null));
        assert_eq!(root.get("c").unwrap().node.line, 7);
    }

    #[test]
    fn aliases_and_merge_keys_are_worked_off_and_what_is_said_itself_wins() {
        let root = parse("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 0\nw: *x\n").unwrap();
        let text = |of: &str, key: &str| match &root.get(of).unwrap().node.get(key).unwrap().node.value {
            Value::Scalar(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!([text("z", "a"), text("z", "b"), text("z", "c"), text("w", "b")], ["0", "2", "4", "2"]);
        assert_eq!(parse("z:\n  <<: 3\n").unwrap_err().line, 2);
    }

    #[test]
    fn aliases_of_aliases_are_refused_before_they_are_made() {
        let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for i in 1..20 {
            let of = format!("*a{}, ", i - 1).repeat(9);
            laughs += &format!("a{i}: &a{i} [{}]\n", of.trim_end_matches(", "));
        }
        let error = parse(&laughs).unwrap_err();
        assert!(error.rule.contains("aliases") && (3..10).contains(&error.line), "{error}");
        assert!(parse("a: &a [*a]\n").is_err());
    }

    #[test]
    fn what_is_no_single_tree_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: 1\nb: !reset null\n", 2),
            ("a: [1\nb: 2\n", 2),
            ("? [a]\n: b\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
        assert!(parse(&" ".repeat(FILE_BYTES_MAX + 1)).is_err());
        assert!(parse(&"[".repeat(100)).is_err());
        assert!(parse(&"- ".repeat(100)).is_err());
    }
}
