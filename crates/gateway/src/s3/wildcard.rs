//! Match names against patterns of policies.
//!
//! `*` stands for any run of characters, `?` for one. A match takes at most pattern times text steps whatever
//! the pattern, so that no policy makes a request expensive.

/// A pattern, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Char(char),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let mut pattern = Self(Vec::with_capacity(text.len()));
        pattern.push(text);
        pattern
    }

    pub(super) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Appends text whose `*` and `?` are wild.
    pub(super) fn push(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                '*' if self.0.last() == Some(&Piece::Any) => {}
                '*' => self.0.push(Piece::Any),
                '?' => self.0.push(Piece::One),
                char => self.0.push(Piece::Char(char)),
            }
        }
    }

    /// Appends text that stands for itself.
    pub(super) fn push_literal(&mut self, text: &str) {
        self.0.extend(text.chars().map(Piece::Char));
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        // The last `*` seen, and where it stopped: only that one is ever widened.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(Piece::One) => {
                    piece += 1;
                    at += 1;
                }
                Some(Piece::Char(char)) if *char == text[at] => {
                    piece += 1;
                    at += 1;
                }
                _ => {
                    let Some((any, stopped)) = star else { return false };
                    piece = any + 1;
                    at = stopped + 1;
                    star = Some((any, at));
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Any)
    }
}

/// [`Pattern::matches`] of a pattern used once.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).matches(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, is) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything/at all", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*suffix", "foo.suffix", true),
            ("*suffix", "foo.suffix.get", false),
            ("start*end", "startend", true),
            ("start*end", "0start12end", false),
            ("a*b*c", "a-b-b-c", true),
            ("?*", "", false),
            ("ü*", "über", true),
            ("ü?er", "über", true),
        ] {
            assert_eq!(matches(pattern, text), is, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn what_is_literal_is_not_wild() {
        let mut pattern = Pattern::new("home/");
        pattern.push_literal("a*b");
        pattern.push("/*");
        assert!(pattern.matches("home/a*b/x"));
        assert!(!pattern.matches("home/axb/x"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let begun = Instant::now();
        let (pattern, text) = ("*a".repeat(5000) + "b", "a".repeat(1024));
        assert!(!matches(&pattern, &text));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
