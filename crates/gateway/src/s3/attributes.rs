//! Say of an object what is asked: etag, checksum, parts, class, size.

use super::{
    customer,
    digest::{self, Tells as _},
    list::PAGE_MAX,
    objects::Objects,
    read::is_multipart,
    time::timestamp,
};
use hodei_sdk::Entry;
use hyper::Method;
use s3s::{
    Body, HttpRequest, HttpResponse, S3Request, S3Response, S3Result,
    dto::{
        ETag, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectAttributes,
        ObjectPart, StorageClass,
    },
    s3_error,
};

/// The parts of an object that was put in parts, behind a number.
fn parts(entry: &Entry, behind: i32, max: i32) -> GetObjectAttributesParts {
    let checksum = entry.checksum.as_ref();
    let number = |part: &hodei_sdk::index::Part| i32::try_from(part.number).unwrap_or(i32::MAX);
    let mut rest = entry.parts.iter().enumerate().filter(|(_, part)| number(part) > behind);
    let mut listed: Vec<ObjectPart> = Vec::new();
    for (at, part) in rest.by_ref().take(max as usize) {
        let mut one = ObjectPart {
            part_number: Some(number(part)),
            size: i64::try_from(part.size_bytes).ok(),
            ..ObjectPart::default()
        };
        if let Some((digest, value)) = checksum.and_then(|has| Some((has.algorithm, has.parts.get(at)?.clone()))) {
            one.tell(digest::only(digest, Some(value)));
        }
        listed.push(one);
    }
    GetObjectAttributesParts {
        is_truncated: Some(rest.next().is_some()),
        max_parts: Some(max),
        next_part_number_marker: listed.last().and_then(|part| part.part_number),
        part_number_marker: Some(behind),
        parts: Some(listed),
        total_parts_count: i32::try_from(entry.parts.len()).ok(),
    }
}

/// Whether an answer to this is one of attributes: it names the etag without the quotes that stand around it
/// everywhere else, as S3's does.
pub(super) fn is_asked(request: &HttpRequest) -> bool {
    let names = request.uri().query().unwrap_or("").split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    request.method() == Method::GET && names.into_iter().any(|name| name == "attributes")
}

/// Takes the quotes away, which the framework writes.
pub(super) fn bare_etag(response: &mut HttpResponse) {
    let Some(bytes) = response.body().bytes() else { return };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    let bare = text.replacen("<ETag>\"", "<ETag>", 1).replacen("\"</ETag>", "</ETag>", 1);
    *response.body_mut() = Body::from(bare);
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
}

impl Objects {
    pub(super) async fn attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let input = request.input;
        let max = input.max_parts.unwrap_or(PAGE_MAX);
        if max < 0 {
            return Err(s3_error!(InvalidArgument, "x-amz-max-parts must not be negative"));
        }
        let key = customer::key((input.sse_customer_algorithm, input.sse_customer_key, input.sse_customer_key_md5))?;
        let found = self.find(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let entry = &found.entry;
        customer::check(entry.customer.as_ref(), key.as_ref())?;
        // The header may have several in one.
        let asked: Vec<&str> =
            input.object_attributes.iter().flat_map(|name| name.as_str().split(',')).map(str::trim).collect();
        let asks = |name: &str| asked.contains(&name);
        let class = || StorageClass::from(entry.class.clone().unwrap_or_else(|| "STANDARD".into()));
        let checksum = entry.checksum.as_ref().filter(|_| asks(ObjectAttributes::CHECKSUM));
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum: checksum.map(|checksum| digest::told(checksum, entry.parts.len())),
            e_tag: asks(ObjectAttributes::ETAG).then(|| ETag::Strong(entry.etag.clone())),
            last_modified: Some(timestamp(entry.modified_ms)),
            object_parts: (asks(ObjectAttributes::OBJECT_PARTS) && is_multipart(entry))
                .then(|| parts(entry, input.part_number_marker.unwrap_or(0), max.min(PAGE_MAX))),
            object_size: asks(ObjectAttributes::OBJECT_SIZE).then(|| entry.size_bytes() as i64),
            storage_class: asks(ObjectAttributes::STORAGE_CLASS).then(class),
            version_id: found.version_id(),
            ..GetObjectAttributesOutput::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_a_bare_etag() {
        let request = |method: &str, target: &str| {
            hyper::Request::builder().method(method).uri(target).body(Body::empty()).unwrap()
        };
        assert!(
            is_asked(&request("GET", "/b/k?attributes")) && is_asked(&request("GET", "/b/k?versionId=1&attributes="))
        );
        assert!(!is_asked(&request("GET", "/b/attributes")) && !is_asked(&request("PUT", "/b/k?attributes")));
        let text = "<R><Checksum/><ETag>\"abc-2\"</ETag><ObjectSize>1</ObjectSize></R>";
        let mut response = HttpResponse::new(Body::from(text.to_owned()));
        bare_etag(&mut response);
        assert_eq!(response.body().bytes().unwrap().as_ref(), text.replace('"', "").as_bytes());
    }
}
