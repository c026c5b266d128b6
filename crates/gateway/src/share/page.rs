//! Draw the page of a share: plain HTML, readable without scripts, colours or images.

use hodei_types::PRODUCT;

/// Served beside the pages, so that their policy allows no inline style.
pub(super) const STYLE: &str = include_str!("style.css");

/// What a share's page shows.
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) size_bytes: u64,
    pub(super) modified_ms: u64,
    pub(super) expires_ms: u64,
    /// Where the bytes are, relative to the page.
    pub(super) href: &'a str,
}

/// The page of something that is there.
pub(super) fn shown(it: &Shown) -> String {
    let name = escape(it.name);
    let rows = [
        ("Size", format!("{} <small>({} bytes)</small>", size(it.size_bytes), grouped(it.size_bytes))),
        ("Kind", escape(if it.kind.is_empty() { "not said" } else { it.kind })),
        ("Changed", date(it.modified_ms)),
        ("Link ends", date(it.expires_ms)),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).collect();
    frame(
        it.name,
        &format!(
            "<p class=\"kind\" aria-hidden=\"true\">{}</p>\n<h1>{name}</h1>\n<dl>\n{rows}</dl>\n\
             <a class=\"button\" href=\"{}\" download>Download</a>\n\
             <p class=\"note\">The file is checked byte by byte on its way here. This server sees it too; with the \
             program <code>{PRODUCT}</code> it comes straight from where it is kept: \
             <code>{PRODUCT} share get LINK</code></p>\n",
            escape(&extension(it.name)),
            escape(it.href),
        ),
    )
}

/// A file of a folder.
pub(super) struct Row<'a> {
    pub(super) path: &'a str,
    /// Relative to the page; none for a path that no address leads to.
    pub(super) href: Option<String>,
    pub(super) size_bytes: u64,
}

/// The page of a folder.
pub(super) fn listed<'a>(
    name: &str,
    size_bytes: u64,
    expires_ms: u64,
    rows: impl ExactSizeIterator<Item = Row<'a>>,
) -> String {
    let count = rows.len();
    let mut lines = String::new();
    for Row { path, href, size_bytes } in rows {
        let path = escape(path);
        let path = href.map_or(path.clone(), |href| format!("<a href=\"./{}\">{path}</a>", escape(&href)));
        lines.push_str(&format!("<li><span>{path}</span> <small>{}</small></li>\n", size(size_bytes)));
    }
    frame(
        name,
        &format!(
            "<p class=\"kind\" aria-hidden=\"true\">folder</p>\n<h1>{}</h1>\n<dl>\n\
             <div><dt>Files</dt><dd>{}</dd></div>\n<div><dt>Size</dt><dd>{}</dd></div>\n\
             <div><dt>Link ends</dt><dd>{}</dd></div>\n</dl>\n<ul>\n{lines}</ul>\n\
             <p class=\"note\">Each file is checked byte by byte on its way here. With the program \
             <code>{PRODUCT}</code> they come straight from where they are kept: \
             <code>{PRODUCT} share get LINK FOLDER</code></p>\n",
            escape(name),
            grouped(count as u64),
            size(size_bytes),
            date(expires_ms),
        ),
    )
}

/// The page of something that is not.
pub(super) fn refused(title: &str, text: &str) -> String {
    frame(
        title,
        &format!("<p class=\"kind\" aria-hidden=\"true\">?</p>\n<h1>{}</h1>\n<p>{}</p>\n", escape(title), escape(text)),
    )
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{} · {PRODUCT}</title>\n\
         <link rel=\"stylesheet\" href=\"/s/style.css\">\n</head>\n<body>\n<main>\n{body}</main>\n\
         <footer>Shared with {PRODUCT}</footer>\n</body>\n</html>\n",
        escape(title),
    )
}

fn extension(name: &str) -> String {
    let known = name.rsplit_once('.').map(|(_, last)| last).filter(|last| (1..=4).contains(&last.chars().count()));
    known.unwrap_or("file").to_lowercase()
}

/// Text as it may stand in HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing of a name turns the page's direction round, or ends its line.
            letter if letter.is_control() || is_turning(letter) => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// Marks that change the order in which text is shown: `photo\u{202e}gpj.exe` would show as a picture.
pub(super) fn is_turning(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `1 234 567`, by thin spaces.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let cut = digits.len() % 3;
    let (head, rest) = digits.split_at(cut);
    let groups = rest.as_bytes().chunks(3).map(|group| std::str::from_utf8(group).expect("digits are ASCII"));
    let groups: Vec<&str> = Some(head).filter(|head| !head.is_empty()).into_iter().chain(groups).collect();
    groups.join("\u{202f}")
}

/// A moment to the minute, as `<time>`.
fn date(ms: u64) -> String {
    format!("<time datetime=\"{}\">{}</time>", utc(ms), minute(ms))
}

/// A moment to the minute, in words.
pub(super) fn minute(ms: u64) -> String {
    let text = utc(ms);
    let (day, time) = (&text[..10], &text[11..16]);
    format!("{day} {time} UTC")
}

/// RFC 3339, to the second.
pub(super) fn utc(ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(i64::MAX));
    // The last moment the calendar knows stands for all that come later.
    at.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_and_never_obeyed() {
        let shown = shown(&Shown {
            name: "<script>alert('x')</script>\u{202e}gpj.exe",
            kind: "\"><img src=x>",
            size_bytes: 1_234_567,
            modified_ms: 951_782_400_000,
            expires_ms: u64::MAX,
            href: "l/a%20b",
        });
        assert!(!shown.contains("<script") && !shown.contains("<img") && !shown.contains('\u{202e}'), "{shown}");
        for part in
            ["&lt;script&gt;", "1.2 MiB", "1\u{202f}234\u{202f}567 bytes", "2000-02-29 00:00 UTC", "href=\"l/a%20b\""]
        {
            assert!(shown.contains(part), "{part:?} is missing from {shown}");
        }
    }

    #[test]
    fn a_folders_paths_are_shown_and_never_obeyed() {
        let rows = [
            Row { path: "a/b & c", href: Some("a/b%20%26%20c".into()), size_bytes: 2048 },
            Row { path: "<script>\u{202e}", href: Some("\"><script>".into()), size_bytes: 1 },
            Row { path: "../up", href: None, size_bytes: 0 },
        ];
        let page = listed("</title><script>", 2049, 951_782_400_000, rows.into_iter());
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        for part in ["<a href=\"./a/b%20%26%20c\">a/b &amp; c</a>", "2.0 KiB", "<dd>3</dd>", "<span>../up</span>"] {
            assert!(page.contains(part), "{part:?} is missing from {page}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (12, "12"), (123, "123"), (1234, "1\u{202f}234"), (123_456, "123\u{202f}456")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
