//! Fill in variables as Kubernetes does: `$(NAME)` of what was said before, `$$` for a dollar.

use super::super::broken::Fault;
use std::collections::BTreeMap;

/// A text with its variables; one that is not known is left as it stands, and no more is written than there is room for.
pub(super) fn fill(text: &str, known: &BTreeMap<String, String>, room: &mut usize) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        push(&mut out, &rest[..at], room)?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            push(&mut out, "$", room)?;
            rest = after;
            continue;
        }
        match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, after)) => {
                match known.get(name) {
                    Some(value) => push(&mut out, value, room)?,
                    None => push(&mut out, &format!("$({name})"), room)?,
                }
                rest = after;
            }
            None => push(&mut out, "$", room)?,
        }
    }
    push(&mut out, rest, room)?;
    Ok(out)
}

fn push(out: &mut String, text: &str, room: &mut usize) -> Result<(), Fault> {
    let fault = || Fault { found: "too much".into(), rule: "variables bring more text than is read".into() };
    *room = room.checked_sub(text.len()).ok_or_else(fault)?;
    out.push_str(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_is_filled_in_and_the_rest_stands() {
        let known = [("A".to_owned(), "1$(B)".to_owned()), ("B".to_owned(), "2".to_owned())].into();
        let mut room = 100;
        for (text, filled) in [
            ("x", "x"),
            ("$(A)-$(B)", "1$(B)-2"),
            ("$$(A)", "$(A)"),
            ("$$$(B)", "$2"),
            ("$(C) $B ${B} $", "$(C) $B ${B} $"),
            ("$(A", "$(A"),
            ("é$(B)é", "é2é"),
        ] {
            assert_eq!(fill(text, &known, &mut room).unwrap(), filled, "{text}");
        }
        assert!(fill("$(A)", &known, &mut 4).is_err());
    }
}
