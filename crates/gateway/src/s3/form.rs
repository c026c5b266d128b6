//! Take an object from a web page's form: a form is a put whose fields are its headers.
//!
//! What stands before the file is read first, and whose key signed it and what its policy says is judged on that;
//! then the file is read, as much as the policy allows. A put is made of it, which passes all that any put passes,
//! with the form's signer for the one who asks.

mod answer;
mod parts;
mod policy;
mod signer;

pub(super) use signer::Signer;

use super::{
    algorithm, documents,
    held::{self, Coming, Room},
    keys::now_ms,
    layer::Layer,
    names,
    refusal::Refusal,
};
use crate::percent::encode;
use answer::Answer;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, REFERER, USER_AGENT},
};
use parts::{HEAD_BYTES_MAX, Head};
use policy::Policy;
use s3s::{Body, HttpError, HttpRequest, HttpResponse, dto::Tagging};
use std::collections::BTreeMap;

/// A form's file is held whole before it is put.
pub(super) const FILE_BYTES_MAX: usize = 64 << 20;
/// What may follow the file: the button, and the end.
const TAIL_BYTES_MAX: usize = 64 << 10;
/// Fields that are headers of a put as they are; whatever else is there changes nothing.
const HEADERS: [&str; 10] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-acl",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-tagging",
];
/// And those that begin so.
const HEADERS_BEGIN: [&str; 5] =
    ["x-amz-meta-", "x-amz-grant-", "x-amz-server-side-encryption", "x-amz-checksum-", "x-amz-object-lock-"];

/// Whether a request is a form.
pub(super) fn is(request: &HttpRequest) -> bool {
    const TYPE: &[u8] = b"multipart/form-data";
    let found = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    request.method() == Method::POST && found.len() >= TYPE.len() && found[..TYPE.len()].eq_ignore_ascii_case(TYPE)
}

impl Layer {
    /// The answer to a form.
    pub(super) async fn form(&self, request: HttpRequest) -> Result<Result<HttpResponse, HttpError>, Refusal> {
        let (put, answer, _room) = self.put_of(request).await?;
        Ok(self.service.call(put).await.map(|response| answer.of(response)))
    }

    /// The put a form asks for, how it is answered, and the room it takes.
    async fn put_of(&self, request: HttpRequest) -> Result<(HttpRequest, Answer, Room), Refusal> {
        let now_secs = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        let (from, body) = request.into_parts();
        let text = |name: HeaderName| from.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let delimiter = parts::delimiter(text(CONTENT_TYPE))?;
        let host = if from.headers.contains_key(HOST) {
            text(HOST)
        } else {
            from.uri.authority().map_or("", |at| at.as_str())
        };
        let (Some(bucket), None) = names::place(&self.domains, host, from.uri.path()) else {
            let message = "A form is sent to a bucket: its key is a field.";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message));
        };
        let mut coming = Coming::new(body);
        let mut head = loop {
            let is_more = coming.more().await?;
            match parts::head(&coming.bytes, &delimiter)? {
                Some(head) => break head,
                None if !is_more => {
                    return Err(Refusal::bad("MalformedPOSTRequest", "The form ends before its file."));
                }
                None if coming.bytes.len() > HEAD_BYTES_MAX => {
                    return Err(Refusal::bad(
                        "MaxPostPreDataLengthExceeded",
                        "What stands before a form's file has at most 64 KiB.",
                    ));
                }
                None => {}
            }
        };
        name_key(&mut head);
        let signer = Signer::of(&head, &self.objects.keyring, now_secs)?;
        let policy = head.field("policy").map(Policy::parse).transpose()?;
        let name = names::split(&bucket).1;
        let mut most = FILE_BYTES_MAX;
        if let Some(policy) = &policy {
            policy.check(&head, name, now_secs)?;
            most = most.min(usize::try_from(policy.bytes_max()).unwrap_or(usize::MAX));
        }
        let Some(key) = head.field("key").filter(|key| !key.is_empty()).map(str::to_owned) else {
            let message = "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.";
            return Err(Refusal::bad("InvalidArgument", message));
        };
        let room = self.held.room(held::declared(&from.headers).unwrap_or(usize::MAX).min(most + TAIL_BYTES_MAX)).await;
        let too_large = || policy::too_large(most as u64);
        let whole = coming
            .rest(head.begins.saturating_add(most).saturating_add(TAIL_BYTES_MAX))
            .await?
            .ok_or_else(too_large)?;
        let file = whole.slice(head.begins..parts::end(&whole, head.begins, &delimiter)?);
        if file.len() > most {
            return Err(too_large());
        }
        if let Some(policy) = &policy {
            policy.check_length(file.len() as u64)?;
        }
        let is_hosted = self.domains.bucket(host).is_some();
        let path = if is_hosted {
            format!("/{}", encode(&key, true))
        } else {
            format!("/{}/{}", encode(&bucket, false), encode(&key, true))
        };
        let answer = Answer::new(&head, name, &key, path.clone());
        let mut put = HttpRequest::new(Body::from(file.clone()));
        *put.method_mut() = Method::PUT;
        *put.uri_mut() = path.parse().map_err(|_| Refusal::bad("InvalidURI", "The form's key makes no address."))?;
        *put.headers_mut() = headers(&head)?;
        algorithm::check(put.headers())?;
        for name in [HOST, USER_AGENT, REFERER] {
            if let Some(value) = from.headers.get(&name) {
                put.headers_mut().insert(name, value.clone());
            }
        }
        put.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(file.len()));
        *put.extensions_mut() = from.extensions;
        put.extensions_mut().remove::<Signer>();
        if let Some(signer) = signer {
            put.extensions_mut().insert(signer);
        }
        Ok((put, answer, room))
    }
}

/// Puts the file's name where the key asks for it.
fn name_key(head: &mut Head) {
    let filename = std::mem::take(&mut head.filename);
    for (_, key) in head.fields.iter_mut().filter(|(name, _)| name == "key") {
        *key = key.replace("${filename}", &filename);
    }
}

/// The fields that are a put's headers.
fn headers(head: &Head) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (field, value) in &head.fields {
        let (name, value) = match field.as_str() {
            "acl" => ("x-amz-acl", value.clone()),
            "tagging" => ("x-amz-tagging", tags(value)?),
            name if HEADERS.contains(&name) || HEADERS_BEGIN.iter().any(|begin| name.starts_with(begin)) => {
                (name, value.clone())
            }
            _ => continue,
        };
        let refused = || Refusal::bad("InvalidArgument", format!("The field {field} has no place in a header."));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?);
    }
    Ok(headers)
}

/// Tags of XML, as a header has them.
fn tags(xml: &str) -> Result<String, Refusal> {
    let settings = BTreeMap::from([("tagging".to_owned(), xml.to_owned())]);
    let tagging: Option<Tagging> = documents::read(&settings, "tagging").ok().flatten();
    let tagging = tagging.ok_or_else(|| Refusal::bad("MalformedXML", "The field tagging is S3's XML of tags."))?;
    let pairs = tagging.tag_set.iter().map(|tag| {
        let text = |text: &Option<String>| encode(text.as_deref().unwrap_or(""), false);
        format!("{}={}", text(&tag.key), text(&tag.value))
    });
    Ok(pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_a_puts_headers() {
        let xml = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag><Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>";
        let fields = [
            ("acl", "public-read"),
            ("content-type", "text/plain"),
            ("tagging", xml),
            ("x-amz-meta-n", "v"),
            ("x-amz-copy-source", "/other/secret"),
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("x-amz-date", "20260101T000000Z"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let headers = headers(&Head { fields, ..Head::default() }).unwrap();
        let found: BTreeMap<&str, &str> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let wanted = [
            ("content-type", "text/plain"),
            ("x-amz-acl", "public-read"),
            ("x-amz-meta-n", "v"),
            ("x-amz-tagging", "a%20b=1%262&c="),
        ];
        assert_eq!(found, BTreeMap::from(wanted));
        let broken = Head { fields: vec![("acl".into(), "a\nb".into())], ..Head::default() };
        assert_eq!(super::headers(&broken).unwrap_err().code, "InvalidArgument");
    }

    #[test]
    fn a_key_takes_the_files_name() {
        let mut head =
            Head { fields: vec![("key".into(), "in/${filename}".into())], filename: "a.txt".into(), begins: 0 };
        name_key(&mut head);
        assert_eq!(head.field("key"), Some("in/a.txt"));
    }

    #[test]
    fn only_a_post_of_that_type_is_a_form() {
        let request = |method: &str, kind: &str| {
            hyper::Request::builder().method(method).header("content-type", kind).body(Body::empty()).unwrap()
        };
        assert!(is(&request("POST", "Multipart/Form-Data; boundary=a")));
        assert!(!is(&request("PUT", "multipart/form-data; boundary=a")) && !is(&request("POST", "text/xml")));
    }
}
