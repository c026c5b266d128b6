//! Say which keys can be files, and which files keys.
//!
//! A key is a path of steps between slashes. A step that no file system has as a name, because it is empty, a dot or
//! two, or too long, hides what lies behind it.

use crate::fault::Wrong;

/// What Linux takes.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// What an index takes.
const KEY_BYTES_MAX: usize = 1024;

/// Whether a step of a key can be a name.
pub(crate) fn is_name(step: &str) -> bool {
    !step.is_empty() && step != "." && step != ".." && step.len() <= NAME_BYTES_MAX && !step.contains(['/', '\0'])
}

/// The key of a file `name` in the folder `prefix`.
pub(crate) fn join(prefix: &str, name: &str) -> Result<String, Wrong> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Wrong::LongName);
    }
    if !is_name(name) {
        return Err(Wrong::Name);
    }
    // A folder's marker has a slash more.
    if prefix.len() + name.len() + 1 > KEY_BYTES_MAX {
        return Err(Wrong::LongName);
    }
    Ok(format!("{prefix}{name}"))
}

/// The folder a key or folder lies in: empty, or ending in a slash.
pub(crate) fn above(key: &str) -> &str {
    let key = key.strip_suffix('/').unwrap_or(key);
    &key[..key.rfind('/').map_or(0, |at| at + 1)]
}

/// Its name there.
pub(crate) fn last(key: &str) -> &str {
    key[above(key).len()..].trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_cut_at_slashes() {
        for (key, folder, name) in
            [("a", "", "a"), ("a/", "", "a"), ("a/b", "a/", "b"), ("a/b/", "a/", "b"), ("a/b/c.d", "a/b/", "c.d")]
        {
            assert_eq!((above(key), last(key)), (folder, name), "{key}");
        }
        assert_eq!(join("a/", "b"), Ok("a/b".into()));
    }

    #[test]
    fn what_no_folder_has_is_no_name() {
        for step in ["", ".", "..", "a/b", "a\0", &"x".repeat(256)] {
            assert!(!is_name(step), "{step:?}");
            assert!(join("", step).is_err(), "{step:?}");
        }
        for step in ["...", " ", "ключ", &"x".repeat(255)] {
            assert!(is_name(step), "{step:?}");
        }
        assert_eq!(join(&"d/".repeat(511), "ab"), Err(Wrong::LongName), "a key has 1024 bytes");
    }
}
