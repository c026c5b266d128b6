//! Refuse headers of S3's own that nobody signed.
//!
//! What such a header says is asked for in the signer's name. The bearer of a link could otherwise add a source to
//! copy, an access list or the passing over of a lock to what was signed for him.

use super::{facts::form, refusal::Refusal};
use hyper::{HeaderMap, header::AUTHORIZATION};

const PREFIX: &str = "x-amz-";
/// The body's hash: of a request signed in its headers part of what is signed anyway; of a link it can only refuse
/// what came damaged.
const BODY: &str = "x-amz-content-sha256";
/// Part of what is signed in any case, where the signature is a header.
const DATE: &str = "x-amz-date";

/// The names of the headers that were signed, apart by semicolons, and whether a link says so.
fn signed(headers: &HeaderMap, query: &str) -> Option<(String, bool)> {
    let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let parameter = |wanted: &str| pairs().find(|(name, _)| form(name) == wanted).map(|(_, value)| form(value));
    if parameter("X-Amz-Signature").is_some() {
        return Some((parameter("X-Amz-SignedHeaders").unwrap_or_default(), true));
    }
    let authorization = authorization(headers).filter(|text| text.starts_with("AWS4-"))?;
    let mut fields = authorization.split([',', ' ']);
    Some((fields.find_map(|field| field.trim().strip_prefix("SignedHeaders=")).unwrap_or("").to_owned(), false))
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
}

fn is_among(signed: &str, name: &str) -> bool {
    signed.split(';').any(|one| one.trim() == name)
}

/// Whether a header was signed; its name in lower case.
pub(super) fn covers(headers: &HeaderMap, query: &str, name: &str) -> bool {
    signed(headers, query).is_some_and(|(signed, _)| is_among(&signed, name))
}

/// The region a request was signed for, where its credential names one.
fn region(headers: &HeaderMap, query: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let link = pairs.find(|(name, _)| form(name) == "X-Amz-Credential").map(|(_, value)| form(value));
    let header = || {
        let authorization = authorization(headers).filter(|text| text.starts_with("AWS4-"))?;
        let mut fields = authorization.split([',', ' ']);
        fields.find_map(|field| field.trim().strip_prefix("Credential=")).map(ToOwned::to_owned)
    };
    // Key id, date, region, service, aws4_request; an id may have slashes.
    link.or_else(header)?.rsplit('/').nth(2).map(ToOwned::to_owned)
}

/// Refuses regions the framework takes no signature for, in words that tell what to do.
pub(super) fn check_region(headers: &HeaderMap, query: &str) -> Result<(), Refusal> {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match region(headers, query) {
        Some(region) if !region.bytes().all(is_known) => {
            let message = format!(
                "The request is signed for the region {region:?}: sign for one whose name is of a-z, 0-9 and hyphen, \
                 such as us-east-1 (s3cmd: --region us-east-1)."
            );
            Err(Refusal::bad("AuthorizationHeaderMalformed", message))
        }
        _ => Ok(()),
    }
}

/// Each header whose name begins so must be among those that were signed, as at S3.
pub(super) fn check(headers: &HeaderMap, query: &str) -> Result<(), Refusal> {
    // Who signs nothing asks in nobody's name.
    let Some((signed, is_link)) = signed(headers, query) else { return Ok(()) };
    if is_link && authorization(headers).is_some() {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should be specified";
        return Err(Refusal::bad("InvalidArgument", message));
    }
    let is_free = |name: &str| name == BODY || name == DATE && !is_link;
    let names = headers.keys().map(|name| name.as_str());
    let open: Vec<&str> =
        names.filter(|name| name.starts_with(PREFIX) && !is_free(name) && !is_among(&signed, name)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let message = format!("There were headers present in the request which were not signed: {}", open.join(", "));
    Err(Refusal::forbidden("AccessDenied", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn code(query: &str, headers: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        check(&headers, query).err().map(|refusal| refusal.code)
    }

    #[test]
    fn the_bearer_of_a_link_adds_nothing_to_it() {
        let link = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host&X-Amz-Signature=0a";
        for name in [
            "x-amz-copy-source",
            "x-amz-acl",
            "x-amz-bypass-governance-retention",
            "x-amz-tagging",
            "x-amz-website-redirect-location",
            "x-amz-object-lock-mode",
            "x-amz-meta-a",
            "x-amz-date",
        ] {
            assert_eq!(code(link, &[(name, "v")]), Some("AccessDenied"), "{name}");
        }
        assert_eq!(code(link, &[("host", "a"), ("content-type", "b"), ("x-amz-content-sha256", "c")]), None);
        let link = "X-Amz-SignedHeaders=host%3Bx-amz-acl&X%2DAmz-Signature=0a";
        assert_eq!(code(link, &[("x-amz-acl", "private")]), None);
        assert_eq!(code(link, &[("x-amz-acl", "private"), ("x-amz-tagging", "a=b")]), Some("AccessDenied"));
        assert_eq!(code(link, &[("authorization", "AWS4-HMAC-SHA256 SignedHeaders=host")]), Some("InvalidArgument"));
    }

    #[test]
    fn a_region_that_is_none_is_told_before_its_signature_is_looked_at() {
        let code = |query: &str, authorization: &'static str| {
            let headers = [(AUTHORIZATION, HeaderValue::from_static(authorization))].into_iter().collect();
            check_region(&headers, query).err().map(|refusal| refusal.code)
        };
        for region in ["us-east-1", "garage", "1", ""] {
            let text = format!("AWS4-HMAC-SHA256 Credential=a/b/20260101/{region}/s3/aws4_request, Signature=0a");
            assert_eq!(code("", text.leak()), None, "{region}");
        }
        let header = "AWS4-HMAC-SHA256 Credential=a/20260101/US/s3/aws4_request,SignedHeaders=host,Signature=0a";
        assert_eq!(code("", header), Some("AuthorizationHeaderMalformed"));
        let link = "X-Amz-Credential=a%2F20260101%2Feu_1%2Fs3%2Faws4_request&X-Amz-Signature=0a";
        assert_eq!(code(link, ""), Some("AuthorizationHeaderMalformed"));
        assert_eq!(code("", "AWS4-HMAC-SHA256 Credential=a"), None, "what is malformed is refused for that");
    }

    #[test]
    fn a_signature_in_a_header_covers_the_others() {
        let plain = ("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-acl, Signature=0a");
        assert_eq!(code("", &[plain, ("x-amz-acl", "private"), ("x-amz-date", "d")]), None);
        assert_eq!(code("", &[plain, ("x-amz-copy-source", "/b/k")]), Some("AccessDenied"));
        let tight = ("authorization", "AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host;x-amz-acl,Signature=0a");
        assert_eq!(code("", &[tight, ("x-amz-acl", "private")]), None);
        assert_eq!(code("", &[("x-amz-acl", "private")]), None, "nobody's own request");
    }
}
