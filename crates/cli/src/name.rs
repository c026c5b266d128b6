//! Name files after objects, so that no key leaves its folder and each is found again.
//!
//! A key's segments become folders. What a file system or a reader of listings could take for something else is
//! written as `%` and two digits: an empty segment, `.` and `..`, control and turning marks. Only a `%` that would
//! read as one of these is itself escaped, so that two keys never meet in one name, and `a%20b` stays what it is. Segments too long for a file are cut and end
//! in `%~` and a hash; an object whose key is also a folder's name ends in `%2F`.

use alloy_primitives::{hex, keccak256};

/// Longest name of a file on common systems, less what a partial copy puts around it.
const PART_BYTES_MAX: usize = 230;
/// What stays of a longer one.
const CUT_BYTES: usize = 180;
/// An empty segment, and what ends an object that shares its name with a folder.
const SLASH: &str = "%2F";

/// The relative path of a key. `is_folder`: other keys lie below it.
pub(crate) fn encode(key: &str, is_folder: bool) -> String {
    let mut path = key.split('/').map(encode_part).collect::<Vec<_>>().join("/");
    if is_folder {
        path.push_str(SLASH);
    }
    path
}

/// One segment as a file's name.
pub(crate) fn encode_part(segment: &str) -> String {
    let mut out = match segment {
        "" => return SLASH.into(),
        "." => return "%2E".into(),
        ".." => return "%2E%2E".into(),
        _ => String::with_capacity(segment.len()),
    };
    for (at, letter) in segment.char_indices() {
        let rest = &segment[at..];
        if is_escaped(letter) && !matches!(letter, '.' | '%') || escape(rest).is_some() || rest.starts_with("%~") {
            let mut buffer = [0; 4];
            letter.encode_utf8(&mut buffer).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(letter);
        }
    }
    // What begins so is this program's own.
    if out.starts_with(crate::file::OWN) {
        out.replace_range(..1, "%2E");
    }
    if out.len() > PART_BYTES_MAX {
        let cut = (0..=CUT_BYTES).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(cut);
        out.push_str("%~");
        out.push_str(&hex::encode(&keccak256(segment)[..8]));
    }
    out
}

/// The key of a file by its relative path; a name that this program would not have written is taken as it is.
pub(crate) fn decode(path: &str) -> String {
    let read: Vec<String> = path.split('/').map(unescape).collect();
    let key = read.join("/");
    if encode(&key, false) == path {
        return key;
    }
    match path.strip_suffix(SLASH).filter(|rest| !rest.is_empty() && !rest.ends_with('/')) {
        Some(rest) if encode(&decode(rest), false) == rest => decode(rest),
        _ => path.to_owned(),
    }
}

/// Letters that are written as escapes, here or there.
fn is_escaped(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '/' | '.' | '%' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The letter that the escape at the beginning of a text stands for, and the escape's length.
fn escape(text: &str) -> Option<(char, usize)> {
    let byte = |at: usize| {
        let digits = text.get(3 * at..3 * at + 3)?.strip_prefix('%')?;
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
        digits.bytes().all(is_digit).then(|| u8::from_str_radix(digits, 16).ok())?
    };
    let count = match byte(0)? {
        0..0x80 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => return None,
    };
    let bytes: Vec<u8> = (0..count).map(byte).collect::<Option<_>>()?;
    let letter = std::str::from_utf8(&bytes).ok()?.chars().next()?;
    is_escaped(letter).then_some((letter, 3 * count))
}

fn unescape(segment: &str) -> String {
    if segment == SLASH {
        return String::new();
    }
    let (mut rest, mut out) = (segment, String::with_capacity(segment.len()));
    while let Some(first) = rest.chars().next() {
        let (letter, length) = escape(rest).unwrap_or((first, first.len_utf8()));
        out.push(letter);
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::BTreeSet,
        path::{Component, Path},
    };

    const KEYS: &[&str] = &[
        "a",
        "a/b",
        "a//b",
        "a/",
        "/a",
        "/",
        "//",
        ".",
        "..",
        "../a",
        "a/./b",
        "a/../b",
        "%2E",
        "%2F",
        "a%2F",
        "%252F",
        "50%",
        "100%25",
        "a%20b",
        "a b",
        "ü",
        "a\nb",
        "a\0b",
        "x\u{202e}gpj.exe",
        "%",
        "%%",
        "%~",
        "C:\\a",
        ".hodei-part-1",
        ".hodei",
        "~",
        "a%2e",
        "%C2%8E",
        "\u{8e}",
        "%E2%80%AE",
        "%C3%84",
        "%C2\u{8e}",
        "%\n",
        "%2\n",
        "a\u{0}%00",
        "%25%25",
    ];

    #[test]
    fn no_key_leaves_its_folder_and_no_two_meet() {
        let long = ["ä".repeat(400), format!("{}b", "ä".repeat(400)), "a".repeat(1000)];
        let mut seen = BTreeSet::new();
        for key in KEYS.iter().copied().chain(long.iter().map(String::as_str)) {
            for is_folder in [false, true] {
                let path = encode(key, is_folder);
                let normal = |component: Component| matches!(component, Component::Normal(_));
                assert!(Path::new(&path).components().all(normal), "{key:?} is {path:?}");
                assert!(path.split('/').all(|part| part.len() <= 255 && !part.is_empty()), "{key:?} is {path:?}");
                assert!(!path.split('/').any(|part| part.starts_with(crate::file::OWN)), "{key:?} is {path:?}");
                // `a/` and `a` beside a folder are one name: a bucket that has both has the folder too.
                assert!(seen.insert(path.clone()) || key.is_empty(), "{key:?} meets another at {path:?}");
            }
        }
    }

    #[test]
    fn a_name_leads_back_to_its_key() {
        for key in KEYS {
            assert_eq!(decode(&encode(key, false)), *key);
            assert_eq!(decode(&encode(key, true)), *key, "{}", encode(key, true));
        }
        for name in ["a%20b", "50%", "%zz", "a%FFb", "a/%2f", "%C3%84%20.txt"] {
            assert_eq!(decode(name), name, "nothing this program wrote");
            assert_eq!(encode(name, false), name, "and nothing it would write otherwise");
        }
    }
}
