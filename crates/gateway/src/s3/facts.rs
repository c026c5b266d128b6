//! Gather what a request says about itself, for the conditions of policies.

use super::{form::Signer, keys::now_ms, policy::Facts, principal::Principal};
use hyper::{HeaderMap, Uri, header::HeaderValue};
use s3s::access::S3AccessContext;
use std::{collections::BTreeMap, net::SocketAddr};

/// Tags in one header; S3 allows ten on an object.
const TAGS_MAX: usize = 50;

/// How a request came in, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) from: SocketAddr,
    pub(super) is_tls: bool,
}

/// All that is known before the body.
pub(super) fn of(cx: &mut S3AccessContext<'_>, principal: Option<&Principal>) -> Facts {
    let mut facts = cx.extensions_mut().get::<Arrival>().copied().map(of_arrival).unwrap_or_default();
    if let Some(principal) = principal {
        facts.put("aws:username", &principal.name);
        facts.put("aws:userid", &principal.id);
        facts.put("aws:PrincipalAccount", &principal.tenant);
        facts.put("aws:PrincipalArn", format!("arn:aws:iam::{}:user/{}", principal.tenant, principal.id));
        facts.put("aws:PrincipalType", "User");
    } else {
        facts.put("aws:PrincipalType", "Anonymous");
    }
    of_headers(&mut facts, cx.headers());
    of_query(&mut facts, cx.uri());
    if let Some(signer) = cx.extensions_mut().get::<Signer>() {
        facts.put("s3:authType", "POST");
        facts.put("s3:signatureversion", signer.version);
    }
    facts
}

/// Where from, how and when.
pub(super) fn of_arrival(arrival: Arrival) -> Facts {
    let mut facts = Facts::default();
    facts.put("aws:SourceIp", arrival.from.ip().to_canonical().to_string());
    facts.put("aws:SecureTransport", arrival.is_tls.to_string());
    let now = now_ms() / 1000;
    facts.put("aws:EpochTime", now.to_string());
    facts.put("aws:CurrentTime", now.to_string());
    facts
}

fn of_headers(facts: &mut Facts, headers: &HeaderMap) {
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        match name.as_str() {
            // The source's are taken, whatever is said here.
            "x-amz-tagging" if copies_tags(headers) => {}
            "referer" => facts.put("aws:Referer", value),
            "user-agent" => facts.put("aws:UserAgent", value),
            "if-match" => facts.put("s3:if-match", value),
            "if-none-match" => facts.put("s3:if-none-match", value),
            "x-amz-tagging" => tags_of_header(facts, value),
            "x-amz-copy-source" => {
                let decoded = percent(value.split_once('?').map_or(value, |(path, _)| path));
                facts.put("s3:x-amz-copy-source", decoded.trim_start_matches('/'));
            }
            "x-amz-object-lock-mode" => facts.put("s3:object-lock-mode", value),
            "x-amz-object-lock-retain-until-date" => facts.put("s3:object-lock-retain-until-date", value),
            "x-amz-object-lock-legal-hold" => facts.put("s3:object-lock-legal-hold", value),
            name if name.starts_with("x-amz-") && !name.starts_with("x-amz-meta-") => {
                facts.put(&format!("s3:{name}"), value)
            }
            _ => {}
        }
    }
    let is_signed = headers.contains_key("authorization");
    if is_signed {
        facts.put("s3:authType", "REST-HEADER");
        facts.put("s3:signatureversion", "AWS4-HMAC-SHA256");
    }
}

fn of_query(facts: &mut Facts, uri: &Uri) {
    for pair in uri.query().unwrap_or("").split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "prefix" => facts.put("s3:prefix", form(value)),
            "delimiter" => facts.put("s3:delimiter", form(value)),
            "max-keys" => facts.put("s3:max-keys", form(value)),
            "versionId" => facts.put("s3:VersionId", form(value)),
            "X-Amz-Signature" => {
                facts.put("s3:authType", "REST-QUERY-STRING");
                facts.put("s3:signatureversion", "AWS4-HMAC-SHA256");
            }
            _ => {}
        }
    }
}

/// Tags to be, as `x-amz-tagging` has them: `a=b&c=d`.
pub(super) fn tags_of_header(facts: &mut Facts, text: &str) {
    let pairs: Vec<(String, String)> = text
        .split('&')
        .take(TAGS_MAX)
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(tag, value)| (form(tag), form(value)))
        .collect();
    tags(facts, pairs.iter().map(|(tag, value)| (tag.as_str(), value.as_str())));
}

/// Tags to be.
pub(super) fn tags<'a>(facts: &mut Facts, tags: impl Iterator<Item = (&'a str, &'a str)>) {
    for (tag, value) in tags.take(TAGS_MAX) {
        facts.put(&format!("s3:RequestObjectTag/{tag}"), value);
        facts.put("s3:RequestObjectTagKeys", tag);
    }
}

/// Tags that what is asked for has already.
pub(super) fn existing(facts: &mut Facts, tags: &BTreeMap<String, String>) {
    for (tag, value) in tags {
        facts.put(&format!("s3:ExistingObjectTag/{tag}"), value.clone());
    }
}

/// Asks for a copy with the tags of its source.
pub(super) fn copies_tags(headers: &HeaderMap) -> bool {
    let replaces = |directive: &HeaderValue| directive.as_bytes() == b"REPLACE";
    headers.contains_key("x-amz-copy-source") && !headers.get("x-amz-tagging-directive").is_some_and(replaces)
}

/// Asks for other headers of the answer than the object's.
pub(super) fn overrides_headers(uri: &Uri) -> bool {
    uri.query().unwrap_or("").split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or(pair);
        matches!(
            name,
            "response-content-type"
                | "response-content-language"
                | "response-expires"
                | "response-cache-control"
                | "response-content-disposition"
                | "response-content-encoding"
        )
    })
}

/// Asks to pass over a lock in governance mode.
pub(super) fn bypasses(headers: &HeaderMap) -> bool {
    headers.get("x-amz-bypass-governance-retention").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// As in a form or a query: `+` is a blank.
pub(super) fn form(text: &str) -> String {
    percent(&text.replace('+', " "))
}

/// Takes `%41` apart; what is no such escape stays.
pub(super) fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let escaped = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_apart_once() {
        assert_eq!(percent("a%2Fb%20c"), "a/b c");
        assert_eq!(percent("100%"), "100%");
        assert_eq!(percent("%zz%4"), "%zz%4");
        assert_eq!(percent("%252F"), "%2F");
        assert_eq!(percent("%ff"), "\u{fffd}");
        assert_eq!(form("a+b"), "a b");
        for key in ["a/b c", "100%", "%41", "naïve&?#+"] {
            assert_eq!(percent(&crate::percent::encode(key, true)), key);
        }
    }

    #[test]
    fn headers_and_query_become_facts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-acl", "public-read".parse().unwrap());
        headers.insert("x-amz-meta-acl", "x".parse().unwrap());
        headers.insert("x-amz-copy-source", "/b/public%2Ffoo?versionId=1".parse().unwrap());
        headers.insert("x-amz-tagging", "security=public&b=c%26d".parse().unwrap());
        let mut facts = Facts::default();
        of_headers(&mut facts, &headers);
        assert!(facts.get("s3:RequestObjectTag/b").is_empty(), "a copy takes the source's tags");
        headers.insert("x-amz-tagging-directive", "REPLACE".parse().unwrap());
        let mut facts = Facts::default();
        of_headers(&mut facts, &headers);
        of_query(&mut facts, &"/b?prefix=a%2Fb&max-keys=5".parse().unwrap());
        for (key, value) in [
            ("s3:x-amz-acl", "public-read"),
            ("s3:x-amz-copy-source", "b/public/foo"),
            ("s3:RequestObjectTag/security", "public"),
            ("s3:RequestObjectTag/b", "c&d"),
            ("s3:prefix", "a/b"),
            ("s3:max-keys", "5"),
        ] {
            assert_eq!(facts.get(key), [value], "{key}");
        }
        assert!(facts.get("s3:x-amz-meta-acl").is_empty());
        assert_eq!(facts.get("s3:RequestObjectTagKeys"), ["security", "b"]);
    }
}
