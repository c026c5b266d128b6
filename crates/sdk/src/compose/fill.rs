//! Fill in variables as docker does: `$VAR`, `${VAR}`, with a default, an error or an alternative, and `$$`.

use super::broken::Fault;
use std::collections::BTreeMap;

/// `${A:-${B:-…}}` inside each other.
const DEPTH_MAX: usize = 16;

/// Where values come from, and how much of them there may be.
pub(super) struct Fill<'a> {
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Bytes that may still be written.
    pub(super) room: &'a mut usize,
    /// Variables that nothing says and that have no default: they are empty.
    pub(super) unset: &'a mut Vec<String>,
}

const RULE: &str = "variables are $NAME, ${NAME}, ${NAME:-default}, ${NAME:?error} or ${NAME:+other}; a dollar is $$";

impl Fill<'_> {
    pub(super) fn fill(&mut self, text: &str) -> Result<String, Fault> {
        self.at(text, 0)
    }

    fn at(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(text, format!("at most {DEPTH_MAX} variables inside each other")));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            self.push(&mut out, &rest[..at])?;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                self.push(&mut out, "$")?;
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let end = closing(after).ok_or_else(|| Fault::new(text, "a ${ without its }; a dollar is $$"))?;
                let value = self.braced(&after[..end], depth)?;
                self.push(&mut out, &value)?;
                rest = &after[end + 1..];
            } else {
                let (name, after) = rest.split_at(name_bytes(rest));
                if name.is_empty() {
                    return Err(Fault::new(text, RULE));
                }
                let value = self.value(name);
                self.push(&mut out, &value)?;
                rest = after;
            }
        }
        self.push(&mut out, rest)?;
        Ok(out)
    }

    fn push(&mut self, out: &mut String, text: &str) -> Result<(), Fault> {
        let Some(room) = self.room.checked_sub(text.len()) else {
            return Err(Fault { found: "too much".into(), rule: "variables bring more text than is read".into() });
        };
        *self.room = room;
        out.push_str(text);
        Ok(())
    }

    fn value(&mut self, name: &str) -> String {
        self.environment.get(name).cloned().unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    /// What stands between braces.
    fn braced(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
        let (name, rest) = text.split_at(name_bytes(text));
        if name.is_empty() {
            return Err(Fault::new(&format!("${{{text}}}"), RULE));
        }
        if rest.is_empty() {
            return Ok(self.value(name));
        }
        let (is_strict, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
        let found = self.environment.get(name).filter(|value| !(is_strict && value.is_empty())).cloned();
        let mut chars = rest.chars();
        match (chars.next(), found) {
            (Some('-' | '?'), Some(value)) => Ok(value),
            (Some('-'), None) | (Some('+'), Some(_)) => self.at(chars.as_str(), depth + 1),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) => {
                let words = self.at(chars.as_str(), depth + 1)?;
                let words = if words.is_empty() { "it must be set".to_owned() } else { words };
                let found = if is_strict { format!("{name} unset or empty") } else { format!("{name} unset") };
                Err(Fault { found, rule: words })
            }
            _ => Err(Fault::new(&format!("${{{text}}}"), RULE)),
        }
    }
}

/// Bytes of a name at the beginning; 0 where there is none.
fn name_bytes(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// Where the brace that opened before this text closes.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut open, mut at) = (1_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'$', Some(b'$')) => at += 1,
            (b'$', Some(b'{')) => {
                open += 1;
                at += 1;
            }
            (b'}', _) => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<(String, Vec<String>), Fault> {
        let environment = [("A", "1"), ("E", ""), ("NAME_2", "n")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let (mut room, mut unset) = (1 << 10, Vec::new());
        let text = Fill { environment: &environment, room: &mut room, unset: &mut unset }.fill(text)?;
        Ok((text, unset))
    }

    #[test]
    fn each_form_means_what_it_means_to_docker() {
        for (text, expected) in [
            ("$A-${A}", "1-1"),
            ("$NAME_2.x", "n.x"),
            ("$$A $$$A", "$A $1"),
            ("${U:-d}${E:-d}${A:-d}", "dd1"),
            ("${U-d}${E-d}${A-d}", "d1"),
            ("${U:+o}${E:+o}${A:+o}", "o"),
            ("${U+o}${E+o}${A+o}", "oo"),
            ("${A:?no}${E?no}", "1"),
            ("${U:-${E:-${A}}}!", "1!"),
            ("${U:-a}b}", "ab}"),
            ("${U:-$$x}", "$x"),
            ("${U:-}", ""),
        ] {
            assert_eq!(fill(text), Ok((expected.to_owned(), vec![])), "{text}");
        }
        assert_eq!(fill("<$U${V}>").unwrap(), ("<>".into(), vec!["U".into(), "V".into()]));
    }

    #[test]
    fn what_must_be_set_says_its_own_words() {
        assert_eq!(fill("${U:?set U to $A}").unwrap_err().rule, "set U to 1");
        assert!(fill("${E:?}").unwrap_err().found.contains("E unset or empty"));
        for text in ["$", "a $ b", "$1", "${", "${}", "${A", "${A!b}", "${1A}", "${A:}", "$(x)"] {
            assert!(fill(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_cannot_bring_more_than_there_is_room_for() {
        assert!(fill(&"$A".repeat(1024)).is_ok() && fill(&"$A".repeat(1026)).is_err());
        assert!(fill(&format!("{}{}", "${U:-".repeat(40), "}".repeat(40))).is_err());
    }
}
