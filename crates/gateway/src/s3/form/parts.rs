//! Take a form apart: fields, and behind them the file.

use super::super::{facts::percent, refusal::Refusal};

/// Of everything before the file; a policy has 20 KiB at S3.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Of one field's own headers.
const FIELD_HEAD_BYTES_MAX: usize = 4 << 10;
const FIELDS_MAX: usize = 200;
const BOUNDARY_BYTES_MAX: usize = 70;

/// What stands before the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Names in lower case, in the order they came; none twice.
    pub(super) fields: Vec<(String, String)>,
    /// The file's own name, without folders.
    pub(super) filename: String,
    /// Where in the form the file begins.
    pub(super) begins: usize,
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn malformed(why: &'static str) -> Refusal {
    Refusal::bad("MalformedPOSTRequest", why)
}

/// The line between parts, `--BOUNDARY`, of a content type.
pub(super) fn delimiter(content_type: &str) -> Result<String, Refusal> {
    let boundary = parameters(content_type).find(|(name, _)| name == "boundary").map(|(_, value)| value);
    match boundary.filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())) {
        Some(boundary) => Ok(format!("--{boundary}")),
        None => Err(malformed("A form's content type names a boundary of 1 to 70 characters.")),
    }
}

/// Reads as far as the file; `None` while more must come.
pub(super) fn head(bytes: &[u8], delimiter: &str) -> Result<Option<Head>, Refusal> {
    let between = format!("\r\n{delimiter}");
    let mut head = Head::default();
    let mut at = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let first = &bytes[at..];
    if !first.starts_with(&delimiter.as_bytes()[..delimiter.len().min(first.len())]) {
        return Err(malformed("A form begins with its boundary."));
    }
    loop {
        at += delimiter.len();
        match bytes.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(_) => {
                return Err(Refusal::bad("InvalidArgument", "POST requires exactly one file upload per request."));
            }
        }
        let Some(end) = find(&bytes[at..], b"\r\n\r\n") else {
            let is_long = bytes.len() - at > FIELD_HEAD_BYTES_MAX;
            return if is_long { Err(malformed("A field's headers have at most 4 KiB.")) } else { Ok(None) };
        };
        let own = std::str::from_utf8(&bytes[at..at + end]).map_err(|_| malformed("A field's headers are UTF-8."))?;
        let (name, filename) = disposition(own)?;
        at += end + 4;
        if name == "file" {
            return Ok(Some(Head { filename, begins: at, ..head }));
        }
        let Some(end) = find(&bytes[at..], between.as_bytes()) else { return Ok(None) };
        let value = std::str::from_utf8(&bytes[at..at + end]).map_err(|_| malformed("A field's value is UTF-8."))?;
        if head.field(&name).is_some() || head.fields.len() == FIELDS_MAX {
            return Err(malformed("A form names at most 200 fields, each once."));
        }
        head.fields.push((name, value.to_owned()));
        at += end + 2;
    }
}

/// Where the file ends, of a form read to its end.
pub(super) fn end(bytes: &[u8], begins: usize, delimiter: &str) -> Result<usize, Refusal> {
    let between = format!("\r\n{delimiter}");
    let end = find(&bytes[begins..], between.as_bytes());
    end.map(|end| begins + end).ok_or_else(|| malformed("The form ends before its file does."))
}

/// Name and file name of a field, from its headers.
fn disposition(headers: &str) -> Result<(String, String), Refusal> {
    let named = headers.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut found = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (_, text) = found.next().ok_or_else(|| malformed("A field has a Content-Disposition."))?;
    let (mut name, mut filename, mut wide) = (None, None, None);
    for (parameter, value) in parameters(text) {
        match parameter.as_str() {
            "name" => name = Some(value.to_ascii_lowercase()),
            "filename" => filename = Some(value),
            // RFC 8187: a charset, a language, and escapes.
            "filename*" => wide = value.splitn(3, '\'').nth(2).map(percent),
            _ => {}
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| malformed("A field has a name."))?;
    let filename = wide.or(filename).unwrap_or_default();
    let base = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    Ok((name, base.to_owned()))
}

/// `name=value` behind semicolons, values quoted or not; names in lower case.
fn parameters(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_once('=')?;
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let mut value = String::new();
        if let Some(quoted) = behind.strip_prefix('"') {
            let mut letters = quoted.char_indices();
            let mut last = quoted.len();
            while let Some((at, letter)) = letters.next() {
                match letter {
                    '"' => {
                        last = at + 1;
                        break;
                    }
                    // Browsers escape a quote alone; a backslash before anything else is one, as in a path.
                    '\\' if quoted[at + 1..].starts_with('"') => value.extend(letters.next().map(|(_, letter)| letter)),
                    letter => value.push(letter),
                }
            }
            rest = &quoted[last..];
        } else {
            let (bare, behind) = behind.split_once(';').unwrap_or((behind, ""));
            value.push_str(bare.trim());
            rest = behind;
        }
        Some((name, value))
    })
}

/// Where something first stands.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\n${filename}\r\n--b\r\ncontent-disposition: form-data; name=acl\r\n\r\nprivate\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a \\\"b\\\".txt\"\r\nContent-Type: text/plain\r\n\r\nbar\r\n--bx\r\n\r\n--b--\r\n";

    #[test]
    fn fields_stand_before_the_file() {
        let head = head(FORM.as_bytes(), "--b").unwrap().unwrap();
        assert_eq!(head.field("key"), Some("${filename}"));
        assert_eq!(head.field("acl"), Some("private"));
        assert_eq!(head.filename, "a \"b\".txt");
        let end = end(FORM.as_bytes(), head.begins, "--b").unwrap();
        assert_eq!(&FORM[head.begins..end], "bar");
    }

    #[test]
    fn a_form_that_is_cut_off_waits_for_more() {
        let begins = head(FORM.as_bytes(), "--b").unwrap().unwrap().begins;
        for at in 0..begins {
            assert_eq!(head(&FORM.as_bytes()[..at], "--b").unwrap(), None, "{at}");
        }
        assert!(super::end(&FORM.as_bytes()[..begins + 3], begins, "--b").is_err());
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let field = |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nv\r\n");
        for (form, code) in [
            ("x".to_owned(), "MalformedPOSTRequest"),
            ("--b--\r\n".to_owned(), "InvalidArgument"),
            (format!("{}--b--\r\n", field("key")), "InvalidArgument"),
            (format!("{}{}--b\r\n", field("key"), field("KEY")), "MalformedPOSTRequest"),
            (format!("--b\r\nA: b\r\n\r\n{}", field("key")), "MalformedPOSTRequest"),
            (format!("--b\r\n{}", "A".repeat(FIELD_HEAD_BYTES_MAX + 1)), "MalformedPOSTRequest"),
        ] {
            assert_eq!(head(form.as_bytes(), "--b").unwrap_err().code, code, "{form}");
        }
    }

    #[test]
    fn a_content_type_names_the_boundary() {
        assert_eq!(delimiter("multipart/form-data; boundary=abc").unwrap(), "--abc");
        assert_eq!(delimiter("multipart/form-data; charset=utf-8; Boundary=\"a b\"").unwrap(), "--a b");
        assert!(delimiter("multipart/form-data").is_err());
        let wide = "form-data; name=\"file\"; filename*=utf-8''na%C3%AFve.txt";
        assert_eq!(disposition(&format!("Content-Disposition: {wide}")).unwrap().1, "naïve.txt");
    }
}
