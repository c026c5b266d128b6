//! Refuse what a request's address asks for that this door does not know.
//!
//! The framework takes an operation for what remains when its parameter is unknown: a rename would empty an object,
//! an annotation would replace it. So each parameter is known for what it is sent to, or refused.

use super::{facts::form, refusal::Refusal};
use hyper::{Method, StatusCode, header::HeaderValue};

/// What a request is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Service,
    Bucket,
    Object,
}

/// Parameters that make an operation another one, and those that only say how; the former stand alone.
type Known = (&'static [&'static str], &'static [&'static str]);

/// What parameters begin with that say what headers of an answer shall be.
const ANSWER: &str = "response-";

/// What the framework knows, whether or not it is offered: it says so itself, to who may ask.
fn known(method: &Method, place: Place) -> Known {
    match (method.as_str(), place) {
        ("GET", Place::Service) => (&[], &["max-buckets", "continuation-token", "prefix", "bucket-region"]),
        ("GET", Place::Bucket) => (
            &[
                "accelerate",
                "acl",
                "analytics",
                "cors",
                "encryption",
                "intelligent-tiering",
                "inventory",
                "lifecycle",
                "location",
                "logging",
                "metadataTable",
                "metrics",
                "notification",
                "object-lock",
                "ownershipControls",
                "policy",
                "policyStatus",
                "publicAccessBlock",
                "replication",
                "requestPayment",
                "session",
                "tagging",
                "uploads",
                "versioning",
                "versions",
                "website",
            ],
            &[
                "allow-unordered",
                "continuation-token",
                "delimiter",
                "encoding-type",
                "fetch-owner",
                "id",
                "key-marker",
                "list-type",
                "marker",
                "max-keys",
                "max-uploads",
                "prefix",
                "start-after",
                "upload-id-marker",
                "version-id-marker",
            ],
        ),
        ("GET", Place::Object) => (
            &["acl", "attributes", "legal-hold", "retention", "tagging", "torrent", "uploadId"],
            &["encoding-type", "max-parts", "part-number-marker", "partNumber", "versionId"],
        ),
        ("HEAD", Place::Bucket) => (&[], &["read-stats"]),
        ("HEAD", Place::Object) => (&[], &["partNumber", "versionId"]),
        ("POST", Place::Bucket) => (&["delete", "metadataTable"], &[]),
        ("POST", Place::Object) => (&["restore", "select", "uploadId", "uploads"], &["select-type", "versionId"]),
        ("PUT", Place::Bucket) => (
            &[
                "accelerate",
                "acl",
                "analytics",
                "cors",
                "encryption",
                "intelligent-tiering",
                "inventory",
                "lifecycle",
                "logging",
                "metrics",
                "notification",
                "object-lock",
                "ownershipControls",
                "policy",
                "publicAccessBlock",
                "replication",
                "requestPayment",
                "tagging",
                "versioning",
                "website",
            ],
            &["id"],
        ),
        ("PUT", Place::Object) => {
            (&["acl", "legal-hold", "retention", "tagging", "uploadId"], &["partNumber", "versionId"])
        }
        ("DELETE", Place::Bucket) => (
            &[
                "analytics",
                "cors",
                "encryption",
                "intelligent-tiering",
                "inventory",
                "lifecycle",
                "metadataTable",
                "metrics",
                "ownershipControls",
                "policy",
                "publicAccessBlock",
                "replication",
                "tagging",
                "website",
            ],
            &["id"],
        ),
        ("DELETE", Place::Object) => (&["tagging", "uploadId"], &["versionId"]),
        _ => (&[], &[]),
    }
}

/// What signs, what clients name their operation with, and what headers of an answer shall be.
fn is_free(method: &Method, name: &str) -> bool {
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    name.is_empty() || name == "x-id" || begins("x-amz-") || is_reading(method) && begins(ANSWER)
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether everything the query asks for is known of requests like this.
pub(super) fn check(method: &Method, place: Place, query: &str) -> Result<(), Refusal> {
    let (alone, beside) = known(method, place);
    let mut found: Vec<String> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = form(name);
        if name.starts_with(ANSWER) && HeaderValue::from_bytes(form(value).as_bytes()).is_err() {
            let message = format!("The value of {name} cannot stand in a header.");
            return Err(Refusal::bad("InvalidArgument", message));
        }
        if is_free(method, &name) {
            continue;
        }
        // What only reads may carry marks of others; without a value it would be another thing that is read.
        let is_mark = is_reading(method) && !value.is_empty();
        if !is_mark && !alone.contains(&name.as_str()) && !beside.contains(&name.as_str()) {
            let message = format!("The parameter {name:?} asks for something that is not offered here.");
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
        }
        found.push(name);
    }
    let has = |name: &str| found.iter().any(|one| one == name);
    let several: Vec<&str> = alone.iter().copied().filter(|name| has(name)).collect();
    if several.len() > 1 {
        let message = format!("Conflicting query string parameters: {}", several.join(", "));
        return Err(Refusal::bad("InvalidArgument", message));
    }
    if *method == Method::PUT && place == Place::Object {
        if has("partNumber") != has("uploadId") {
            return Err(Refusal::bad("InvalidArgument", "A part has both a partNumber and an uploadId."));
        }
        if several.is_empty() && has("versionId") {
            return Err(Refusal::bad("InvalidArgument", "This operation does not accept a version-id."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: Method, place: Place, query: &str) -> Option<&'static str> {
        check(&method, place, query).err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_is_unknown_is_not_taken_for_what_remains() {
        use Place::{Bucket, Object};
        for (method, place, query) in [
            (Method::PUT, Object, "renameObject"),
            (Method::PUT, Object, "renameObject=&x-id=RenameObject"),
            (Method::PUT, Object, "annotation&annotationName=a"),
            (Method::PUT, Object, "encryption"),
            (Method::PUT, Object, "rename%4Fbject"),
            (Method::PUT, Object, "nobody=knows"),
            (Method::DELETE, Object, "annotation&annotationName=a"),
            (Method::DELETE, Object, "acl"),
            (Method::DELETE, Bucket, "metadataConfiguration"),
            (Method::PUT, Bucket, "abac"),
            (Method::POST, Bucket, "metadataConfiguration"),
            (Method::GET, Bucket, "abac"),
            (Method::GET, Bucket, "metadataConfiguration"),
            (Method::GET, Object, "annotation&annotationName=a"),
            (Method::GET, Object, "annotations="),
            (Method::HEAD, Object, "annotation"),
            (Method::GET, Place::Service, "usage"),
        ] {
            assert_eq!(code(method.clone(), place, query), Some("NotImplemented"), "{method} {place:?} {query}");
        }
    }

    #[test]
    fn what_clients_send_is_known() {
        use Place::{Bucket, Object};
        for (method, place, query) in [
            (Method::PUT, Object, ""),
            (Method::PUT, Object, "x-id=PutObject"),
            (Method::PUT, Object, "x-id=UploadPart&partNumber=1&uploadId=a"),
            (Method::PUT, Object, "X-Amz-Algorithm=a&X-Amz-Signature=b&x-amz-acl=private&X-Amz-Security-Token=c"),
            (Method::PUT, Object, "acl=&versionId=a"),
            (Method::GET, Object, "response-content-type=a&versionId=b&x-id=GetObject&partNumber=1"),
            (Method::GET, Object, "v=12&utm_source=mail"),
            (Method::GET, Bucket, "list-type=2&prefix=&delimiter=%2F&max-keys=2&encoding-type=url&fetch-owner=true"),
            (Method::GET, Bucket, "location="),
            (Method::GET, Bucket, "uploads&max-uploads=1&key-marker=&upload-id-marker="),
            (Method::GET, Bucket, "versions=&key-marker=a&version-id-marker=b&metadata=true"),
            (Method::HEAD, Bucket, "read-stats=true"),
            (Method::POST, Bucket, "delete="),
            (Method::POST, Object, "uploads="),
            (Method::POST, Object, "uploadId=a&x-id=CompleteMultipartUpload"),
            (Method::DELETE, Object, "versionId=a&x-id=DeleteObject"),
            (Method::GET, Place::Service, "x-id=ListBuckets&max-buckets=2"),
        ] {
            assert_eq!(code(method.clone(), place, query), None, "{method} {place:?} {query}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        for query in
            ["response-content-type=%00", "a=b&response-content-disposition=a%0D%0Ab", "response%2Dexpires=%7F"]
        {
            assert_eq!(code(Method::HEAD, Place::Object, query), Some("InvalidArgument"), "{query}");
        }
        for query in ["response-content-disposition=attachment%3B+filename%3D%C3%A4", "response-content-type="] {
            assert_eq!(code(Method::GET, Place::Object, query), None, "{query}");
        }
    }

    #[test]
    fn a_request_is_one_operation() {
        for query in ["acl&tagging", "partNumber=1", "uploadId=a", "versionId=a"] {
            assert_eq!(code(Method::PUT, Place::Object, query), Some("InvalidArgument"), "{query}");
        }
        assert_eq!(code(Method::DELETE, Place::Object, "tagging&uploadId=a"), Some("InvalidArgument"));
    }
}
