//! Read `.env` files: names and values, with quotes, comments and `export`.

use super::{
    broken::{Broken, Fault},
    fill::Fill,
    tree::FILE_BYTES_MAX,
};
use std::collections::BTreeMap;

/// A name with what it is; none where only the name stands there, which the environment says the value of.
pub(super) type Variables = Vec<(String, Option<String>)>;

/// What a file says. Values in double quotes and without quotes have variables filled in, of `environment` and of what
/// stands above them.
pub(super) fn read(
    file: &str,
    text: &str,
    environment: &BTreeMap<String, String>,
    room: &mut usize,
) -> Result<Variables, Broken> {
    if text.len() > FILE_BYTES_MAX {
        let fault = Fault { found: format!("{} bytes long", text.len()), rule: format!("at most {FILE_BYTES_MAX}") };
        return Err(fault.at(Some(file), 1, "the file"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut known = environment.clone();
    let mut said = Variables::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let here = line;
        let entry = entry(rest).map_err(|fault| fault.at(Some(file), here, "a variable"))?;
        let taken = rest.len() - entry.rest.len();
        line += rest[..taken].matches('\n').count();
        rest = entry.rest;
        let Some((name, value)) = entry.said else { continue };
        let value = match value {
            Written::Nothing => None,
            Written::Literal(value) => Some(value),
            Written::Filled(value) => {
                let mut fill = Fill { environment: &known, room: &mut *room, unset: &mut Vec::new() };
                Some(fill.fill(&value).map_err(|fault| fault.at(Some(file), here, &name))?)
            }
        };
        // What the environment says wins, for what stands below it too.
        if let (Some(value), false) = (&value, environment.contains_key(&name)) {
            known.insert(name.clone(), value.clone());
        }
        said.push((name, value));
    }
    Ok(said)
}

enum Written {
    Nothing,
    Literal(String),
    Filled(String),
}

struct Line<'a> {
    said: Option<(String, Written)>,
    rest: &'a str,
}

const RULE: &str = "a line is NAME=value, with # before a comment";

/// The next line, or lines where a quoted value has more than one.
fn entry(text: &str) -> Result<Line<'_>, Fault> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(Line { said: None, rest: after });
    }
    let begun = trimmed.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(trimmed, str::trim);
    let end = begun.find(['=', ':']).unwrap_or(begun.len());
    let name = begun[..end].trim();
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    if end == begun.len() {
        let bare = begun.split_once(" #").map_or(begun, |(name, _)| name).trim();
        if !is_name(bare) {
            return Err(Fault::new(trimmed, RULE));
        }
        return Ok(Line { said: Some((bare.to_owned(), Written::Nothing)), rest: after });
    }
    if !is_name(name) {
        return Err(Fault::new(trimmed, RULE));
    }
    // What follows the sign, in the whole text: a quoted value may go on in the next lines.
    let from = line.len() - line.trim_start().len() + (trimmed.len() - begun.len()) + end + 1;
    let value = text[from..].trim_start_matches([' ', '\t']);
    let quote = value.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let Some(quote) = quote else {
        let value = line[from..].trim();
        let value =
            if value.starts_with('#') { "" } else { value.find(" #").map_or(value, |at| value[..at].trim_end()) };
        return Ok(Line { said: Some((name.to_owned(), Written::Filled(value.to_owned()))), rest: after });
    };
    let (value, rest) = quoted(&value[1..], quote)?;
    let (tail, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    if !(tail.trim().is_empty() || tail.trim().starts_with('#')) {
        return Err(Fault::new(tail.trim(), "nothing but a comment follows a quoted value"));
    }
    let value = if quote == '\'' { Written::Literal(value) } else { Written::Filled(value) };
    Ok(Line { said: Some((name.to_owned(), value)), rest })
}

/// What stands before the closing quote, and what follows it. In double quotes `\$` is a dollar that fills nothing in.
fn quoted(text: &str, quote: char) -> Result<(String, &str), Fault> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, letter)) = chars.next() {
        if letter == quote {
            return Ok((out, &text[at + 1..]));
        }
        if letter != '\\' || quote == '\'' {
            out.push(letter);
            continue;
        }
        match chars.next() {
            Some((_, 'n')) => out.push('\n'),
            Some((_, 'r')) => out.push('\r'),
            Some((_, 't')) => out.push('\t'),
            Some((_, '$')) => out.push_str("$$"),
            Some((_, letter @ ('"' | '\\'))) => out.push(letter),
            Some((_, letter)) => out.extend(['\\', letter]),
            None => break,
        }
    }
    Err(Fault::new(text.lines().next().unwrap_or_default(), format!("a value that begins with {quote} ends with it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Vec<(String, String)>, Broken> {
        let environment = [("HOME".to_owned(), "/root".to_owned())].into();
        let said = read(".env", text, &environment, &mut 4096)?;
        Ok(said.into_iter().map(|(name, value)| (name, value.unwrap_or_else(|| "?".into()))).collect())
    }

    #[test]
    fn values_are_read_with_and_without_quotes() {
        let text = "# mine\nA=1\nexport B = two words # said\nC='$A # no'\nD=\"$A\\n\\$A\"\n\nE=\nF\nG: ${A}${HOME}/x#y\r\n\
                    H=\"one\ntwo\" # more\nI=#\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A # no"),
            ("D", "1\n$A"),
            ("E", ""),
            ("F", "?"),
            ("G", "1/root/x#y"),
            ("H", "one\ntwo"),
            ("I", ""),
        ];
        assert_eq!(said(text).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for (text, line) in [
            ("A=1\nno name\n", 2),
            ("A='x\ny'\n=2\n", 3),
            ("\nA='x\n", 2),
            ("A=\"x\" y\n", 1),
            ("A=${\n", 1),
            ("1A=x", 1),
        ] {
            let error = said(text).unwrap_err();
            assert_eq!((error.line, error.file.as_deref()), (line, Some(".env")), "{text:?}: {error}");
        }
    }
}
