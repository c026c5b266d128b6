//! Guess what somebody meant who mistyped one of some words.

/// Of some words the one that is fewest letters away, in quotes.
pub(crate) fn nearest(text: &str, words: &[&str]) -> Option<String> {
    let text: Vec<char> = text.chars().take(64).collect();
    let away = |word: &&&str| {
        let mut row: Vec<usize> = (0..=text.len()).collect();
        for (i, letter) in word.chars().enumerate() {
            let mut before = i;
            row[0] = i + 1;
            for (j, other) in text.iter().enumerate() {
                let swapped = before + usize::from(letter != *other);
                before = row[j + 1];
                row[j + 1] = swapped.min(row[j] + 1).min(before + 1);
            }
        }
        row[text.len()]
    };
    words.iter().min_by_key(away).map(|word| format!("{word:?}"))
}
